//! The `restart.*` options: when the supervisor restarts a source after a failure.
//!
//! Every source has them. They override fields of the supervisor's [`Backoff`]; what is not given keeps its
//! default. A connector that reconnects by itself has options of its own for that, and these apply only when
//! it has given up, or panicked.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::Backoff;
use crate::options::{Duration, Objection, Options};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestartOptions {
    /// The largest number of restarts within `restart.within`; after the next failure the source stays
    /// failed. Default: 10.
    #[serde(rename = "restart.max", default)]
    max: Option<u32>,
    /// The sliding window in which restarts are counted. Default: 60 s.
    #[serde(rename = "restart.within", default)]
    within: Option<Duration>,
    /// The wait before the first restart; it doubles with each failure until the source has run for a
    /// minute. Default: 1 s.
    #[serde(rename = "restart.delay", default)]
    delay: Option<Duration>,
    /// The longest wait before a restart, plus or minus 20 % jitter. Default: 30 s.
    #[serde(rename = "restart.delay.max", default)]
    delay_max: Option<Duration>,
}

impl Options for RestartOptions {
    fn objections(&self) -> Vec<Objection> {
        let mut objections = Vec::new();
        if self.within.is_some_and(|within| within.0.is_zero()) {
            let reason = "it must be longer than 0";
            objections.push(Objection::new(&["restart.within"], reason));
        }
        if let (Some(delay), Some(max)) = (self.delay, self.delay_max)
            && max.0 < delay.0
        {
            let options = ["restart.delay.max", "restart.delay"];
            objections.push(Objection::new(&options, "it is the shorter of the two"));
        }
        objections
    }
}

impl RestartOptions {
    /// `given`, overridden by these options.
    pub(crate) fn change(&self, given: Backoff) -> Backoff {
        let base = self.delay.map_or(given.base, |delay| delay.0);
        Backoff {
            base,
            cap: self.delay_max.map_or(given.cap, |max| max.0).max(base),
            restarts_max: self.max.unwrap_or(given.restarts_max),
            window: self.within.map_or(given.window, |within| within.0),
            ..given
        }
    }
}
