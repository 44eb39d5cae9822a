//! A live stream of events from several sources, one of them with a custom connector.
//!
//! A custom source is a [`Connector`]: a struct of options, which also validates them, and a [`Source`],
//! which reads the data. Once registered, SQL can name it like any other. A stream merges several
//! sources: a subscriber to the stream sees the events of all, a subscriber to a source only its own.
//! The engine restarts a source that fails.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use headwater::arrow::array::{ArrayRef, RecordBatch, StringArray};
use headwater::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use headwater::connect::options::{ByteSize, Checked, OptionSet, Options};
use headwater::connect::{
    self, Connector, Connectors, End, Output, Source, SourceArgs, SourceKind,
};
use headwater::{Db, Record};
use tokio_util::sync::CancellationToken;

/// The options of the connector.
#[derive(serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct IssuesOptions {
    /// The repository whose issues are events.
    repo_url: String,
}

impl Options for IssuesOptions {}

const ISSUES: Connector = Connector {
    name: "issues",
    summary: "new issues of a repository",
    source: Some(SourceKind {
        options: OptionSet::of::<IssuesOptions>(),
        formats: &[],
        max_frame: ByteSize(0),
        columns: |_: &Checked, _| Ok(Some(columns())),
        create: |args: SourceArgs<'_>| {
            let options: IssuesOptions = args.options.get()?;
            Ok(Box::new(Issues { options }))
        },
    }),
    sink: None,
};

fn columns() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, false);
    let names = ["event_type", "title", "external_url"];
    Arc::new(Schema::new(names.map(text).to_vec()))
}

/// The source. A real one would call the API; this one has two fixed issues.
struct Issues {
    options: IssuesOptions,
}

#[async_trait]
impl Source for Issues {
    async fn validate(&self) -> connect::Result<()> {
        Ok(())
    }

    async fn run(&mut self, out: &mut Output, stop: CancellationToken) -> connect::Result<End> {
        for (number, title) in [(1, "It crashes"), (2, "It is slow")] {
            let url = format!("{}/issues/{number}", self.options.repo_url);
            let row = ["github_issue", title, &url].map(|text| {
                let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
                column
            });
            let rows = RecordBatch::try_new(columns(), row.to_vec());
            out.rows(rows.expect("a text for each of the columns"))
                .await?;
        }
        stop.cancelled().await;
        Ok(End::Stopped)
    }
}

#[derive(Record, Debug, PartialEq, PartialOrd)]
struct Event {
    event_type: String,
    title: String,
    external_url: String,
}

const STREAM: &str = r#"
    CREATE SOURCE tech_news (title VARCHAR NOT NULL, link VARCHAR NOT NULL)
    WITH (connector = 'process', mode = 'once', format = 'json',
          command = '["echo", "{\"title\": \"Rust 2.0\", \"link\": \"https://news.example.com/1\"}"]');

    CREATE SOURCE my_repo WITH (connector = 'issues', repo_url = 'https://git.example.com/me/repo');

    CREATE STREAM my_live_stream AS
    SELECT 'news' AS event_type, title, link AS external_url FROM tech_news
    UNION ALL
    SELECT event_type, title, external_url FROM my_repo;
"#;

#[allow(dead_code)] // Also a module of the tests.
fn main() -> Result<(), Box<dyn Error>> {
    run(&mut std::io::stdout())
}

/// Runs the example and prints into `out`.
pub fn run(out: &mut dyn Write) -> Result<(), Box<dyn Error>> {
    let mut connectors = Connectors::builtin();
    connectors.register(ISSUES)?;
    let db = Db::builder().connectors(connectors).start_connectors(false);
    let db = db.in_memory()?;

    let wrong = db.execute("CREATE SOURCE wrong WITH (connector = 'issues', repo = 'x')");
    for error in wrong.err().iter().flat_map(|error| error.sql_errors()) {
        writeln!(out, "refused: {error}")?;
    }

    db.execute(STREAM)?;
    let events = db.subscribe::<Event>("my_live_stream")?;
    let news = db.subscribe_batches("tech_news")?;
    db.start_connectors()?;

    // The rows of the two sources come in no particular order.
    let mut seen = events.take(3).collect::<Result<Vec<Event>, _>>()?;
    seen.sort_by(|a, b| a.external_url.cmp(&b.external_url));
    for event in seen {
        writeln!(
            out,
            "stream: {}: {}, {}",
            event.event_type, event.title, event.external_url
        )?;
    }
    db.close();
    let rows = news.map(|event| match event {
        Ok(headwater::Event::Rows(rows)) => rows.num_rows(),
        _ => 0,
    });
    writeln!(out, "source tech_news: {} event", rows.sum::<usize>())?;
    Ok(())
}
