//! The expected contents of the files, computed from the row numbers without the engine.
//!
//! Row number `seq` has the key `k<seq % 5>`, and its number also determines its event time. So the file
//! of rows is a prefix of one known text, and a window's count and sum follow from the numbers in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use crate::support::with_input;

/// Number of keys.
const KEYS: u64 = 5;
/// Disorder of event time in the file, microseconds; less than the watermark's delay.
const JITTER_US: u64 = 50_000;
/// The watermark's delay, microseconds.
const DELAY_US: u64 = 100_000;
/// An undecodable line comes before each row whose number is a multiple of this.
const BAD_EVERY: u64 = 50;
/// The length of a window, microseconds.
const WINDOW_US: u64 = 1_000_000;

/// Where the rows come from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input {
    /// A file that grows, with this `wal_mode`; some of its lines are undecodable.
    File(&'static str),
    /// The `generate` connector.
    Generate,
}

/// The result of a window for one key: count, and sum of the numbers.
type Group = (u64, u64);

impl Input {
    pub fn sql(self, folder: &Path) -> String {
        let path = |name: &str| folder.join(name).display().to_string();
        let source = match self {
            Self::File(wal_mode) => format!(
                "CREATE SOURCE events (seq BIGINT NOT NULL, key VARCHAR NOT NULL, ts TIMESTAMP NOT NULL,
                    WATERMARK FOR ts AS ts - INTERVAL '100 milliseconds')
                WITH (connector = 'file', path = '{}', format = 'json', partial_timeout = '5 minutes',
                    checkpoint_interval = '50 ms', wal_mode = '{wal_mode}');
                CREATE STREAM faults AS SELECT CAST(bytes AS VARCHAR) AS line FROM events__bad;
                CREATE SINK bad FROM faults WITH (connector = 'file', path = '{}', format = 'json');",
                path("in.ndjson"),
                path("bad.ndjson")
            ),
            Self::Generate => "CREATE SOURCE made (seq BIGINT NOT NULL, ts TIMESTAMP NOT NULL,
                    WATERMARK FOR ts AS ts - INTERVAL '100 milliseconds')
                WITH (connector = 'generate', rows_per_second = 2000, checkpoint_interval = '50 ms',
                    start_time = '2026-01-01T00:00:00Z');
                CREATE STREAM events AS
                    SELECT seq, 'k' || CAST(seq % 5 AS VARCHAR) AS key, ts FROM made;"
                .to_owned(),
        };
        format!(
            "{source}
            CREATE STREAM passed AS SELECT seq, key FROM events;
            CREATE SINK rows FROM passed WITH (connector = 'file', path = '{}', format = 'json');
            CREATE STREAM seconds AS SELECT window_start, key, COUNT(*) AS n, SUM(seq) AS total
                FROM events GROUP BY TUMBLE(ts, INTERVAL '1 second'), key;
            CREATE SINK windows FROM seconds WITH (connector = 'file', path = '{}', format = 'json');
            CREATE VIEW totals AS SELECT key, COUNT(*) AS n, SUM(seq) AS total FROM events GROUP BY key;",
            path("rows.ndjson"),
            path("windows.ndjson")
        )
    }

    /// The event time of a row, in microseconds after the first.
    fn event_us(self, seq: u64) -> u64 {
        match self {
            Self::File(_) => seq * 1_000 + seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) % JITTER_US,
            Self::Generate => seq * 500,
        }
    }
}

/// A line of the input file, with an undecodable line before it if it has one.
pub fn line(seq: u64) -> String {
    let us = Input::File("").event_us(seq);
    let (s, key) = (us / 1_000_000, seq % KEYS);
    let (h, m, s, us) = (s / 3_600, s / 60 % 60, s % 60, us % 1_000_000);
    let bad = match seq % BAD_EVERY {
        0 => format!("no row {seq}\n"),
        _ => String::new(),
    };
    format!(
        "{bad}{{\"seq\": {seq}, \"key\": \"k{key}\", \"ts\": \"2026-01-01T{h:02}:{m:02}:{s:02}.{us:06}Z\"}}\n"
    )
}

pub struct Truth {
    input: Input,
    known: Mutex<Known>,
}

/// The expected contents, as far as they were computed.
#[derive(Default)]
struct Known {
    rows: u64,
    text: Vec<u8>,
    /// The position in the text at which each row ends.
    ends: Vec<u64>,
    windows: HashMap<(u64, String), Group>,
}

impl Known {
    fn grow(&mut self, input: Input, rows: u64) {
        for seq in self.rows..rows {
            let key = format!("k{}", seq % KEYS);
            writeln!(self.text, "{{\"seq\":{seq},\"key\":\"{key}\"}}").unwrap();
            self.ends.push(self.text.len() as u64);
            let window = input.event_us(seq) / WINDOW_US;
            let group = self.windows.entry((window, key)).or_default();
            *group = (group.0 + 1, group.1 + seq);
        }
        self.rows = self.rows.max(rows);
    }
}

impl Truth {
    pub fn new(input: Input) -> Self {
        Self {
            input,
            known: Mutex::default(),
        }
    }

