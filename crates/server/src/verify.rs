//! `headwater verify`: reads everything in a data folder, and says what each damaged thing would cost.
//!
//! Nothing is changed. A folder that a program uses is refused.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use headwater::folder::{Finding, verify};

use crate::error::{self, CliError};
use crate::show;

#[derive(clap::Args)]
pub struct VerifyArguments {
    /// The data folder of a pipeline that is not running
    #[arg(value_name = "DATA")]
    folder: PathBuf,
}

/// Prints a line if the folder is whole; else a row for each damaged thing, and fails.
pub fn run(arguments: &VerifyArguments) -> Result<(), CliError> {
    let report = verify(&arguments.folder).map_err(CliError::runtime)?;
    let folder = arguments.folder.display();
    for log in &report.strange {
        error::print_error(&format!("warning: {log}"));
    }
    if report.findings.is_empty() {
        let checkpoint = report.checkpoint.unwrap_or(0);
        let (logs, rows) = report.logs;
        return show::text(&format!(
            "ok     {folder}: checkpoint {checkpoint}, logs: {logs}, rows in them: {rows}\n"
        ));
    }
    let found = table(&report.findings).map_err(CliError::runtime)?;
    show::print(&found.schema(), std::slice::from_ref(&found))?;
    let count = report.findings.len();
    let start = match report.checkpoint {
        Some(checkpoint) => format!("checkpoint {checkpoint} is whole"),
        None => "no checkpoint is whole".to_owned(),
    };
    Err(CliError::runtime(format!(
        "{folder} is damaged, findings: {count}; {start}"
    )))
}

fn table(findings: &[Finding]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let column = |of: fn(&Finding) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(findings.iter().map(of)))
    };
    RecordBatch::try_from_iter([
        ("file", column(|it| &it.file)),
        ("problem", column(|it| &it.problem)),
        ("cost", column(|it| &it.cost)),
    ])
}
