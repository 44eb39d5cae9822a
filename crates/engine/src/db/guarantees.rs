//! EXPLAIN GUARANTEES: how often a row arrives if the process crashes and is started again.
//!
//! ```text
//!   source ─► log ─► query ─► query ─► sink          each a link; the chain is as good as its weakest
//! ```
//!
//! A link is judged by what it is made of: whether a connector can go back, whether there is a log and
//! when it is synced, what policies drop rows, what the sink says of itself. Nothing is measured and
//! nothing outside is touched. A database for trying statements is judged as one with a data folder.

use std::collections::BTreeSet;

use headwater_connect::{ErrorStrategy, Guarantee, SinkSpec};

use super::catalog::{Catalog, Entry, Kind, SourceEntry};
use super::options::{Place, WalOption};
use super::statements::undefined;
use super::{Db, Inner};
use crate::error::{Error, Result};
use crate::source::Backpressure;
use crate::sql::{
    CreateStream, CreateView, ExplainTarget, Name, SinkInput, SqlError, Statement, sqlstate,
};

/// How often rows arrive at something, link by link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantees {
    /// What was asked about.
    pub name: String,
    /// From the sources on, each before those that read it.
    pub links: Vec<Link>,
}

/// A part of the way of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// How often a row gets past it.
    pub guarantee: Guarantee,
    /// Why no more than that, or why that much.
    pub why: String,
}

impl Guarantees {
    /// How often a row arrives at the end: as the weakest link says.
    pub fn overall(&self) -> Guarantee {
        let links = self.links.iter().map(|link| link.guarantee);
        links.min().unwrap_or(Guarantee::ExactlyOnce)
    }

    /// The first of the weakest links; `None` if all are exactly-once.
    pub fn weakest(&self) -> Option<&Link> {
        let weakest = self.links.iter().min_by_key(|link| link.guarantee);
        weakest.filter(|link| link.guarantee < Guarantee::ExactlyOnce)
    }
}

/// A guarantee and the reason for it.
type Judged = (Guarantee, String);

/// What a database can promise of itself.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    /// There is a data folder.
    OnDisk,
    /// Nothing survives.
    InMemory,
}

impl Db {
    /// How often a row arrives at a source, stream, view or sink if the process crashes and is started
    /// again: link by link, from the sources on.
    ///
    /// # Errors
    /// If there is nothing of this name.
    pub fn guarantees(&self, name: &str) -> Result<Guarantees> {
        self.inner.check_open()?;
        let catalog = self.inner.catalog();
        let spelling = catalog.spelling(name).map(str::to_owned);
        let Some(name) = spelling.or_else(|| owner(&catalog, name)) else {
            return Err(Error::NotFound {
                name: name.to_owned(),
            });
        };
        Ok(self.inner.guarantees_of(&catalog, name))
    }
}

impl Inner {
    /// The guarantees of what a statement names or would create.
    pub(super) fn explained_guarantees(
        &self,
        target: ExplainTarget,
        place: &Place,
    ) -> Result<Guarantees> {
        match target {
            ExplainTarget::Name(name) => self.guarantees_of_name(&name),
            ExplainTarget::Query(query) => {
                let inputs = self.plan(query)?.inputs;
                Ok(self.guarantees_behind("query", &inputs))
            }
            ExplainTarget::Statement(statement) => match *statement {
                Statement::CreateStream(CreateStream { name, query, .. })
                | Statement::CreateView(CreateView { name, query, .. }) => {
                    let inputs = self.plan(query)?.inputs;
                    Ok(self.guarantees_behind(&name.value, &inputs))
                }
                Statement::CreateSink(create) => {
                    let (mut found, schema) = match create.input {
                        SinkInput::Named(input) => {
                            let schema = self.topic(&input)?.published_schema();
                            (self.guarantees_of_name(&input)?, schema)
                        }
                        SinkInput::Query(query) => {
                            let planned = self.plan(query)?;
                            let schema = super::statements::published(&planned);
                            (self.guarantees_behind("query", &planned.inputs), schema)
                        }
                        SinkInput::Declared(_) => return Err(nothing_to_explain(place)),
                    };
                    let spec = self.sink_spec(&create.options, schema, place)?;
                    found.name.clone_from(&create.name.value);
                    found.links.push(self.sink_link(&create.name.value, &spec));
                    Ok(found)
                }
                _ => Err(nothing_to_explain(place)),
            },
        }
    }

    fn guarantees_of_name(&self, name: &Name) -> Result<Guarantees> {
        let catalog = self.catalog();
        let spelling = catalog.spelling(&name.value).map(str::to_owned);
        match spelling.or_else(|| owner(&catalog, &name.value)) {
            Some(found) => Ok(self.guarantees_of(&catalog, found)),
            None => Err(undefined(name).into()),
        }
    }

