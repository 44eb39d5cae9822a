//! stub
pub mod error;
pub mod plan;
