//! EXPLAIN GUARANTEES: how often a row arrives if the process crashes and is started again.
//!
//! ```text
//!   source ─► log ─► query ─► query ─► sink          each a link; the chain is as good as its weakest
//! ```
//!
//! A link is judged by its parts: whether a connector can go back, whether there is a log and when it is
//! synced, which policies drop rows, what the sink promises. Nothing is measured, and no external system
//! is touched.

use std::collections::BTreeSet;

use headwater_connect::Guarantee::{self, AtLeastOnce, AtMostOnce, ExactlyOnce};
use headwater_connect::{ErrorStrategy, SinkSpec};

use super::plan::{plan, published_schema};
use crate::db::catalog::{Catalog, CatalogEntry, SourceEntry, undefined};
use crate::db::engine::{Engine, Persistence};
use crate::db::options::{OptionSpan, WalOption, sink_spec};
use crate::error::{Error, Result};
use crate::source::Backpressure;
use crate::sql::{ExplainTarget, Kind, Name, SinkInput, SqlError, Statement, sqlstate};

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
        links.min().unwrap_or(ExactlyOnce)
    }

    /// The first of the weakest links; `None` if all are exactly-once.
    pub fn weakest(&self) -> Option<&Link> {
        let weakest = self.links.iter().min_by_key(|link| link.guarantee);
        weakest.filter(|link| link.guarantee < ExactlyOnce)
    }
}

type Judged = (Guarantee, String);

