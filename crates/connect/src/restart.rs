//! The options by which a source says when it is started again after a failure.
//!
//! Every source has them. They change the [`Backoff`] that it would be looked after with; what is not
//! given stays as it is. A connector that reconnects by itself has options of its own for that, and
//! comes here only when it has given up, or panicked.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::Backoff;
use crate::options::{Duration, Objection, Options};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestartOptions {
    /// How often the source is started again within `restart.within`; when it fails once more, it has
    /// failed and is left alone. 10 if not given.
    #[serde(rename = "restart.max", default)]
    max: Option<u32>,
    /// The time in which restarts are counted; what lies further back is forgotten. 60 seconds if not
    /// given.
    #[serde(rename = "restart.within", default)]
    within: Option<Duration>,
    /// The wait before the first restart; it doubles with each failure until the source has run for a
    /// minute. 1 second if not given.
    #[serde(rename = "restart.delay", default)]
    delay: Option<Duration>,
    /// No wait before a restart is longer, but for a fifth of it more or less, by chance. 30 seconds if
    /// not given.
    #[serde(rename = "restart.delay.max", default)]
    delay_max: Option<Duration>,
}

impl Options for RestartOptions {
    fn objections(&self) -> Vec<Objection> {
        let mut objections = Vec::new();
        let mut object = |options: &[&'static str], reason: &str| {
            let (options, reason) = (options.to_vec(), reason.to_owned());
            objections.push(Objection { options, reason });
        };
        if self.within.is_some_and(|within| within.0.is_zero()) {
            object(&["restart.within"], "it must be longer than 0");
        }
        if let (Some(delay), Some(max)) = (self.delay, self.delay_max)
            && max.0 < delay.0
        {
            object(
                &["restart.delay.max", "restart.delay"],
                "it is the shorter of the two",
            );
        }
        objections
    }
}

impl RestartOptions {
    /// `given`, but for what these options say.
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
