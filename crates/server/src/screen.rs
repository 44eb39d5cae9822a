//! Results on a terminal: panels that are redrawn in place.
//!
//! A thread checks ten times a second for new rows. If there are any it moves the cursor up over the last
//! drawing and draws everything again, log lines above. Without new rows it redraws once a second, for
//! the status line at the bottom.

use std::io::{self, Write};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use headwater::connect::shown::printable;
use headwater::{Db, Event, Outcome, Subscription};

use crate::log::LogBuffer;
use crate::panel::Panel;
use crate::terminal::{self, TerminalSize};

/// Time between two checks for new rows.
const POLL: Duration = Duration::from_millis(100);
/// Time between two updates of the status line and of the results of SELECT.
const REFRESH: Duration = Duration::from_secs(1);

/// The end of the status line while Ctrl-C still works.
const HOW_TO_END: &str = " | Ctrl-C ends";

pub struct Screen {
    db: Db,
    panels: Vec<(Panel, PanelInput)>,
    log: LogBuffer,
    began: Instant,
    /// Number of lines of the last drawing, which the next one replaces.
    drawn: usize,
}

/// Where the rows of a panel come from.
enum PanelInput {
    Rows(Subscription),
    /// A SELECT, run once a second.
    Query(String),
}

impl Screen {
    /// A screen without panels; it holds the log back from now on.
    pub fn new(db: Db) -> Self {
        Self {
            db,
            panels: Vec::new(),
            log: LogBuffer::new(),
            began: Instant::now(),
            drawn: 0,
        }
    }

    /// Adds a panel for the rows of a subscription.
    pub fn subscription(&mut self, name: &str, rows: Subscription) {
        let panel = Panel::new(name, rows.schema());
        self.panels.push((panel, PanelInput::Rows(rows)));
    }

    /// Adds a panel for the current result of a SELECT.
    pub fn query(&mut self, text: &str) -> headwater::Result<()> {
        let name = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for outcome in self.db.execute(text)? {
            if let Outcome::Rows { schema, .. } = outcome {
                let feed = PanelInput::Query(text.to_owned());
                self.panels.push((Panel::new(&name, &schema), feed));
            }
        }
        Ok(())
    }

    /// Draws until the subscriptions have ended and `is_over` returns true. Blocks.
    pub fn run(mut self, is_over: impl Fn() -> bool) -> io::Result<()> {
        let mut refreshed: Option<Instant> = None;
        let mut status = String::new();
        loop {
            // Read first, so that rows that came before the end are still drawn.
            let over = is_over();
            let mut changed = self.take_rows();
            if over || refreshed.is_none_or(|at| at.elapsed() >= REFRESH) {
                refreshed = Some(Instant::now());
                self.run_queries();
                status = self.status().unwrap_or(status);
                changed = true;
            }
            if changed {
                let hint = if over { "" } else { HOW_TO_END };
                self.draw(&format!("{status}{hint}"))?;
            }
            if over && self.ended() {
                return Ok(());
            }
            park_timeout(POLL);
        }
    }

    fn ended(&self) -> bool {
        self.panels.iter().all(|(_, feed)| match feed {
            PanelInput::Rows(rows) => rows.is_ended(),
            PanelInput::Query(_) => true,
        })
    }

    /// Passes new rows to their panels; true if there were any.
    fn take_rows(&mut self) -> bool {
        let mut changed = false;
        for (panel, feed) in &mut self.panels {
            let PanelInput::Rows(rows) = feed else {
                continue;
            };
            // `run` reports a failed query when the pipeline ends.
            while let Ok(Some(event)) = rows.try_next() {
                changed = true;
                match event {
                    Event::Rows(batch) => {
                        if let Err(error) = panel.apply(&batch) {
                            tracing::warn!(%error, "cannot show rows");
                        }
                    }
                    Event::Missed { rows } | Event::Gap { rows, .. } => panel.missed(rows),
                }
            }
        }
        changed
    }

    fn run_queries(&mut self) {
        for (panel, feed) in &mut self.panels {
            let PanelInput::Query(text) = feed else {
                continue;
            };
            // Once the database is closed the last result stays.
            if let Ok(answer) = self.db.query(text)
                && let Err(error) = panel.replace(&answer)
            {
                tracing::warn!(%error, "cannot show rows");
            }
        }
    }

    /// The time since the start and the state of each source; `None` once the database is closed.
    fn status(&self) -> Option<String> {
        let seconds = self.began.elapsed().as_secs();
        let mut parts = vec![format!("{}:{:02}", seconds / 60, seconds % 60)];
        for outcome in self.db.execute("SHOW SOURCES").ok()? {
            let Outcome::Rows { batches, .. } = outcome else {
                continue;
            };
            for batch in batches {
                let text = |name| batch.column_by_name(name).map(|it| it.as_string::<i32>());
                let number = |name: &str, row: usize| {
                    let column = batch.column_by_name(name)?;
                    Some(column.as_primitive::<Int64Type>().value(row)).filter(|it| *it > 0)
                };
                let (names, states) = (text("name")?, text("state")?);
                for row in 0..batch.num_rows() {
                    let rows = number("rows", row).unwrap_or(0);
                    let mut part =
                        format!("{} {}, {rows} rows", names.value(row), states.value(row));
                    for what in ["bad", "dropped", "gaps"] {
                        if let Some(count) = number(what, row) {
                            part += &format!(", {count} {what}");
                        }
                    }
                    parts.push(part);
                }
            }
        }
        Some(parts.join(" | "))
    }

    fn draw(&mut self, status: &str) -> io::Result<()> {
        let mut out = io::stdout();
        let size = terminal::size(&out);
        let lines = layout(self.panels.iter().map(|(panel, _)| panel), status, size);
        let mut text = Vec::new();
        if self.drawn > 0 {
            write!(text, "\x1b[{}A", self.drawn)?;
        }
        text.extend_from_slice(b"\r\x1b[J");
        text.extend_from_slice(&self.log.take());
        for line in &lines {
            writeln!(text, "{line}")?;
        }
        self.drawn = lines.len();
        out.write_all(&text)?;
        out.flush()
    }
}

/// The lines of a drawing: one fewer than the terminal has, none wider than it.
fn layout<'a>(
    panels: impl ExactSizeIterator<Item = &'a Panel>,
    status: &str,
    size: TerminalSize,
) -> Vec<String> {
    let room = size.rows.saturating_sub(2);
    let each = room / panels.len().max(1);
    let drawn = panels.flat_map(|panel| panel.draw(size.columns, each));
    let mut lines: Vec<String> = drawn.take(room).collect();
    lines.push(status.to_owned());
    for line in &mut lines {
        // Headings and the status line name what the user named.
        *line = printable(line).replace(['\n', '\t'], " ");
        if let Some((at, _)) = line.char_indices().nth(size.columns) {
            line.truncate(at);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    #[test]
    fn a_drawing_fits_the_terminal() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let batch = RecordBatch::try_from_iter([("number", column)]).unwrap();
        let mut panels = [
            Panel::new("a", &batch.schema()),
            Panel::new("b", &batch.schema()),
        ];
        panels[0].apply(&batch).unwrap();
        for rows in 1..40 {
            for columns in [1, 10, 80] {
                let size = TerminalSize { columns, rows };
                let lines = layout(panels.iter(), "0:01 | Ctrl-C ends", size);
                assert!(lines.len() < rows.max(2), "{rows}: {lines:?}");
                assert!(lines.iter().all(|line| line.chars().count() <= columns));
            }
        }
    }
}
