//! What is wrong with a `WITH` list, for the person who fixes it.
//!
//! A [`Problem`] is a key as the user wrote it, its position in the text, and a [`Fault`]. The sentence
//! is made here. Values of secrets never get into one.

use std::fmt;

/// One thing that is wrong with one option.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem<S> {
    /// The key as written, or its name if it is missing.
    pub key: String,
    /// Its position in the user's text; `None` if it is missing.
    pub span: Option<S>,
    /// What is wrong with the option, without its key.
    pub fault: Fault,
}

/// What can be wrong with an option.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// There is no such option.
    Unknown {
        /// The most similar name there is.
        nearest: Option<String>,
    },
    /// It is required and not given.
    Missing {
        /// What it should be, e.g. `text`.
        wanted: String,
        /// What it is for.
        doc: String,
    },
    /// It is given twice.
    Duplicate {
        /// The other key, as written.
        other: String,
    },
    /// The value is of another type.
    WrongType {
        /// What it should be, e.g. `a whole number`.
        wanted: String,
        /// The value or what kind of value it is.
        found: String,
        /// A value that may be meant.
        nearest: Option<String>,
    },
    /// The number is too small or too large.
    OutOfRange {
        /// The number that was given.
        found: String,
        /// The least number allowed.
        min: Option<String>,
        /// The greatest number allowed.
        max: Option<String>,
    },
    /// The value is of the right type, and wrong.
    Invalid {
        /// Why, without the option's name.
        reason: String,
    },
    /// It takes a key for each entry.
    NeedsEntry {
        /// The name of the map.
        map: String,
    },
    /// It does not go together with others.
    Contradiction {
        /// The other keys, as written.
        others: Vec<String>,
        /// Why they cannot go together.
        reason: String,
    },
}

impl<S> Problem<S> {
    /// Of an option that the list does not have.
    pub(super) fn unplaced(key: String, fault: Fault) -> Self {
        Self {
            key,
            span: None,
            fault,
        }
    }

    /// A sentence that says what to do, if that is known.
    pub fn hint(&self) -> Option<String> {
        match &self.fault {
            Fault::Unknown { nearest } | Fault::WrongType { nearest, .. } => nearest
                .as_ref()
                .map(|name| format!("did you mean {name:?}?")),
            Fault::Missing { doc, .. } => (!doc.is_empty()).then(|| doc.clone()),
            Fault::NeedsEntry { map } => Some(format!(
                "write one option for each entry: \"{map}.NAME\" = 'value'"
            )),
            Fault::Duplicate { .. }
            | Fault::OutOfRange { .. }
            | Fault::Invalid { .. }
            | Fault::Contradiction { .. } => None,
        }
    }
}

impl<S> fmt::Display for Problem<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option {:?} ", self.key)?;
        match &self.fault {
            Fault::Unknown { .. } => f.write_str("is unknown"),
            Fault::Missing { wanted, .. } => write!(f, "is missing: it must be {wanted}"),
            Fault::Duplicate { other } if *other == self.key => f.write_str("is given twice"),
            Fault::Duplicate { other } => write!(f, "is given twice, before as {other:?}"),
            Fault::WrongType { wanted, found, .. } => {
                write!(f, "must be {wanted}, it is {found}")
            }
            Fault::OutOfRange { found, min, max } => {
                write!(
                    f,
                    "must be {}, it is {found}",
                    range(min.as_deref(), max.as_deref())
                )
            }
            Fault::Invalid { reason } => write!(f, "is wrong: {reason}"),
            Fault::NeedsEntry { .. } => f.write_str("holds several values"),
            Fault::Contradiction { others, reason } if others.is_empty() => {
                write!(f, "is wrong: {reason}")
            }
            Fault::Contradiction { others, reason } => {
                let others = others
                    .iter()
                    .map(|other| format!("{other:?}"))
                    .collect::<Vec<_>>();
                write!(f, "contradicts {}: {reason}", others.join(", "))
            }
        }
    }
}

fn range(min: Option<&str>, max: Option<&str>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("from {min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "a number".to_owned(),
    }
}

/// All problems in one line, with their hints.
pub(crate) fn joined<S>(problems: &[Problem<S>]) -> String {
    let one = |problem: &Problem<S>| match problem.hint() {
        Some(hint) => format!("{problem} ({hint})"),
        None => problem.to_string(),
    };
    problems.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The name most similar to `name`, if at most a third of the letters differ, or two of a short name.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let name = name.to_lowercase();
    let far = (name.chars().count() / 3).max(2);
    let distance = |other: &&str| strsim::damerau_levenshtein(&name, &other.to_lowercase());
    let (distance, found) = names
        .into_iter()
        .map(|other| (distance(&other), other))
        .min_by_key(|found| found.0)?;
    (distance <= far && distance < name.chars().count()).then(|| found.to_owned())
}
