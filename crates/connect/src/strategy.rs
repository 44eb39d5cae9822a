//! What happens when something fails: the `error.*` options of every source and every sink.
//!
//! What each strategy does to a source and to a sink is the table of `docs/errors.md`, made by `docs`.
//! In short: *retry* tries again what failed, and what is given up is dropped, sent to the dead letters,
//! or ends the source or sink.
//!
//! The options are declared here and nowhere else; the registry adds them to each connector. What is
//! tried again is what failed. A failure that would be the same again is not tried again, whatever the
//! strategy.

use std::sync::Arc;
use std::time;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::options::{Duration, Objection, OptionSet, Options, Row};
use crate::{Backoff, Bad, Error, Result, Tally};

/// The default of `error.retry.initial-delay`.
const INITIAL_DELAY: time::Duration = time::Duration::from_secs(1);
/// The default of `error.retry.max-delay`.
const MAX_DELAY: time::Duration = time::Duration::from_secs(30);

/// What is done with what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErrorStrategy {
    /// It is left out and counted by its reason.
    Drop,
    /// It is tried again as `error.retry.*` says; when that does not help, the source or sink fails.
    Retry,
    /// It goes to the stream of dead letters.
    Dlq,
    /// The source or sink fails at once.
    Fail,
}

/// How the waits between attempts grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Growth {
    /// Each is twice the one before, and up to 20 % longer or shorter.
    #[default]
    Exponential,
    /// All are the same.
    Fixed,
}

/// The `error.*` options.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorOptions {
    /// What is done with a row that cannot be read or written: `drop` counts it, `retry` tries a write
    /// or a failed source again, `dlq` sends it to another stream, `fail` ends the source or sink.
    /// Without it a source keeps bad rows beside its stream, and a sink tries again without end.
    #[serde(default, rename = "error.strategy")]
    strategy: Option<ErrorStrategy>,
    /// How often the same thing is tried again; unless given, without end. With `retry` or `dlq`.
    #[serde(default, rename = "error.retry.max-attempts")]
    #[schemars(range(min = 1, max = 4_294_967_295_u32))]
    max_attempts: Option<u32>,
    /// Whether each wait is twice the one before or all are the same; `exponential` unless given.
    #[serde(default, rename = "error.retry.backoff")]
    growth: Option<Growth>,
    /// The first wait; 1 s unless given.
    #[serde(default, rename = "error.retry.initial-delay")]
    initial_delay: Option<Duration>,
    /// The longest wait; 30 s unless given.
    #[serde(default, rename = "error.retry.max-delay")]
    max_delay: Option<Duration>,
    /// The stream that takes what fails, with `dlq`.
    #[serde(default, rename = "error.dlq.stream")]
    dlq_stream: Option<String>,
}

/// The `error.*` options, for docs and help.
pub fn error_options() -> Vec<Row> {
    OptionSet::of::<ErrorOptions>().rows()
}

impl Options for ErrorOptions {
    fn objections(&self) -> Vec<Objection> {
        let mut all = self.of_retries();
        let mut object = |options: &[&'static str], reason: &str| {
            all.push(Objection {
                options: options.to_vec(),
                reason: reason.to_owned(),
            });
        };
        let (dlq, retries) = (Some(ErrorStrategy::Dlq), self.given_retries());
        if self.strategy == dlq && self.dlq_stream.is_none() {
            object(&["error.strategy"], "'dlq' needs error.dlq.stream");
        }
        if self.strategy != dlq && self.dlq_stream.is_some() {
            let why = "nothing would be sent there without the strategy 'dlq'";
            object(&["error.dlq.stream", "error.strategy"], why);
        }
        if self.strategy == dlq && !retries.is_empty() && self.max_attempts.is_none() {
            let why = "without error.retry.max-attempts nothing would ever be given up";
            object(&[retries[0], "error.strategy"], why);
        }
        if matches!(
            self.strategy,
            None | Some(ErrorStrategy::Drop | ErrorStrategy::Fail)
        ) {
            for option in retries {
                let why = "nothing is tried again like this without the strategy 'retry' or 'dlq'";
                object(&[option, "error.strategy"], why);
            }
        }
        all
    }
}

impl ErrorOptions {
    /// The strategy; `None` if none was asked for.
    pub fn strategy(&self) -> Option<ErrorStrategy> {
        self.strategy
    }

    /// The stream that takes what fails; there is one exactly if the strategy is `dlq`.
    pub fn dlq_stream(&self) -> Option<&str> {
        self.dlq_stream.as_deref()
    }

    /// When a source that failed, or a sink that could not be opened, is started again: `given`, but
    /// for what these options say.
    pub fn restarts(&self, given: Backoff) -> Backoff {
        match self.strategy {
            Some(ErrorStrategy::Fail) => never(),
            _ if !self.retries_are_said() => given,
            _ => self.configured(),
        }
    }

