//! A user's own connector, from its declaration to its rows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::options::{ByteSize, Options};
use crate::scripted::{care, rest};
use crate::{End, Output, Source, SourceHandle};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ParrotOptions {
    /// The word that the parrot repeats.
    word: String,
    /// The number of repetitions.
    #[serde(default)]
    times: u8,
}

impl Options for ParrotOptions {}

struct Parrot(ParrotOptions);

#[async_trait]
impl Source for Parrot {
    async fn validate(&self) -> Result<()> {
        Ok(())
    }

    async fn run(&mut self, out: &mut Output, _: CancellationToken) -> Result<End> {
        for _ in 0..self.0.times {
            out.frame(self.0.word.as_bytes()).await?;
        }
        Ok(End::Finished)
    }
}

const PARROT: Connector = Connector {
    name: "parrot",
    summary: "a bird that talks",
    source: Some(SourceKind {
        options: OptionSet::of::<ParrotOptions>(),
        formats: &["text"],
        max_frame: ByteSize::mib(1),
        columns: SourceKind::declared_columns,
        create: |args| Ok(Box::new(Parrot(args.options.get()?))),
    }),
    sink: None,
};

fn connectors() -> Connectors {
    let mut connectors = Connectors::builtin();
    connectors.register(PARROT).unwrap();
    connectors
}

fn refused(list: &[Given<()>]) -> String {
    let refused = connectors().source("parrot", list, None, &[]).err();
    refused.unwrap().to_string()
}

#[test]
fn builtin_connectors_keep_the_rules() {
    let mut connectors = Connectors {
        by_name: BTreeMap::new(),
    };
    for connector in BUILTIN {
        connectors.register(*connector).unwrap();
    }
    assert!(connectors.names().eq(Connectors::builtin().names()));
}

#[tokio::test]
async fn from_a_list_of_options_to_rows() {
    let list = [Given::new("parrot.word", "hello"), Given::new("TIMES", 2)];
    let spec = connectors()
        .source("Parrot", &list, None, &[])
        .ok()
        .unwrap();
    assert_eq!((spec.connector(), spec.format()), ("parrot", Some("text")));
    assert_eq!(spec.schema().field(0).name(), "line");
    assert_eq!(spec.max_frame(), 1 << 20);
    let source = SourceHandle::new(Arc::new(spec), None, care());
    let (lane, mut items) = mpsc::channel(1);
    source
        .start(&CancellationToken::new(), Some(Box::new(lane)))
        .unwrap();
    assert_eq!(rest(&mut items).await, ["hello hello"]);
}

#[test]
fn unknown_connectors_and_roles() {
    let connectors = connectors();
    let error = connectors.get("parot").err().unwrap();
    assert_eq!(error.to_string(), "there is no connector \"parot\"");
    assert_eq!(error.hint().unwrap(), "did you mean \"parrot\"?");
    let columns = Arc::new(Schema::empty());
    let error = connectors
        .sink::<()>("parrot", &[], columns, &[])
        .err()
        .unwrap();
    assert_eq!(error.to_string(), "connector parrot is not a sink");
}

#[test]
fn options_of_frames_are_checked_with_those_of_the_connector() {
    let list = [
        Given::new("wrd", "x"),
        Given::new("max_frame", "1"),
        Given::new("format", "txt"),
    ];
    let refused = refused(&list);
    for part in [
        "option \"wrd\" is unknown (did you mean \"word\"?)",
        "option \"max_frame\" is wrong: \"1\" has no unit",
        "option \"format\" must be one of 'text', it is 'txt' (did you mean \"text\"?)",
        "option \"word\" is missing",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
    let list = [Given::new("word", "x"), Given::new("max_frame", "2 KiB")];
    let spec = connectors()
        .source("parrot", &list, None, &[])
        .ok()
        .unwrap();
    assert_eq!(spec.max_frame(), 2_048);
}

#[test]
fn a_format_that_cannot_fill_the_columns_is_refused() {
    let number = Field::new("n", DataType::Int64, true);
    let columns = Arc::new(Schema::new(vec![number]));
    let list = [Given::new("word", "x")];
    let error = connectors()
        .source("parrot", &list, Some(columns), &[])
        .err()
        .unwrap();
    assert_eq!(
        error.to_string(),
        "column \"n\" cannot be used here: format text fills one column, VARCHAR or BINARY"
    );
}

#[test]
fn extra_options_come_back_to_the_caller() {
    /// Options that the engine adds.
    #[derive(Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Engine {
        /// The number of slots in the buffer.
        buffer_size: u32,
    }
    impl Options for Engine {}
    let list = [Given::new("word", "x"), Given::new("buffer_size", 64)];
    let extra = [OptionSet::of::<Engine>()];
    let spec = connectors()
        .source("parrot", &list, None, &extra)
        .ok()
        .unwrap();
    assert_eq!(spec.options().get::<Engine>().unwrap().buffer_size, 64);
}

#[test]
fn a_connector_declared_wrongly_is_not_registered() {
    let source = PARROT.source.unwrap();
    let wrong = [
        Connector {
            name: "Loud",
            ..PARROT
        },
        Connector {
            name: "dull",
            summary: "",
            ..PARROT
        },
        Connector {
            name: "idle",
            source: None,
            ..PARROT
        },
        Connector {
            name: "odd",
            source: Some(SourceKind {
                formats: &["morse"],
                ..source
            }),
            ..PARROT
        },
    ];
    let mut connectors = connectors();
    for connector in wrong {
        let error = connectors.register(connector).unwrap_err();
        assert!(matches!(error, Error::BadConnector { .. }), "{error}");
    }
    let error = connectors.register(PARROT).unwrap_err();
    assert_eq!(error.to_string(), "there is already a connector \"parrot\"");
}
