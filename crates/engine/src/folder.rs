//! A data folder that no program uses: what in it is damaged, and what can be got out of it.

pub use crate::durable::{Finding, FolderReport, Salvage, SalvagedLog, salvage, verify};