    /// When the same write is tried again, before what the strategy says is done.
    pub fn retries(&self) -> Backoff {
        match self.strategy {
            None | Some(ErrorStrategy::Retry) => self.configured(),
            Some(ErrorStrategy::Dlq) if self.retries_are_said() => self.configured(),
            Some(ErrorStrategy::Dlq | ErrorStrategy::Drop | ErrorStrategy::Fail) => never(),
        }
    }

    /// What a source does with bad rows; those dropped are counted in `dropped`.
    pub fn bad_rows(&self, dropped: &Arc<Tally>) -> BadRows {
        match self.strategy {
            Some(ErrorStrategy::Drop) => BadRows::Drop(Arc::clone(dropped)),
            Some(ErrorStrategy::Fail) => BadRows::Fail,
            None | Some(ErrorStrategy::Retry | ErrorStrategy::Dlq) => BadRows::Keep,
        }
    }

    fn retries_are_said(&self) -> bool {
        self.strategy == Some(ErrorStrategy::Retry) || !self.given_retries().is_empty()
    }

    fn initial_delay(&self) -> time::Duration {
        let longest = self.max_delay.map_or(MAX_DELAY, |delay| delay.0);
        self.initial_delay
            .map_or(INITIAL_DELAY.min(longest), |delay| delay.0)
    }

    /// Never less than the first wait, unless both are given.
    fn max_delay(&self) -> time::Duration {
        self.max_delay
            .map_or(MAX_DELAY.max(self.initial_delay()), |delay| delay.0)
    }

    fn configured(&self) -> Backoff {
        let (factor, jitter) = match self.growth.unwrap_or_default() {
            Growth::Exponential => (2.0, 0.2),
            Growth::Fixed => (1.0, 0.0),
        };
        Backoff {
            base: self.initial_delay(),
            cap: self.max_delay(),
            factor,
            jitter,
            attempts_max: self.max_attempts,
            restarts_max: u32::MAX,
            ..Backoff::default()
        }
    }

    /// The names of the options about retries that are given.
    fn given_retries(&self) -> Vec<&'static str> {
        let options = [
            ("error.retry.max-attempts", self.max_attempts.is_some()),
            ("error.retry.backoff", self.growth.is_some()),
            ("error.retry.initial-delay", self.initial_delay.is_some()),
            ("error.retry.max-delay", self.max_delay.is_some()),
        ];
        let given = options.into_iter().filter(|(_, given)| *given);
        given.map(|(name, _)| name).collect()
    }

    /// What is wrong with the waits by themselves.
    fn of_retries(&self) -> Vec<Objection> {
        let mut all = Vec::new();
        let mut object = |options: &[&'static str], reason: String| {
            let options = options.to_vec();
            all.push(Objection { options, reason });
        };
        let (initial, max) = ("error.retry.initial-delay", "error.retry.max-delay");
        if self.initial_delay.is_some_and(|delay| delay.0.is_zero()) {
            object(&[initial], "must be more than zero".to_owned());
        }
        if self.max_delay.is_some_and(|delay| delay.0.is_zero()) {
            object(&[max], "must be more than zero".to_owned());
        }
        if let (Some(first), Some(longest)) = (self.initial_delay, self.max_delay)
            && first > longest
        {
            let why = format!("{first} is more than the longest, {longest}");
            object(&[initial, max], why);
        }
        if self.growth == Some(Growth::Fixed) && self.max_delay.is_some() {
            let why = "waits that are all the same have no longest";
            object(&[max, "error.retry.backoff"], why.to_owned());
        }
        all
    }
}

/// What is given up at the first failure.
fn never() -> Backoff {
    Backoff {
        attempts_max: Some(0),
        ..Backoff::default()
    }
}

/// What a source does with a frame that is no row.
#[derive(Debug, Clone, Default)]
pub enum BadRows {
    /// Hands it on, as a bad row.
    #[default]
    Keep,
    /// Leaves it out and counts it by its reason.
    Drop(Arc<Tally>),
    /// Fails. Nothing that was decoded with it is handed on, so that whoever starts again from the
    /// last cursor gets it all again.
    Fail,
}

impl BadRows {
    /// What remains of `bad`.
    pub(crate) fn judge(&self, bad: Vec<Bad>) -> Result<Vec<Bad>> {
        match self {
            Self::Keep => Ok(bad),
            Self::Drop(tally) => {
                bad.iter().for_each(|bad| {
                    tally.add(&bad.reason, 1);
                });
                Ok(Vec::new())
            }
            Self::Fail => match bad.into_iter().next() {
                Some(Bad { reason, .. }) => Err(Error::BadRow { reason }),
                None => Ok(Vec::new()),
            },
        }
    }
}

#[cfg(test)]
mod bad_rows;
#[cfg(test)]
mod tests;
