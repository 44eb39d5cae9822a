//! Random histories of files: appends, half lines, rotations, copies, truncations, and crashes in between.
//!
//! A writer numbers its lines. A reader is killed at any moment and continues from any cursor that it
//! delivered. Every line must come once and in order; one that a truncation removed may be missing, and
//! then there must be a gap.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::AsArray;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc;

use crate::conform::within;
use crate::options::Value;
use crate::scripted::{source_spec, start};
use crate::{Blueprint, Care, Cursor, Delivery, Item, SourceHandle};

/// The entry for a bad row among the lines seen.
const BAD: u64 = u64::MAX;
const HISTORIES: u64 = 12;
const ROUNDS: u32 = 8;

struct HistoryWriter {
    folder: tempfile::TempDir,
    rng: StdRng,
    /// Lines that have ended, so far.
    lines: u64,
    /// The part of the next line that was written.
    half: String,
    rotations: u32,
    /// Lines that have ended before the last truncation.
    lost: u64,
}

impl HistoryWriter {
    fn new(seed: u64) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            rng: StdRng::seed_from_u64(seed),
            lines: 0,
            half: String::new(),
            rotations: 0,
            lost: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&mut self, text: &str) {
        let mut how = OpenOptions::new();
        let mut log = how
            .append(true)
            .create(true)
            .open(self.path("log"))
            .unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    /// Ends the line that was begun, adds lines, perhaps begins another one.
    fn append(&mut self) {
        let count = match self.rng.random_range(0..10) {
            0 => 20_000,
            1..5 => 1,
            _ => self.rng.random_range(2..300),
        };
        let mut text = format!("{}\n", self.lines)[self.half.len()..].to_owned();
        self.half.clear();
        for line in self.lines + 1..self.lines + count {
            text += &format!("{line}\n");
        }
        self.lines += count;
        if self.rng.random_bool(0.3) {
            self.half = self.lines.to_string()[..1].to_owned();
            text += &self.half;
        }
        self.write(&text);
    }

    /// Ends the line, moves the log away; the next append makes another one.
    fn rotate(&mut self) {
        self.append();
        if !self.half.is_empty() {
            self.half.clear();
            let rest = format!("{}\n", self.lines)[1..].to_owned();
            self.lines += 1;
            self.write(&rest);
        }
        self.rotations += 1;
        fs::rename(
            self.path("log"),
            self.path(&format!("log.{}", self.rotations)),
        )
        .unwrap();
        self.append();
    }

    /// Another file with the same content takes its place, as an editor or a restore does.
    fn replace_by_copy(&mut self) {
        fs::copy(self.path("log"), self.path("copy")).unwrap();
        fs::rename(self.path("copy"), self.path("log")).unwrap();
    }

    fn truncate(&mut self) {
        self.half.clear();
        let how = OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(self.path("log"));
        how.unwrap();
        self.lost = self.lines;
    }
}

/// A reader, and what it has read.
struct HistoryReader {
    blueprint: Arc<dyn Blueprint>,
    running: Option<(SourceHandle, mpsc::Receiver<Item>)>,
    seen: Vec<u64>,
    /// Cursors, each with how many lines it covers; the first is none at all.
    cursors: Vec<(usize, Option<Cursor>)>,
    gaps: u32,
}

impl HistoryReader {
    fn new(writer: &HistoryWriter, pattern: &str) -> Self {
        let options = [
            ("exclude", "copy".into()),
            ("partial_timeout", "1 hour".into()),
            ("poll_interval", "10 ms".into()),
        ];
        Self {
            blueprint: Self::blueprint(writer, pattern, &options),
            running: None,
            seen: Vec::new(),
            cursors: vec![(0, None)],
            gaps: 0,
        }
    }

    fn blueprint(
        writer: &HistoryWriter,
        pattern: &str,
        options: &[(&str, Value)],
    ) -> Arc<dyn Blueprint> {
        let path = writer.path(pattern).display().to_string();
        let options = [&[("path", path.as_str().into())][..], options].concat();
        Arc::new(source_spec("file", &options, None).unwrap())
    }

    /// Continues from this cursor; what came after it never happened.
    fn start_from(&mut self, at: usize) {
        self.cursors.truncate(at + 1);
        let (covered, cursor) = self.cursors[at].clone();
        self.seen.truncate(covered);
        let handle = SourceHandle::new(self.blueprint.clone(), cursor, Care::default());
        let items = start(&handle);
        self.running = Some((handle, items));
    }

    async fn take(&mut self) {
        let (_, items) = self.running.as_mut().expect("it was started");
        let what = format!("an item after line {:?}", self.seen.last());
        let item = within(&what, items.recv()).await;
        match item.expect("it runs on") {
            Item::Rows(delivery) => self.see(delivery),
            Item::Gap(_) => self.gaps += 1,
            Item::Lifecycle(_) => {}
        }
    }

