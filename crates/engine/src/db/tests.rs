//! Tests of the whole engine that feed it steps.

mod cuts;
mod fingerprints;
mod places;
mod views;
