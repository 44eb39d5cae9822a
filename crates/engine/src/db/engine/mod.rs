//! The parts of the engine.

mod persistence;