    fn known(&self, rows: u64) -> std::sync::MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap();
        known.grow(self.input, rows);
        known
    }

    /// Number of complete rows in a file of this length.
    pub fn rows_in(&self, bytes: u64) -> u64 {
        let mut rows = 4_096;
        let mut known = self.known(rows);
        while known.text.len() as u64 <= bytes {
            rows *= 2;
            known.grow(self.input, rows);
        }
        known.ends.partition_point(|end| *end <= bytes) as u64
    }

    /// The file must be a prefix of the expected text; returns its number of complete rows.
    pub fn check_rows(&self, found: &[u8]) -> Result<u64, String> {
        let rows = self.rows_in(found.len() as u64);
        let known = self.known(0);
        if known.text.starts_with(found) {
            return Ok(rows);
        }
        let same = found.iter().zip(&known.text).take_while(|(a, b)| a == b);
        let same = same.count();
        let line_of = |text: &[u8]| {
            let start = text[..same]
                .iter()
                .rposition(|it| *it == b'\n')
                .map_or(0, |at| at + 1);
            let end = text[same..].iter().position(|it| *it == b'\n');
            let end = end.map_or(text.len(), |at| same + at);
            String::from_utf8_lossy(&text[start..end]).into_owned()
        };
        let (is, should) = (line_of(found), line_of(&known.text));
        Err(format!(
            "the line at byte {same} of the rows is {is:?}, and should be {should:?}"
        ))
    }

    /// Each window must be there once with the right values; returns their number.
    pub fn check_windows(&self, found: &[u8]) -> Result<u64, String> {
        let mut seen = BTreeMap::<u64, BTreeSet<String>>::new();
        let whole = found
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for line in found[..whole]
            .split(|byte| *byte == b'\n')
            .filter(|it| !it.is_empty())
        {
            let text = String::from_utf8_lossy(line).into_owned();
            let (window, key, group) = read_window(line).ok_or(format!("{text} is no window"))?;
            // Rows are at least 500 us apart, so this includes all rows of the window.
            let known = self.known((window + 2) * WINDOW_US / 500);
            let truth = known.windows.get(&(window, key.clone()));
            if truth != Some(&group) {
                return Err(format!("{text} should have count and sum {truth:?}"));
            }
            if !seen.entry(window).or_default().insert(key) {
                return Err(format!("{text} is there twice"));
            }
        }
        let last = seen.keys().next_back().copied().unwrap_or(0);
        let count: usize = seen.values().map(BTreeSet::len).sum();
        for window in 0..last {
            if seen.get(&window).map_or(0, BTreeSet::len) as u64 != KEYS {
                return Err(format!("window {window} is missing, or part of it"));
            }
        }
        Ok(count as u64)
    }

    /// The bad rows must be the first ones of the input; returns their number.
    pub fn check_bad(&self, found: &[u8]) -> Result<u64, String> {
        let whole = found.split_inclusive(|byte| *byte == b'\n');
        let whole = whole.filter(|line| line.ends_with(b"\n")).zip(0..);
        let mut count = 0;
        for (line, number) in whole {
            let should = format!("{{\"line\":\"no row {}\"}}\n", number * BAD_EVERY);
            if line != should.as_bytes() {
                let is = String::from_utf8_lossy(line);
                return Err(format!(
                    "bad row {number} is {is:?}, and should be {should:?}"
                ));
            }
            count += 1;
        }
        Ok(count)
    }

    /// Number of bad lines among this many rows.
    pub fn bad_of(&self, rows: u64) -> u64 {
        match self.input {
            Input::File(_) => rows.div_ceil(BAD_EVERY),
            Input::Generate => 0,
        }
    }

    /// Number of windows that have closed after this many rows.
    pub fn windows_of(&self, rows: u64) -> u64 {
        let latest = (0..rows).map(|seq| self.input.event_us(seq)).max();
        latest.unwrap_or(0).saturating_sub(DELAY_US) / WINDOW_US * KEYS
    }

    /// The number of lost and of duplicated rows in a file that should have `rows`.
    pub fn count(&self, file: &Path, rows: u64) -> (u64, u64) {
        let text = std::fs::read_to_string(file).unwrap();
        let mut times = vec![0_u64; rows as usize];
        for line in text.lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            times[row["seq"].as_u64().unwrap() as usize] += 1;
        }
        let lost = times.iter().filter(|times| **times == 0).count() as u64;
        let duplicated = times.iter().map(|times| times.saturating_sub(1)).sum();
        (lost, duplicated)
    }

    /// The view in the data folder counts all rows.
    pub fn check_totals(&self, folder: &Path, rows: u64) {
        let data = folder.join("data").display().to_string();
        let query = "SELECT key, n, total FROM totals ORDER BY key;";
        let (_, answer, _) = with_input(&["sql", "--data", &data], query);
        let mut found = answer
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        for key in 0..KEYS {
            let row = found
                .next()
                .unwrap_or_else(|| panic!("no key k{key}: {answer}"));
            let numbers = (0..rows).filter(|seq| seq % KEYS == key);
            let (n, total) = numbers.fold((0, 0), |(n, total), seq| (n + 1, total + seq));
            assert_eq!(row["key"], format!("k{key}"));
            match self.input {
                Input::File(_) => {
                    assert_eq!((&row["n"], &row["total"]), (&n.into(), &total.into()))
                }
                // The source goes on making rows.
                Input::Generate => assert!(row["n"].as_u64().unwrap() >= n, "{row} {n}"),
            }
        }
    }
}

fn read_window(line: &[u8]) -> Option<(u64, String, Group)> {
    let row: Value = serde_json::from_slice(line).ok()?;
    let start = row["window_start"].as_str()?.strip_prefix("2026-01-01T")?;
    let mut parts = start.strip_suffix('Z')?.split(':');
    let mut part = || parts.next()?.parse::<u64>().ok();
    let seconds = part()? * 3_600 + part()? * 60 + part()?;
    let group = (row["n"].as_u64()?, row["total"].as_u64()?);
    Some((seconds, row["key"].as_str()?.to_owned(), group))
}
