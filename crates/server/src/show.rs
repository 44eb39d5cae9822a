//! Finished results: a table on a terminal, one JSON object a line in a pipe.
//!
//! Nothing here uses `println!`, which panics when the standard output is full or closed.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use headwater::connect::shown::printable;

use crate::error::CliError;
use crate::lines::JsonLines;
use crate::terminal;

/// Prints the rows of a finished query.
pub fn print(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<(), CliError> {
    written(if io::stdout().is_terminal() {
        print_table(schema, batches)
    } else {
        print_lines(batches)
    })
}

/// Prints a text of our own, in which names may stand that others chose.
pub fn text(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout();
    let text = printable(text);
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The result of writing to the standard output; a closed pipe is no failure.
fn written(done: io::Result<()>) -> Result<(), CliError> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => {
            let failure = |error| CliError::runtime(format!("cannot show the results: {error}"));
            done.map_err(failure)
        }
    }
}

fn print_lines(batches: &[RecordBatch]) -> io::Result<()> {
    let out = Arc::new(Mutex::new(io::stdout()));
    let mut lines =
        JsonLines::new(out, None).map_err(|_| io::Error::other("there is no format json"))?;
    batches.iter().try_for_each(|batch| lines.write(batch))?;
    lines.flush()
}

fn print_table(schema: &SchemaRef, batches: &[RecordBatch]) -> io::Result<()> {
    let mut rows = Vec::new();
    for batch in batches {
        rows.extend(cells(batch, 0..batch.num_rows()).map_err(io::Error::other)?);
    }
    let out = io::stdout();
    let width = terminal::size(&out).columns;
    let table = table(schema, rows.iter(), width);
    let plural = if rows.len() == 1 { "" } else { "s" };
    writeln!(&out, "{table}\n({} row{plural})", rows.len())
}

/// A row whose values are formatted as text, one for each column.
pub type TextRow = Vec<String>;

/// Formats some rows of a batch as text.
pub fn cells(
    batch: &RecordBatch,
    rows: std::ops::Range<usize>,
) -> Result<Vec<TextRow>, ArrowError> {
    let options = FormatOptions::new()
        .with_timestamp_format(Some("%Y-%m-%d %H:%M:%S%.f"))
        .with_timestamp_tz_format(Some("%Y-%m-%d %H:%M:%S%.f%:::z"))
        .with_null("");
    let columns = batch.columns().iter();
    let columns = columns.map(|column| ArrayFormatter::try_new(column, &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let is_float: Vec<bool> = batch
        .columns()
        .iter()
        .map(|column| column.data_type().is_floating())
        .collect();
    let formatted = |column: usize, row: usize| -> Result<String, ArrowError> {
        let text = columns[column].value(row).try_to_string()?;
        Ok(if is_float[column] {
            rounded(text)
        } else {
            text
        })
    };
    let row = |row| {
        (0..columns.len())
            .map(|column| formatted(column, row))
            .collect()
    };
    rows.map(row).collect()
}

/// At most four decimals, unless the number is too small or too large for that.
fn rounded(text: String) -> String {
    match text.parse::<f64>() {
        Ok(value) if value == 0.0 || (1e-3..1e15).contains(&value.abs()) => {
            let fixed = format!("{value:.4}");
            fixed.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => text,
    }
}

/// A table at most `width` characters wide.
pub fn table<'a>(schema: &Schema, rows: impl Iterator<Item = &'a TextRow>, width: usize) -> Table {
    let mut table = Table::new();
    table
        .load_preset(UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(u16::MAX));
    table.set_header(schema.fields().iter().map(|field| cell(field.name())));
    for row in rows {
        table.add_row(row.iter().map(|text| cell(text)));
    }
    for (column, field) in table.column_iter_mut().zip(schema.fields()) {
        if field.data_type().is_numeric() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A text for a cell, in which line ends and tabs would tear the table.
fn cell(text: &str) -> Cell {
    Cell::new(printable(text).replace(['\n', '\t'], " "))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn floats_are_rounded() {
        let shown = |value: f64| rounded(value.to_string());
        assert_eq!(shown(0.1 + 0.2), "0.3");
        assert_eq!(shown(1234.0), "1234");
        assert_eq!(shown(-3.456_781_8), "-3.4568");
        assert_eq!(shown(0.0), "0");
        assert_eq!(shown(1.5e-7), "0.00000015");
        assert_eq!(rounded("NaN".to_owned()), "NaN");
    }

    #[test]
    fn instants_are_shown_with_their_zone() {
        let times = TimestampMicrosecondArray::from(vec![1_711_848_600_000_000]);
        let instants = times.clone().with_timezone("+00:00");
        let columns: [(_, ArrayRef); 2] = [("ts", Arc::new(times)), ("at", Arc::new(instants))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let shown = cells(&batch, 0..1).unwrap();
        assert_eq!(shown, [["2024-03-31 01:30:00", "2024-03-31 01:30:00+00"]]);
    }

    #[test]
    fn values_cannot_move_the_cursor() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a\x1b[2J\tb\nc\u{202e}d"]));
        let batch = RecordBatch::try_from_iter([("n\x1bame", column)]).unwrap();
        let rows = cells(&batch, 0..1).unwrap();
        let drawn = table(&batch.schema(), rows.iter(), 80).to_string();
        assert!(drawn.contains("a\u{fffd}[2J b c\u{fffd}d"), "{drawn}");
        assert!(drawn.contains("n\u{fffd}ame"), "{drawn}");
    }
}
