//! `headwater replay`: the logged rows of a source through the query of a stream again, as JSON lines.
//!
//! It opens the data folder of a pipeline that is not running, starts no connector, and prints the
//! query's results for the rows that the log has retained. It does not change the pipeline's state. In a
//! running pipeline the statement REPLAY SOURCE ... INTO STREAM ... does the same.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use headwater::{Db, Outcome};

use crate::error::CliError;
use crate::lines::JsonLines;
use crate::run::data_folder;

#[derive(clap::Args)]
pub struct ReplayArguments {
    /// The file of the pipeline; its data folder is beside it
    #[arg(value_name = "FILE.sql")]
    path: PathBuf,
    /// The source whose log is read
    source: String,
    /// The stream or view whose query the rows run through
    stream: String,
    /// The data folder, if it is not beside the file
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// First event time, such as '2026-01-31 12:00:00' [default: the first retained row]
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Event time at which the replay ends, exclusive [default: the end of the log]
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Speed as a multiple of event time: 60 replays an hour in a minute [default: no limit]
    #[arg(long, value_name = "N")]
    speed: Option<f64>,
}

/// Prints the rows of the replay.
pub fn run(arguments: &ReplayArguments) -> Result<(), CliError> {
    let folder = arguments
        .data
        .clone()
        .or_else(|| data_folder(&arguments.path));
    let folder = folder.filter(|folder| folder.is_dir()).ok_or_else(|| {
        let file = arguments.path.display();
        CliError::input(format!(
            "there is no data folder for {file}; name it with --data"
        ))
    })?;
    let builder = Db::builder().start_connectors(false);
    let db = builder.open(folder).map_err(CliError::runtime)?;
    let outcome = db
        .execute(&statement(arguments))
        .map_err(CliError::input)?
        .pop();
    if let Some(Outcome::Replayed(rows)) = outcome {
        let mut lines = JsonLines::new(Arc::new(Mutex::new(io::stdout())), None)?;
        lines.follow(rows).map_err(CliError::runtime)?;
    }
    db.close();
    Ok(())
}

/// The REPLAY statement for the arguments.
fn statement(arguments: &ReplayArguments) -> String {
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
