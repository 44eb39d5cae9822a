//! The names that are visible at a position of a query, and the one that a written name matches.

use crate::dataflow::MetadataColumn;

/// The names of a query's columns without those that have no name; none when they are not known.
pub(super) type Columns = Option<Vec<String>>;

/// The match of a written name among the visible ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NameMatch {
    None,
    /// The declared spelling of the match.
    One(String),
    /// The names that differ from the written one in case only.
    Ambiguous(Vec<String>),
}

/// Finds `name` among the candidates: the exact spelling in any tier, else without regard to case
/// in the first tier that has such a name.
pub(super) fn find<'a>(name: &str, tiers: &[Vec<&'a str>]) -> NameMatch {
    if tiers.iter().flatten().any(|candidate| *candidate == name) {
        return NameMatch::One(name.to_owned());
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
            [only] => return NameMatch::One(only.to_owned()),
            _ => return NameMatch::Ambiguous(similar.into_iter().map(Into::into).collect()),
        }
    }
    NameMatch::None
}

pub(super) fn same_but_case(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
        || !(a.is_ascii() && b.is_ascii()) && a.to_lowercase() == b.to_lowercase()
}

/// A table, subquery or function in `FROM`.
#[derive(Debug, Clone, Default)]
pub(super) struct FromItem {
    /// The alias, or the table's declared name; none for a query without an alias.
    pub name: Option<String>,
    /// Its columns without those that have no name; none when they are not known here.
    pub columns: Columns,
    /// For a table: its declared name and its metadata columns.
    pub metadata_columns: Option<(String, Vec<MetadataColumn>)>,
}

impl FromItem {
    /// Columns without a name to qualify them.
    pub fn unnamed(columns: Columns) -> Self {
        Self {
            columns,
            ..Self::default()
        }
    }

    /// The qualifiers of its columns: its name, and the last part of that.
    pub fn qualifiers(&self) -> impl Iterator<Item = &str> {
        let full = self.name.as_deref();
        let last = full
            .and_then(|name| name.rsplit_once('.'))
            .map(|(_, last)| last);
        full.into_iter().chain(last)
    }
}

/// The items in `FROM` of one `SELECT`.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub items: Vec<FromItem>,
}

impl Scope {
    /// The known columns of all items.
    pub fn columns(&self) -> Vec<&str> {
        let known = self.items.iter().filter_map(|item| item.columns.as_ref());
        known.flatten().map(String::as_str).collect()
    }

    /// Whether the columns of every item are known.
    pub fn is_complete(&self) -> bool {
        self.items.iter().all(|item| item.columns.is_some())
    }

    /// The item whose columns `name` qualifies, and the match of `name` among all qualifiers.
    pub fn item(&self, name: &str) -> (NameMatch, Option<&FromItem>) {
        let names = self.items.iter().flat_map(FromItem::qualifiers).collect();
        let found = find(name, &[names]);
        let item = match &found {
            NameMatch::One(name) => {
                let is_meant = |item: &&FromItem| item.qualifiers().any(|other| other == name);
                self.items.iter().find(is_meant)
            }
            _ => None,
        };
        (found, item)
    }
}

/// The common table expressions that are visible, the innermost last.
#[derive(Debug, Clone, Default)]
pub(super) struct Ctes {
    entries: Vec<(String, Columns)>,
}

impl Ctes {
    pub fn push(&mut self, name: String, columns: Columns) {
        self.entries.push((name, columns));
    }

    pub fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The columns of the innermost expression of this name; the outer `Option` is `None` if there
    /// is no such expression.
    pub fn columns(&self, name: &str) -> Option<Columns> {
        let found = self.entries.iter().rev().find(|(other, _)| other == name);
        found.map(|(_, columns)| columns.clone())
    }
}

/// The position of an expression in a query: which names are visible to it.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    /// The scopes of the queries around it, outermost first, then that of its own query.
    pub scopes: &'a [Scope],
    /// The aliases of the select list, where they are visible.
    pub aliases: &'a [String],
    /// Whether an alias hides a column of the same name, as in `ORDER BY`.
    pub aliases_first: bool,
    pub ctes: &'a Ctes,
    /// Whether the subqueries of the expression have been walked before.
    pub queries_done: bool,
}

impl<'a> Site<'a> {
    /// A site where the aliases of the select list are not visible.
    pub fn without_aliases(scopes: &'a [Scope], ctes: &'a Ctes) -> Self {
        Self {
            scopes,
            aliases: &[],
            aliases_first: false,
            ctes,
            queries_done: false,
        }
    }
}