/// The links from the sources to what is explained.
struct Chain<'a> {
    catalog: &'a Catalog,
    on_disk: bool,
    seen: BTreeSet<String>,
    links: Vec<Link>,
}

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
    place: &OptionSpan,
) -> Result<Guarantees> {
    match target {
        ExplainTarget::Name(name) => guarantees_of(engine, &name),
        ExplainTarget::Query(query) => {
            let inputs = plan(engine, query)?.inputs;
            Ok(guarantees_behind(engine, "query", &inputs))
        }
        ExplainTarget::Statement(statement) => match *statement {
            Statement::CreateQuery(create) => {
                let inputs = plan(engine, create.query)?.inputs;
                Ok(guarantees_behind(engine, &create.name.value, &inputs))
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
                let on_disk = is_on_disk(&engine.persistence);
                found
                    .links
                    .push(sink_link(&create.name.value, &spec, on_disk));
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
    let query = query_link(Kind::Stream, name, chain.on_disk);
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
            on_disk: is_on_disk(persistence),
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
        let on_disk = self.on_disk;
        self.links.push(match entry {
            CatalogEntry::Source(_) if !catalog.senders(name).is_empty() => {
                dead_letters_link(name, on_disk)
            }
            CatalogEntry::Source(source) => source_link(name, source, on_disk),
            CatalogEntry::Query(query) => {
                let mut link = query_link(query.kind, name, on_disk);
                if let Some(topic) = &query.dead_letters {
                    let letters = &topic.relation.name;
                    link.why += &format!("; rows that fail are in {letters} instead");
                }
                link
            }
            CatalogEntry::Sink(sink) => sink_link(name, &sink.spec, on_disk),
        });
    }
}

/// Whether logs and state are on disk. A database for trying statements is judged as if they were.
fn is_on_disk(persistence: &Persistence) -> bool {
    persistence.is_trial || persistence.folder().is_some()
}

fn source_link(name: &str, source: &SourceEntry, on_disk: bool) -> Link {
    let logged = match &source.connector {
        Some(it) => connected(it.spec.connector(), it.goes_back(), source.wal, on_disk),
        None => pushed(source.wal, on_disk),
    };
    let worse = |a: Judged, b: Judged| if b.0 < a.0 { b } else { a };
    let judged = policies(source).into_iter().fold(logged, worse);
    link(Kind::Source, name, judged)
}

fn dead_letters_link(name: &str, on_disk: bool) -> Link {
    let judged = match on_disk {
        true => {
            let why = "a dead letter is on disk before its sender continues, and may be repeated \
                       after a crash";
            (AtLeastOnce, why.to_owned())
        }
        false => (AtMostOnce, "no log (a database in memory)".to_owned()),
    };
    link(Kind::Source, name, judged)
}

fn query_link(kind: Kind, name: &str, on_disk: bool) -> Link {
    let (guarantee, why) = match on_disk {
        true => (
            ExactlyOnce,
            "every checkpoint has its state, and it resumes from there",
        ),
        false => (AtMostOnce, "its state is in memory only"),
    };
    link(kind, name, (guarantee, why.to_owned()))
}

fn sink_link(name: &str, spec: &SinkSpec, on_disk: bool) -> Link {
    let drops = spec.errors().strategy() == Some(ErrorStrategy::Drop);
    let guarantee = spec.guarantee();
    let why = match guarantee {
        _ if !on_disk => "what waits for it is in memory only",
        ExactlyOnce => {
            "after a crash what follows its last saved place is taken back and written again"
        }
        AtLeastOnce => "after a crash rows that were sent since the last checkpoint are sent again",
        _ if drops => {
            "error.strategy = 'drop': a row that cannot be written is counted and left out"
        }
        _ => {
            let connector = spec.connector();
            let why = format!("{connector} drops rows with these options, and counts them");
            return link(Kind::Sink, name, (guarantee, why));
        }
    };
    let guarantee = if on_disk { guarantee } else { AtMostOnce };
    let reaches = spec.reaches().map(|who| format!("; {who}"));
    let why = format!("{why}{}", reaches.unwrap_or_default());
    link(Kind::Sink, name, (guarantee, why))
}

fn link(kind: Kind, name: &str, (guarantee, why): Judged) -> Link {
    Link {
        kind,
        name: name.to_owned(),
        guarantee,
        why,
    }
}

/// Rows of a connector, on their way into the log.
fn connected(connector: &str, goes_back: bool, wal: Option<WalOption>, on_disk: bool) -> Judged {
    let no_log = match (on_disk, wal) {
        (false, _) => Some("no log (a database in memory)"),
        (true, Some(WalOption::Off)) => Some("no log (wal_mode = 'off')"),
        (true, _) => None,
    };
    match (goes_back, no_log) {
        (true, None) => {
            let why = "rows and the cursor behind them are one record of the log";
            (ExactlyOnce, why.to_owned())
        }
        (true, Some(no_log)) if on_disk => {
            let why = format!(
                "{no_log}, but {connector} is read again from the cursor of the checkpoint"
            );
            (ExactlyOnce, why)
        }
        (true, Some(no_log)) => (
            AtMostOnce,
            format!("{no_log}, and its cursor is not kept either"),
        ),
        (false, None) => {
            let why = format!(
                "{connector} cannot go back: what comes while it is away is missed, and reported in \
                 system.gaps"
            );
            (AtMostOnce, why)
        }
        (false, Some(no_log)) => (
            AtMostOnce,
            format!("{no_log}, and {connector} cannot go back"),
        ),
    }
}

/// Rows that a program pushes, on their way into the log.
fn pushed(wal: Option<WalOption>, on_disk: bool) -> Judged {
    let (guarantee, why) = match (on_disk, wal) {
        (false, _) => (
            AtMostOnce,
            "no log (a database in memory): a pushed row is gone with the process",
        ),
        (true, Some(WalOption::Off)) => (
            AtMostOnce,
            "no log (wal_mode = 'off'): rows pushed after the last checkpoint are gone",
        ),
        (true, Some(WalOption::Sync)) => (ExactlyOnce, "a push returns when its rows are on disk"),
        (true, Some(WalOption::Async) | None) => {
            let why = "wal_mode = 'async': a push returns before its rows are on disk, up to 100 ms or \
                       8 MiB";
            (AtMostOnce, why)
        }
    };
    (guarantee, why.to_owned())
}

/// The policies that drop rows of a source.
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
    if let Some(policy) = backpressure {
        let why = format!(
            "backpressure = '{policy}': what the buffer cannot hold is dropped and counted"
        );
        found.push((AtMostOnce, why));
    }
    if connector.is_some_and(|it| it.spec.errors().strategy() == Some(ErrorStrategy::Drop)) {
        let why = "error.strategy = 'drop': a row that cannot be read is counted and left out";
        found.push((AtMostOnce, why.to_owned()));
    }
    found
}

fn nothing_to_explain(place: &OptionSpan) -> Error {
    let message =
        "EXPLAIN GUARANTEES needs a name, a query, or what creates a stream, view or sink";
    SqlError::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
        .hint("Create it first, then name it; `headwater check FILE.sql --require` does so for a file.")
        .at(place.clone())
        .into()
}
