//! Tests of the whole engine that feed it steps.

mod cuts;
mod places;
