//! Which names are visible, and which of them a written name means.

use crate::dataflow::MetadataColumn;

/// What a written name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing that is visible here.
    Unknown,
    /// This spelling.
    Is(String),
    /// One of these, and nobody can say which.
    Ambiguous(Vec<String>),
}

/// Finds `name` among candidates: spelled exactly so in any tier, else but for case in the first
/// tier that has such a name.
pub(super) fn pick<'a>(name: &str, tiers: &[Vec<&'a str>]) -> Meaning {
    if tiers.iter().flatten().any(|candidate| *candidate == name) {
        return Meaning::Is(name.to_owned());
    }
    for tier in tiers {
        let mut similar: Vec<&'a str> = tier
            .iter()
            .copied()
            .filter(|candidate| same_but_case(candidate, name))
            .collect();
        similar.sort_unstable();
        similar.dedup();
        match similar[..] {
            [] => {}
            [only] => return Meaning::Is(only.to_owned()),
            _ => return Meaning::Ambiguous(similar.into_iter().map(Into::into).collect()),
        }
    }
    Meaning::Unknown
}

pub(super) fn same_but_case(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
        || !(a.is_ascii() && b.is_ascii()) && a.to_lowercase() == b.to_lowercase()
}

/// Something in `FROM`.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// The alias, or the table's declared name; none for a query without an alias.
    pub name: Option<String>,
    /// Its columns, those without a name left out; none when they cannot be known here.
    pub columns: Option<Vec<String>>,
    /// If it is a table itself: its declared name, and its hidden columns.
    pub metadata: Option<(String, Vec<MetadataColumn>)>,
}

impl Relation {
    /// Whether `name` qualifies columns of this relation: its name, or the last part of that.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let full = self.name.as_deref();
        let last = full
            .and_then(|name| name.rsplit_once('.'))
            .map(|(_, last)| last);
        full.into_iter().chain(last)
    }
}

/// The relations of one `SELECT`.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub relations: Vec<Relation>,
}

impl Scope {
    /// The known columns of all relations.
    pub fn columns(&self) -> Vec<&str> {
        let known = self
            .relations
            .iter()
            .filter_map(|relation| relation.columns.as_ref());
        known.flatten().map(String::as_str).collect()
    }

    /// Whether the columns of every relation are known.
    pub fn is_complete(&self) -> bool {
        self.relations
            .iter()
            .all(|relation| relation.columns.is_some())
    }

    /// The relation that columns are qualified with `name`, and how that is spelled.
    pub fn relation(&self, name: &str) -> (Meaning, Option<&Relation>) {
        let names = self.relations.iter().flat_map(Relation::names).collect();
        let meaning = pick(name, &[names]);
        let found = match &meaning {
            Meaning::Is(name) => {
                let is_meant = |relation: &&Relation| relation.names().any(|other| other == name);
                self.relations.iter().find(is_meant)
            }
            _ => None,
        };
        (meaning, found)
    }
}

/// The common table expressions that are visible, the innermost last.
#[derive(Debug, Clone, Default)]
pub(super) struct Ctes {
    entries: Vec<(String, Option<Vec<String>>)>,
}

impl Ctes {
    pub fn push(&mut self, name: String, columns: Option<Vec<String>>) {
        self.entries.push((name, columns));
    }

    pub fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The columns of the innermost of this name: outer none if there is no such one.
    pub fn columns(&self, name: &str) -> Option<Option<Vec<String>>> {
        let found = self.entries.iter().rev().find(|(other, _)| other == name);
        found.map(|(_, columns)| columns.clone())
    }
}
