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

use super::plan::{plan, published_schema};
use crate::db::catalog::{Catalog, CatalogEntry, SourceEntry, undefined};
use crate::db::engine::{Engine, Persistence};
use crate::db::options::{Place, WalOption, sink_spec};
use crate::error::{Error, Result};
use crate::source::Backpressure;
use crate::sql::{
    CreateStream, CreateView, ExplainTarget, Kind, Name, SinkInput, SqlError, Statement, sqlstate,
};

/// How often a row arrives at the end of a chain of links, if the process crashes and is started again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarantees {
    /// The name of the entry at the end of the chain.
    pub name: String,
    /// From the sources on, each before those that read it.
    pub links: Vec<Link>,
}

/// One source, stream, view or sink on the way of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Whether it is a source, a stream, a view or a sink.
    pub kind: Kind,
    /// The name of the entry.
    pub name: String,
    /// How often a row gets past it.
    pub guarantee: Guarantee,
    /// The reason for the guarantee.
    pub why: String,
}

impl Guarantees {
    /// The guarantee of the whole chain: that of its weakest link.
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

/// Whether the engine keeps logs and state on disk.
#[derive(Clone, Copy, PartialEq)]
enum Storage {
    DataFolder,
    Memory,
}

impl Storage {
    /// A database for trying statements is judged as one with a data folder.
    fn of(persistence: &Persistence) -> Self {
        match persistence.is_trial() || persistence.folder().is_some() {
            true => Self::DataFolder,
            false => Self::Memory,
        }
    }
}

/// The links from the sources to what is explained.
struct Chain<'a> {
    catalog: &'a Catalog,
    storage: Storage,
    seen: BTreeSet<String>,
    links: Vec<Link>,
}

/// The guarantees of an entry.
pub(crate) fn guarantees(engine: &Engine, name: &str) -> Result<Guarantees> {
    let catalog = engine.catalog();
    let found = chain_to(&catalog, &engine.persistence, name);
    found.ok_or_else(|| Error::NotFound {
        name: name.to_owned(),
    })
}

/// The guarantees of what a statement names or would create.
pub(super) fn explained_guarantees(
    engine: &Engine,
    target: ExplainTarget,
    place: &Place,
) -> Result<Guarantees> {
    match target {
        ExplainTarget::Name(name) => guarantees_of(engine, &name),
        ExplainTarget::Query(query) => {
            let inputs = plan(engine, query)?.inputs;
            Ok(guarantees_behind(engine, "query", &inputs))
        }
        ExplainTarget::Statement(statement) => match *statement {
            Statement::CreateStream(CreateStream { name, query, .. })
            | Statement::CreateView(CreateView { name, query, .. }) => {
                let inputs = plan(engine, query)?.inputs;
                Ok(guarantees_behind(engine, &name.value, &inputs))
            }
            Statement::CreateSink(create) => {
                let (mut found, schema) = match create.input {
                    SinkInput::Named(input) => {
                        let topic = engine.catalog().topic_named(&input)?;
                        (guarantees_of(engine, &input)?, topic.published_schema())
                    }
                    SinkInput::Query(query) => {
                        let planned = plan(engine, query)?;
                        let schema = published_schema(&planned);
                        (guarantees_behind(engine, "query", &planned.inputs), schema)
                    }
                    SinkInput::Declared(_) => return Err(nothing_to_explain(place)),
                };
                let spec = sink_spec(&engine.connectors, &create.options, schema, place)?;
                let storage = Storage::of(&engine.persistence);
                found
                    .links
                    .push(sink_link(&create.name.value, &spec, storage));
                found.name = create.name.value;
                Ok(found)
            }
            _ => Err(nothing_to_explain(place)),
        },
    }
}

fn guarantees_of(engine: &Engine, name: &Name) -> Result<Guarantees> {
    let catalog = engine.catalog();
    let found = chain_to(&catalog, &engine.persistence, &name.value);
    Ok(found.ok_or_else(|| undefined(name))?)
}

/// The guarantees of a query that does not exist yet.
fn guarantees_behind(engine: &Engine, name: &str, inputs: &[String]) -> Guarantees {
    let catalog = engine.catalog();
    let mut chain = Chain::new(&catalog, &engine.persistence);
    for input in inputs.iter().filter_map(|input| catalog.publisher(input)) {
        chain.add(&input);
    }
    let query = query_link(Kind::Stream, name, chain.storage);
    chain.links.push(query);
    Guarantees {
        name: name.to_owned(),
        links: chain.links,
    }
}

/// The guarantees of an entry, or of what publishes the topic of this name.
fn chain_to(catalog: &Catalog, persistence: &Persistence, name: &str) -> Option<Guarantees> {
    let spelling = catalog.spelling(name).map(str::to_owned);
    let name = spelling.or_else(|| catalog.publisher(name))?;
    let mut chain = Chain::new(catalog, persistence);
    chain.add(&name);
    let links = chain.links;
    Some(Guarantees { name, links })
}