    fn see(&mut self, delivery: Delivery) {
        let rows = delivery.rows.column(0).as_string::<i32>().iter().flatten();
        self.seen.extend(delivery.bad.iter().map(|_| BAD));
        self.seen
            .extend(rows.map(|line| line.parse::<u64>().unwrap()));
        assert!(
            delivery.rows.num_rows() == 0 || delivery.cursor.is_some(),
            "rows come with the cursor that covers them"
        );
        if delivery.cursor.is_some() {
            self.cursors.push((self.seen.len(), delivery.cursor));
        }
    }

    async fn until_ended(&mut self) {
        let (_handle, mut items) = self.running.take().expect("it was started");
        while let Some(item) = within("the end", items.recv()).await {
            if let Item::Rows(delivery) = item {
                self.see(delivery);
            }
        }
    }

    async fn until(&mut self, line: u64) {
        while self.seen.last() != Some(&line) {
            self.take().await;
        }
    }

    /// Reads all, and keeps the last cursor only: an older one may know of none of the files that are
    /// not under the pattern any more.
    async fn settle(&mut self, writer: &HistoryWriter) {
        self.until(writer.lines - 1).await;
        self.cursors.drain(..self.cursors.len() - 1);
    }

    /// Is killed, perhaps after one more item, and starts again from one of the last cursors. Returns
    /// whether that one knows anything of what was in the log.
    async fn crash(
        &mut self,
        writer: &mut HistoryWriter,
        change: impl FnOnce(&mut HistoryWriter),
    ) -> bool {
        if writer.rng.random_bool(0.5) && self.seen.last() != Some(&(writer.lines - 1)) {
            self.take().await;
        }
        self.running = None;
        change(writer);
        let oldest = self.cursors.len().saturating_sub(4);
        let at = writer.rng.random_range(oldest..self.cursors.len());
        self.start_from(at);
        let Some(Cursor(cursor)) = &self.cursors[at].1 else {
            return false;
        };
        cursor["files"][0]["prefix"]["length"].as_u64() > Some(0)
    }
}

/// Rotations: one while the reader is down, or when all lines before it were read.
async fn rotations(seed: u64, pattern: &str) {
    let mut writer = HistoryWriter::new(seed);
    let mut reader = HistoryReader::new(&writer, pattern);
    reader.start_from(0);
    for _ in 0..ROUNDS {
        writer.append();
        match writer.rng.random_range(0..5) {
            0 => {
                reader.settle(&writer).await;
                writer.rotate();
            }
            1 => {
                reader.settle(&writer).await;
                reader.crash(&mut writer, HistoryWriter::rotate).await;
            }
            2 => drop(reader.crash(&mut writer, HistoryWriter::append).await),
            3 => drop(
                reader
                    .crash(&mut writer, HistoryWriter::replace_by_copy)
                    .await,
            ),
            _ => drop(reader.crash(&mut writer, |_| {}).await),
        }
        reader.until(writer.lines - 1).await;
    }
    let numbered = reader.seen.iter().copied().eq(0..writer.lines);
    assert!(numbered, "seed {seed}: {:?}", first_wrong(&reader.seen));
    assert_eq!(reader.gaps, 0, "seed {seed}");
}

fn first_wrong(seen: &[u64]) -> Option<&[u64]> {
    seen.windows(2).find(|pair| pair[0] + 1 != pair[1])
}

#[tokio::test]
async fn rotated_files_lose_nothing_and_repeat_nothing() {
    for seed in 0..HISTORIES {
        rotations(seed, "log").await;
        rotations(seed, "log*").await;
    }
}

#[tokio::test]
async fn what_a_truncation_took_is_a_gap_and_all_else_comes_once() {
    for seed in 0..HISTORIES {
        let mut writer = HistoryWriter::new(1_000 + seed);
        let mut reader = HistoryReader::new(&writer, "log");
        reader.start_from(0);
        let mut missing = 0;
        for _ in 0..ROUNDS {
            writer.append();
            let before = reader.gaps;
            let known = reader.crash(&mut writer, HistoryWriter::truncate).await;
            writer.append();
            reader.until(writer.lines - 1).await;
            let rising = reader.seen.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(rising, "seed {seed}: a line came twice");
            let now = writer.lines - reader.seen.len() as u64;
            let reported = reader.gaps > before || !known;
            assert!(now == missing || reported, "seed {seed}: no gap");
            missing = now;
        }
        let after = reader.seen.iter().filter(|line| **line >= writer.lost);
        assert_eq!(
            after.count() as u64,
            writer.lines - writer.lost,
            "seed {seed}"
        );
    }
}

