//! Makes the features of `[build-dependencies]` those of every procedural macro.
fn main() {}
