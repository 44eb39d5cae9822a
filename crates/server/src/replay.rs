//! `headwater replay`: the past of a source through the query of a stream once more, as JSON lines.
//!
//! It opens the data folder of a pipeline that is not running, starts nothing, and prints what the
//! query gives for the rows that the log has kept. What the pipeline knows is not touched. Of a pipeline
//! that runs, REPLAY SOURCE ... INTO STREAM ... does the same within it.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use headwater::{Db, Outcome};

use crate::failure::Failure;
use crate::lines::Lines;
use crate::run::data_folder;

/// What `replay` is told.
#[derive(clap::Args)]
pub struct Arguments {
    /// The file of the pipeline, beside which its data is
    #[arg(value_name = "FILE.sql")]
    path: PathBuf,
    /// The source whose log is read
    source: String,
    /// The stream or view whose query it runs through
    stream: String,
    /// The folder with the data, if it is not beside the file
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// The first event time, such as '2026-01-31 12:00:00' [default: the first that is kept]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// The first event time after it [default: none]
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// How many times faster than it happened [default: as fast as it goes]
    #[arg(long, value_name = "N")]
    speed: Option<f64>,
}

/// Prints the rows.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let folder = arguments
        .data
        .clone()
        .or_else(|| data_folder(&arguments.path));
    let folder = folder.filter(|folder| folder.is_dir()).ok_or_else(|| {
        let file = arguments.path.display();
        Failure::input(format!(
            "there is no data of {file}; say where it is with --data"
        ))
    })?;
    let builder = Db::builder().start_connectors(false);
    let db = builder.open(folder).map_err(Failure::runtime)?;
    let outcome = db
        .execute(&statement(arguments))
        .map_err(Failure::input)?
        .pop();
    if let Some(Outcome::Subscribed(rows)) = outcome {
        let mut lines = Lines::new(Arc::new(Mutex::new(io::stdout())), None)?;
        lines.follow(rows).map_err(Failure::runtime)?;
    }
    db.close();
    Ok(())
}

/// The statement that does it.
fn statement(arguments: &Arguments) -> String {
    let name = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let time = |word: &str, time: &Option<String>| match time {
        Some(time) => format!(" {word} '{}'", time.replace('\'', "''")),
        None => String::new(),
    };
    let (from, to) = (time("FROM", &arguments.from), time("TO", &arguments.to));
    let speed = arguments.speed.map(|speed| format!(" SPEED {speed}"));
    let (source, stream) = (name(&arguments.source), name(&arguments.stream));
    let speed = speed.unwrap_or_default();
    format!("REPLAY SOURCE {source}{from}{to}{speed} INTO STREAM {stream}")
}