impl<'a> Chain<'a> {
    fn new(catalog: &'a Catalog, persistence: &Persistence) -> Self {
        Self {
            catalog,
            storage: Storage::of(persistence),
            seen: BTreeSet::new(),
            links: Vec::new(),
        }
    }

    /// Adds what `name` reads, and then itself.
    fn add(&mut self, name: &str) {
        let catalog = self.catalog;
        let Some(entry) = catalog.entries.get(name) else {
            return;
        };
        if !self.seen.insert(name.to_owned()) {
            return;
        }
        let inputs = entry.inputs().into_iter();
        for input in inputs.filter_map(|it| catalog.publisher(it)) {
            self.add(&input);
        }
        let storage = self.storage;
        self.links.push(match entry {
            CatalogEntry::Source(_) if !catalog.senders(name).is_empty() => {
                dead_letters_link(name, storage)
            }
            CatalogEntry::Source(source) => source_link(name, source, storage),
            CatalogEntry::Query(query) => query_link(query.kind, name, storage),
            CatalogEntry::Sink(sink) => sink_link(name, &sink.spec, storage),
        });
    }
}

fn source_link(name: &str, source: &SourceEntry, storage: Storage) -> Link {
    let way = match &source.connector {
        Some(connector) => {
            let goes_back = connector.goes_back();
            connected(connector.spec.connector(), goes_back, source.wal, storage)
        }
        None => pushed(source.wal, storage),
    };
    let worse = |a: Judged, b: Judged| if b.0 < a.0 { b } else { a };
    let (guarantee, why) = policies(source).into_iter().fold(way, worse);
    link(Kind::Source, name, guarantee, why)
}

fn dead_letters_link(name: &str, storage: Storage) -> Link {
    let (guarantee, why) = match storage {
        Storage::DataFolder => (
            Guarantee::AtLeastOnce,
            "a dead letter is on disk before its sender continues, and may be repeated after a crash",
        ),
        Storage::Memory => (Guarantee::AtMostOnce, "no log (a database in memory)"),
    };
    link(Kind::Source, name, guarantee, why)
}

fn query_link(kind: Kind, name: &str, storage: Storage) -> Link {
    let (guarantee, why) = match storage {
        Storage::DataFolder => (
            Guarantee::ExactlyOnce,
            "its state is in every checkpoint, and goes on from there step by step",
        ),
        Storage::Memory => (Guarantee::AtMostOnce, "its state is in memory only"),
    };
    link(kind, name, guarantee, why)
}

fn sink_link(name: &str, spec: &SinkSpec, storage: Storage) -> Link {
    let drops = spec.errors().strategy() == Some(ErrorStrategy::Drop);
    let connector = spec.connector();
    let (guarantee, why) = match (storage, spec.guarantee()) {
        (Storage::Memory, _) => (
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
            "after a crash rows that were sent since the last checkpoint are sent again".to_owned(),
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

fn link(kind: Kind, name: &str, guarantee: Guarantee, why: impl Into<String>) -> Link {
    Link {
        kind,
        name: name.to_owned(),
        guarantee,
        why: why.into(),
    }
}

/// Rows of a connector, on their way into the log.
fn connected(connector: &str, goes_back: bool, wal: Option<WalOption>, storage: Storage) -> Judged {
    let no_log = match (storage, wal) {
        (Storage::Memory, _) => Some("no log (a database in memory)"),
        (Storage::DataFolder, Some(WalOption::Off)) => Some("no log (wal_mode = 'off')"),
        (Storage::DataFolder, _) => None,
    };
    match (goes_back, no_log) {
        (true, None) => (
            Guarantee::ExactlyOnce,
            "rows and the cursor behind them are one record of the log".to_owned(),
        ),
        (true, Some(no_log)) if storage == Storage::DataFolder => (
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
                "{connector} cannot go back: what comes while it is away is missed, and reported in system.gaps"
            ),
        ),
        (false, Some(no_log)) => (
            Guarantee::AtMostOnce,
            format!("{no_log}, and {connector} cannot go back"),
        ),
    }
}

/// Rows that a program pushes, on their way into the log.
fn pushed(wal: Option<WalOption>, storage: Storage) -> Judged {
    match (storage, wal) {
        (Storage::Memory, _) => (
            Guarantee::AtMostOnce,
            "no log (a database in memory): a pushed row is gone with the process".to_owned(),
        ),
        (Storage::DataFolder, Some(WalOption::Off)) => (
            Guarantee::AtMostOnce,
            "no log (wal_mode = 'off'): rows pushed after the last checkpoint are gone".to_owned(),
        ),
        (Storage::DataFolder, Some(WalOption::Sync)) => (
            Guarantee::ExactlyOnce,
            "a push returns when its rows are on disk".to_owned(),
        ),
        (Storage::DataFolder, Some(WalOption::Async) | None) => (
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
        // The push returns an error, and the program still has its row.
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

fn nothing_to_explain(place: &Place) -> Error {
    let message =
        "EXPLAIN GUARANTEES needs a name, a query, or what creates a stream, view or sink";
    SqlError::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .hint("Create it first, then name it; `headwater check FILE.sql --require` does so for a file.")
        .at(place.clone())
        .into()
}
