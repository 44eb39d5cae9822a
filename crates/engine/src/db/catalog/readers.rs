//! What reads what: the readers of a source or stream, the sources behind it, the dead letters.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Catalog, CatalogEntry, QueryEntry, SourceEntry};
use crate::stream_status::StreamStatus;
use crate::topic::Topic;

impl Catalog {
    /// The names of what reads any topic of `name`.
    pub fn readers(&self, name: &str) -> Vec<String> {
        let Some(entry) = self.entries.get(name) else {
            return Vec::new();
        };
        let topics = entry.topics();
        self.readers_where(|input| topics.iter().any(|it| it.relation.name == input))
    }

    /// The names of what reads the topic of this name.
    pub fn readers_of_topic(&self, topic: &str) -> Vec<String> {
        self.readers_where(|input| input == topic)
    }

    fn readers_where(&self, is_read: impl Fn(&str) -> bool) -> Vec<String> {
        let reads = |other: &&String| {
            let other = self.entries.get(*other);
            other.is_some_and(|it| it.inputs().into_iter().any(&is_read))
        };
        self.order.iter().filter(reads).cloned().collect()
    }

    /// The name of what publishes this topic: a source its bad rows, a query its late ones.
    pub fn publisher(&self, topic: &str) -> Option<String> {
        let topic = self.topic(topic).ok()?;
        let owns = |entry: &CatalogEntry| entry.topics().iter().any(|it| it.id == topic.id);
        let found = self.entries.iter().find(|(_, entry)| owns(entry));
        found.map(|(name, _)| name.clone())
    }

    /// The topics of the sources that the rows of these topics come from, each once, by number.
    pub fn sources_of(&self, topics: &[String]) -> Vec<Arc<Topic>> {
        let (mut waiting, mut seen) = (topics.to_vec(), Vec::new());
        let mut sources: Vec<Arc<Topic>> = Vec::new();
        while let Some(topic) = waiting.pop() {
            if seen.contains(&topic) {
                continue;
            }
            let owns = |entry: &&CatalogEntry| {
                entry
                    .topics()
                    .iter()
                    .any(|owned| owned.relation.name == topic)
            };
            match self.entries.values().find(owns) {
                Some(CatalogEntry::Source(source)) => sources.push(Arc::clone(&source.topic)),
                Some(CatalogEntry::Query(query)) => waiting.extend(query.inputs.iter().cloned()),
                Some(CatalogEntry::Sink(_)) | None => {}
            }
            seen.push(topic);
        }
        sources.sort_by_key(|source| source.id);
        sources.dedup_by_key(|source| source.id);
        sources
    }

    /// The sources that the rows of a stream come from.
    pub fn sources_behind(&self, stream: &str) -> Vec<&SourceEntry> {
        let topics = self.sources_of(&[stream.to_owned()]);
        let sources = topics.iter().map(|it| self.source(&it.relation.name));
        sources.filter_map(Result::ok).collect()
    }

    /// Whether a source should run: nothing reads it yet, or a sink does, or an active stream.
    pub fn is_wanted(&self, source: &str) -> bool {
        let readers = self.readers(source);
        let is_active = |reader: &String| {
            let query = self.query(reader);
            query.is_none_or(|it| it.lifecycle.status == StreamStatus::Active)
        };
        readers.is_empty() || readers.iter().any(is_active)
    }

    /// The inputs of a paused stream from which rows come although it is paused, sorted.
    pub fn inputs_to_hold(&self, query: &QueryEntry) -> BTreeSet<String> {
        if query.lifecycle.status != StreamStatus::Paused {
            return BTreeSet::new();
        }
        let is_paused = |input: &str| {
            let source = self.source(input);
            source.is_ok_and(|it| it.connector.is_some()) && !self.is_wanted(input)
        };
        let inputs = query.inputs.iter().filter(|input| !is_paused(input));
        inputs.cloned().collect()
    }

    /// The sources and sinks whose dead letters go to `stream`.
    pub fn senders(&self, stream: &str) -> Vec<String> {
        let sends = |entry: &CatalogEntry| {
            let named = entry.errors()?.dlq_stream()?;
            Some(self.spelling(named) == Some(stream))
        };
        let sends = |name: &&String| self.entries.get(*name).and_then(sends) == Some(true);
        self.order.iter().filter(sends).cloned().collect()
    }

    /// Whether dead letters about rows of `inputs`, sent to `stream`, could become rows of `inputs`.
    pub fn has_dead_letter_cycle(&self, stream: &str, inputs: &[String]) -> bool {
        let sources = |inputs: &[String]| -> Vec<String> {
            let sources = self.sources_of(inputs).into_iter();
            sources.map(|topic| topic.relation.name.clone()).collect()
        };
        let (begin, mut seen) = (sources(inputs), Vec::new());
        let mut waiting = vec![stream.to_owned()];
        while let Some(stream) = waiting.pop() {
            let stream = self.spelling(&stream).unwrap_or(&stream).to_owned();
            if begin.contains(&stream) {
                return true;
            }
            if seen.contains(&stream) {
                continue;
            }
            for (_, sink) in self.sinks() {
                if let Some(next) = sink.spec.errors().dlq_stream()
                    && sources(std::slice::from_ref(&sink.input)).contains(&stream)
                {
                    waiting.push(next.to_owned());
                }
            }
            seen.push(stream);
        }
        false
    }
}
