//! Results on a terminal: panels that are drawn over in place.
//!
//! A thread of its own looks ten times a second whether something has come, and then draws everything
//! anew: up over what it drew before, and down again. Log lines go above. Nothing is drawn while
//! nothing changes, except the line at the bottom once a second.

use std::io::{self, Write};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use headwater::{Db, Event, Outcome, Subscription};

use crate::log::Hold;
use crate::panel::Panel;
use crate::terminal::{self, Size};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// How often the bottom line is renewed, and queries that end are asked again.
const RENEW: Duration = Duration::from_secs(1);

/// Stands at the end of the bottom line as long as it is true.
const HOW_TO_END: &str = " | Ctrl-C ends";

/// Everything that is shown.
pub struct Screen {
    db: Db,
    panels: Vec<(Panel, Feed)>,
    hold: Hold,
    began: Instant,
    /// Lines drawn last, which the next drawing replaces.
    drawn: usize,
}

/// Where the rows of a panel come from.
enum Feed {
    Rows(Subscription),
    /// A query that ends, asked again and again.
    Query(String),
}

impl Screen {
    /// A screen without panels. From now on the log is held back.
    pub fn new(db: Db) -> Self {
        Self {
            db,
            panels: Vec::new(),
            hold: Hold::new(),
            began: Instant::now(),
            drawn: 0,
        }
    }

    /// Shows what a subscription brings.
    pub fn subscription(&mut self, name: &str, rows: Subscription) {
        let panel = Panel::new(name, rows.schema());
        self.panels.push((panel, Feed::Rows(rows)));
    }

    /// Shows the answer to a query as it is now.
    pub fn query(&mut self, text: &str) -> headwater::Result<()> {
        let name = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for outcome in self.db.execute(text)? {
            if let Outcome::Rows { schema, .. } = outcome {
                let feed = Feed::Query(text.to_owned());
                self.panels.push((Panel::new(&name, &schema), feed));
            }
        }
        Ok(())
    }

    /// Draws until the subscriptions have ended and `is_over` says so. Blocks.
    pub fn run(mut self, is_over: impl Fn() -> bool) -> io::Result<()> {
        let mut renewed: Option<Instant> = None;
        let mut bottom = String::new();
        loop {
            // Asked first: what came before it became true is still drawn.
            let over = is_over();
            let mut changed = self.take_rows();
            if over || renewed.is_none_or(|at| at.elapsed() >= RENEW) {
                renewed = Some(Instant::now());
                self.ask_queries();
                bottom = self.bottom().unwrap_or(bottom);
                changed = true;
            }
            if changed {
                let hint = if over { "" } else { HOW_TO_END };
                self.draw(&format!("{bottom}{hint}"))?;
            }
            if over && self.ended() {
                return Ok(());
            }
            park_timeout(LOOK);
        }
    }

    fn ended(&self) -> bool {
        self.panels.iter().all(|(_, feed)| match feed {
            Feed::Rows(rows) => rows.is_ended(),
            Feed::Query(_) => true,
        })
    }

    /// Takes what has come; true if something has.
    fn take_rows(&mut self) -> bool {
        let mut changed = false;
        for (panel, feed) in &mut self.panels {
            let Feed::Rows(rows) = feed else { continue };
            // A query that failed is told of when the pipeline ends.
            while let Ok(Some(event)) = rows.try_next() {
                changed = true;
                match event {
                    Event::Rows(batch) => {
                        if let Err(error) = panel.apply(&batch) {
                            tracing::warn!(%error, "rows cannot be shown");
                        }
                    }
                    Event::Missed { rows } | Event::Gap { rows, .. } => panel.missed(rows),
                }
            }
        }
        changed
    }

    fn ask_queries(&mut self) {
        for (panel, feed) in &mut self.panels {
            let Feed::Query(text) = feed else { continue };
            // Once the database is closed the last answer stays.
            if let Ok(answer) = self.db.query(text)
                && let Err(error) = panel.replace(&answer)
            {
                tracing::warn!(%error, "rows cannot be shown");
            }
        }
    }

    /// How the sources are doing; `None` once the database is closed.
    fn bottom(&self) -> Option<String> {
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

    fn draw(&mut self, bottom: &str) -> io::Result<()> {
        let mut out = io::stdout();
        let size = terminal::size(&out);
        let lines = layout(self.panels.iter().map(|(panel, _)| panel), bottom, size);
        let mut text = Vec::new();
        if self.drawn > 0 {
            write!(text, "\x1b[{}A", self.drawn)?;
        }
        text.extend_from_slice(b"\r\x1b[J");
        text.extend_from_slice(&self.hold.take());
        for line in &lines {
            writeln!(text, "{line}")?;
        }
        self.drawn = lines.len();
        out.write_all(&text)?;
        out.flush()
    }
}

/// All lines of a drawing: it leaves one line of the terminal free, and no line is wider than it.
fn layout<'a>(
    panels: impl ExactSizeIterator<Item = &'a Panel>,
    bottom: &str,
    size: Size,
) -> Vec<String> {
    let room = size.rows.saturating_sub(2);
    let each = room / panels.len().max(1);
    let drawn = panels.flat_map(|panel| panel.draw(size.columns, each));
    let mut lines: Vec<String> = drawn.take(room).collect();
    lines.push(bottom.to_owned());
    for line in &mut lines {
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
                let size = Size { columns, rows };
                let lines = layout(panels.iter(), "0:01 | Ctrl-C ends", size);
                assert!(lines.len() < rows.max(2), "{rows}: {lines:?}");
                assert!(lines.iter().all(|line| line.chars().count() <= columns));
            }
        }
    }
}
