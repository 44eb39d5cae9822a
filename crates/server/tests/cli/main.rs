//! The program as its users meet it: what it prints, how it ends, and what it leaves behind.

mod check;
mod connectors;
mod data_folder;
mod full_output;
mod run;
mod signals;
mod sql;
#[path = "../support/mod.rs"]
mod support;
mod tap;

const TICKS: &str =
    "CREATE SOURCE ticks (n BIGINT, k VARCHAR, at TIMESTAMP, WATERMARK FOR at AS at)
    WITH (connector = 'generate', rows = 25, rows_per_second = 0);\n";