    fn guarantees_of(&self, catalog: &Catalog, name: String) -> Guarantees {
        let (mut links, mut seen) = (Vec::new(), BTreeSet::new());
        self.add_links(catalog, &name, &mut seen, &mut links);
        Guarantees { name, links }
    }

    /// Those of a query that does not exist yet.
    fn guarantees_behind(&self, name: &str, inputs: &[String]) -> Guarantees {
        let catalog = self.catalog();
        let (mut links, mut seen) = (Vec::new(), BTreeSet::new());
        for input in inputs.iter().filter_map(|input| owner(&catalog, input)) {
            self.add_links(&catalog, &input, &mut seen, &mut links);
        }
        links.push(self.query_link(Kind::Stream, name));
        let name = name.to_owned();
        Guarantees { name, links }
    }

    /// Adds what `name` reads, and then itself.
    fn add_links(
        &self,
        catalog: &Catalog,
        name: &str,
        seen: &mut BTreeSet<String>,
        links: &mut Vec<Link>,
    ) {
        let Some(entry) = catalog.entries.get(name) else {
            return;
        };
        if !seen.insert(name.to_owned()) {
            return;
        }
        for input in entry
            .inputs()
            .into_iter()
            .filter_map(|it| owner(catalog, it))
        {
            self.add_links(catalog, &input, seen, links);
        }
        links.push(match entry {
            Entry::Source(_) if takes_dead_letters(catalog, name) => self.dead_letters_link(name),
            Entry::Source(source) => self.source_link(name, source),
            Entry::Query(query) => self.query_link(query.kind, name),
            Entry::Sink(sink) => self.sink_link(name, &sink.spec),
        });
    }

    fn kept(&self) -> Kept {
        match self.trial || self.durability.is_some() {
            true => Kept::OnDisk,
            false => Kept::InMemory,
        }
    }

    fn source_link(&self, name: &str, source: &SourceEntry) -> Link {
        let way = match &source.connector {
            Some(connector) => {
                let goes_back = connector.goes_back();
                connected(
                    connector.spec.connector(),
                    goes_back,
                    source.wal,
                    self.kept(),
                )
            }
            None => pushed(source.wal, self.kept()),
        };
        let worse = |a: Judged, b: Judged| if b.0 < a.0 { b } else { a };
        let (guarantee, why) = policies(source).into_iter().fold(way, worse);
        link(Kind::Source, name, guarantee, why)
    }

    fn dead_letters_link(&self, name: &str) -> Link {
        let (guarantee, why) = match self.kept() {
            Kept::OnDisk => (
                Guarantee::AtLeastOnce,
                "a letter is on disk before who wrote it goes on, and may come twice after a crash",
            ),
            Kept::InMemory => (Guarantee::AtMostOnce, "no log (a database in memory)"),
        };
        link(Kind::Source, name, guarantee, why)
    }

    fn query_link(&self, kind: Kind, name: &str) -> Link {
        let (guarantee, why) = match self.kept() {
            Kept::OnDisk => (
                Guarantee::ExactlyOnce,
                "its state is in every checkpoint, and goes on from there step by step",
            ),
            Kept::InMemory => (Guarantee::AtMostOnce, "its state is in memory only"),
        };
        link(kind, name, guarantee, why)
    }

    fn sink_link(&self, name: &str, spec: &SinkSpec) -> Link {
        let drops = spec.errors().strategy() == Some(ErrorStrategy::Drop);
        let connector = spec.connector();
        let (guarantee, why) = match (self.kept(), spec.guarantee()) {
            (Kept::InMemory, _) => (
                Guarantee::AtMostOnce,
                "what waits for it is in memory only".to_owned(),
            ),
            (_, it @ Guarantee::ExactlyOnce) => (
                it,
                "after a crash what follows its last saved place is taken back and written again"
                    .to_owned(),
            ),
            (_, it @ Guarantee::AtLeastOnce) => (
                it,
                "after a crash rows that were sent since the last checkpoint are sent again"
                    .to_owned(),
            ),
            (_, it) if drops => (
                it,
                "error.strategy = 'drop': a row that cannot be written is counted and left out"
                    .to_owned(),
            ),
            (_, it) => (
                it,
                format!("{connector} drops rows with these options, and counts them"),
            ),
        };
        link(Kind::Sink, name, guarantee, why)
    }
}

fn link(kind: Kind, name: &str, guarantee: Guarantee, why: impl Into<String>) -> Link {
    Link {
        kind,
        name: name.to_owned(),
        guarantee,
        why: why.into(),
    }
}