#[tokio::test]
async fn where_reading_began_is_known_after_a_crash_that_came_before_any_row() {
    let mut writer = HistoryWriter::new(0);
    writer.write("old\n");
    let mut reader = HistoryReader::new(&writer, "log");
    let options = [("read_from", "end".into())];
    reader.blueprint = HistoryReader::blueprint(&writer, "log", &options);
    reader.start_from(0);
    while reader.cursors.len() < 2 {
        reader.take().await;
    }
    reader.running = None;
    writer.append();
    reader.start_from(1);
    reader.until(writer.lines - 1).await;
    assert!(reader.seen.iter().copied().eq(0..writer.lines));
}

#[tokio::test]
async fn a_successor_that_begins_like_the_file_before_it_is_read_from_its_start() {
    let mut writer = HistoryWriter::new(0);
    let mut reader = HistoryReader::new(&writer, "log");
    writer.write("1\n2\n");
    reader.start_from(0);
    reader.until(2).await;
    reader.running = None;
    fs::rename(writer.path("log"), writer.path("log.1")).unwrap();
    writer.write("1\n2\n3\n");
    reader.start_from(reader.cursors.len() - 1);
    reader.until(3).await;
    assert_eq!(reader.seen, [1, 2, 1, 2, 3]);
}

#[tokio::test]
async fn the_part_of_a_block_before_an_overlong_line_has_a_cursor_of_its_own() {
    let mut writer = HistoryWriter::new(0);
    writer.write("1\n2\n99999\r\n3\n99999\n");
    for policy in ["dlq", "drop", "truncate"] {
        let mut reader = HistoryReader::new(&writer, "log");
        let options = [
            ("max_frame", "4 B".into()),
            ("overlong", policy.into()),
            ("follow", false.into()),
        ];
        reader.blueprint = HistoryReader::blueprint(&writer, "log", &options);
        let expected: &[u64] = match policy {
            "truncate" => &[1, 2, 9_999, 3, 9_999],
            "dlq" => &[1, 2, BAD, 3, BAD],
            _ => &[1, 2, 3],
        };
        reader.start_from(0);
        reader.until_ended().await;
        let cursors = reader.cursors.clone();
        for at in 0..cursors.len() {
            (reader.cursors, reader.seen) = (cursors.clone(), expected.to_vec());
            reader.start_from(at);
            reader.until_ended().await;
            assert_eq!(reader.seen, expected, "{policy} from cursor {at}");
        }
        assert!(cursors.len() > 1);
    }
}

#[tokio::test]
async fn what_was_not_read_yet_is_the_lag() {
    let mut writer = HistoryWriter::new(0);
    let mut reader = HistoryReader::new(&writer, "log");
    reader.start_from(0);
    writer.append();
    reader.until(writer.lines - 1).await;
    let (handle, _items) = reader.running.as_ref().unwrap();
    let mut status = handle.watch();
    let read = status.wait_for(|status| status.lag_bytes == Some(0));
    within("a lag of 0", read).await.unwrap();
    // Nobody takes what is read: reading stops, and the file grows.
    for _ in 0..20 {
        let lines: String = (0..100_000).map(|line| format!("{line}\n")).collect();
        writer.write(&lines);
    }
    let behind = status.wait_for(|status| status.lag_bytes > Some(1_000_000));
    within("a lag of 1 MB", behind).await.unwrap();
}

#[tokio::test]
async fn the_order_of_rotated_files_survives_any_number_of_crashes() {
    /// Lines of the first file: more than are read until the second one is noticed.
    const FIRST: u64 = 1_200_000;
    let mut writer = HistoryWriter::new(0);
    let mut reader = HistoryReader::new(&writer, "log");
    let lines =
        |range: std::ops::Range<u64>| range.map(|line| format!("{line}\n")).collect::<String>();
    writer.write(&lines(0..FIRST));
    reader.start_from(0);
    reader.take().await;
    fs::rename(writer.path("log"), writer.path("log.1")).unwrap();
    writer.write(&lines(FIRST..FIRST + 10));
    let both = |reader: &HistoryReader| {
        let (_, cursor) = reader.cursors.last().unwrap();
        cursor
            .as_ref()
            .is_some_and(|Cursor(cursor)| cursor["files"][1].is_object())
    };
    while !both(&reader) {
        reader.take().await;
    }
    for _ in 0..3 {
        assert!(
            *reader.seen.last().unwrap() < FIRST - 100_000,
            "there is more of the first file"
        );
        reader.running = None;
        reader.start_from(reader.cursors.len() - 1);
        let seen = reader.seen.len();
        while reader.seen.len() == seen {
            reader.take().await;
        }
    }
    reader.until(FIRST + 9).await;
    let numbered = reader.seen.iter().copied().eq(0..FIRST + 10);
    assert!(numbered, "{:?}", first_wrong(&reader.seen));
}