/// Rows of a connector, on their way into the log.
fn connected(connector: &str, goes_back: bool, wal: Option<WalOption>, kept: Kept) -> Judged {
    let no_log = match (kept, wal) {
        (Kept::InMemory, _) => Some("no log (a database in memory)"),
        (Kept::OnDisk, Some(WalOption::Off)) => Some("no log (wal_mode = 'off')"),
        (Kept::OnDisk, _) => None,
    };
    match (goes_back, no_log) {
        (true, None) => (
            Guarantee::ExactlyOnce,
            "rows and the cursor behind them are one record of the log".to_owned(),
        ),
        (true, Some(no_log)) if kept == Kept::OnDisk => (
            Guarantee::ExactlyOnce,
            format!("{no_log}, but {connector} is read again from the cursor of the checkpoint"),
        ),
        (true, Some(no_log)) => (
            Guarantee::AtMostOnce,
            format!("{no_log}, and its cursor is not kept either"),
        ),
        (false, None) => (
            Guarantee::AtMostOnce,
            format!(
                "{connector} cannot go back: what comes while it is away is missed, and told in system.gaps"
            ),
        ),
        (false, Some(no_log)) => (
            Guarantee::AtMostOnce,
            format!("{no_log}, and {connector} cannot go back"),
        ),
    }
}

/// Rows that a program pushes, on their way into the log.
fn pushed(wal: Option<WalOption>, kept: Kept) -> Judged {
    match (kept, wal) {
        (Kept::InMemory, _) => (
            Guarantee::AtMostOnce,
            "no log (a database in memory): a pushed row is gone with the process".to_owned(),
        ),
        (Kept::OnDisk, Some(WalOption::Off)) => (
            Guarantee::AtMostOnce,
            "no log (wal_mode = 'off'): rows pushed after the last checkpoint are gone".to_owned(),
        ),
        (Kept::OnDisk, Some(WalOption::Sync)) => (
            Guarantee::ExactlyOnce,
            "a push returns when its rows are on disk".to_owned(),
        ),
        (Kept::OnDisk, Some(WalOption::Async) | None) => (
            Guarantee::AtMostOnce,
            "wal_mode = 'async': a push returns before its rows are on disk, up to 100 ms or 8 MiB"
                .to_owned(),
        ),
    }
}

/// What drops rows of a source on purpose.
fn policies(source: &SourceEntry) -> Vec<Judged> {
    let mut found = Vec::new();
    let connector = source.connector.as_ref();
    let backpressure = match source.config.backpressure {
        // A program is told, and still has its row.
        Backpressure::Reject if connector.is_none() => None,
        Backpressure::Block => None,
        Backpressure::Reject => Some("reject"),
        Backpressure::DropOldest => Some("drop_oldest"),
    };
    found.extend(backpressure.map(|policy| {
        let why = format!(
            "backpressure = '{policy}': what the buffer cannot hold is dropped and counted"
        );
        (Guarantee::AtMostOnce, why)
    }));
    if connector.is_some_and(|it| it.spec.errors().strategy() == Some(ErrorStrategy::Drop)) {
        let why = "error.strategy = 'drop': a row that cannot be read is counted and left out";
        found.push((Guarantee::AtMostOnce, why.to_owned()));
    }
    found
}

/// Whether this is a dead-letter stream.
fn takes_dead_letters(catalog: &Catalog, name: &str) -> bool {
    let errors = catalog.entries.values().filter_map(|entry| match entry {
        Entry::Source(source) => Some(source.connector.as_ref()?.spec.errors()),
        Entry::Sink(sink) => Some(sink.spec.errors()),
        Entry::Query(_) => None,
    });
    let mut named = errors.filter_map(|errors| errors.dlq_stream());
    named.any(|stream| stream.eq_ignore_ascii_case(name))
}

/// What has this topic: a source for its bad rows, a query for its late ones.
fn owner(catalog: &Catalog, topic: &str) -> Option<String> {
    let topic = catalog.topic(topic).ok()?;
    let owns = |entry: &Entry| entry.topics().iter().any(|it| it.id == topic.id);
    let found = catalog.entries.iter().find(|(_, entry)| owns(entry));
    found.map(|(name, _)| name.clone())
}

fn nothing_to_explain(place: &Place) -> Error {
    let message =
        "EXPLAIN GUARANTEES needs a name, a query, or what creates a stream, view or sink";
    SqlError::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .hint("Create it first, then name it; `headwater check FILE.sql --require` does so for a file.")
        .at(place.clone())
        .into()
}
