//! Files that are gone and come back: a late mount, a folder that was moved away and back.
//!
//! Lines that were read must not come again, lines that were added must come, and another file in their
//! place is read whole. Each disappearance is reported once, and the number of positions kept is bounded.

use std::fs;

use super::bench::Bench;
use crate::Cursor;
use crate::connectors::file::cursor::FileCursor;

/// A source that follows `in/a`, of which it has read two lines.
async fn two_lines_read() -> Bench {
    let mut bench = Bench::new("in/a", &[("poll_interval", "10 ms".into())]);
    fs::create_dir(bench.path("in")).unwrap();
    bench.append("in/a", "1\n2\n");
    bench.start();
    bench.expect(&["a: 1", "a: 2"]).await;
    bench
}

const GAP: &str = "gap: in/a is gone: lines added since it was last read may be lost";
const BACK: &str = "in/a is back: reading continues after 4 bytes";

impl Bench {
    fn saved_files(&self, which: &str) -> usize {
        let cursor = self.cursor.as_ref().map(|Cursor(cursor)| &cursor[which]);
        let files = cursor.and_then(|files| files.as_array());
        files.map_or(0, Vec::len)
    }

    /// The folder is moved away, or its file removed, and the source has given the file up.
    async fn given_up(&mut self) {
        while self.saved_files("files") > 0 {
            self.take().await;
        }
        self.expect(&["in/a was removed"]).await;
    }

    /// Starts again, scans once and stops.
    async fn look_once(&mut self) {
        self.restart_from_cursor();
        self.running().await;
        self.stop().await;
    }
}

#[tokio::test]
async fn a_file_that_was_absent_at_a_start_is_read_on_when_it_is_back() {
    let mut bench = two_lines_read().await;
    bench.stop().await;
    bench.rename("in", "in2");
    bench.look_once().await;
    bench.expect(&[GAP]).await;
    // A gap is reported once, however often the source starts without the file.
    bench.look_once().await;
    assert!(bench.shown.is_empty(), "{:?}", bench.shown);
    bench.rename("in2", "in");
    bench.append("in/a", "3\n");
    bench.restart_from_cursor();
    bench.expect(&[BACK, "a: 3"]).await;
    bench.stop().await;
    // That it was back is known: it is gone a second time.
    bench.rename("in", "in2");
    bench.look_once().await;
    bench.expect(&[GAP]).await;
}

#[tokio::test]
async fn a_file_that_comes_late_is_read_on_without_another_start() {
    let mut bench = two_lines_read().await;
    bench.stop().await;
    bench.rename("in", "in2");
    bench.restart_from_cursor();
    bench.expect(&[GAP]).await;
    bench.running().await;
    // Restored from a copy: another node, the same path and first bytes.
    fs::create_dir(bench.path("in")).unwrap();
    fs::copy(bench.path("in2/a"), bench.path("a")).unwrap();
    bench.append("a", "3\n");
    bench.rename("a", "in/a");
    bench.expect(&[BACK, "a: 3"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_file_that_is_gone_for_long_is_read_on_when_it_is_back() {
    let mut bench = two_lines_read().await;
    bench.rename("in", "in2");
    bench.given_up().await;
    bench.rename("in2", "in");
    bench.expect(&[BACK]).await;
    // That it is back is known after a crash as well, also if nothing more comes.
    while bench.saved_files("gone") > 0 {
        bench.take().await;
    }
    bench.append("in/a", "3\n");
    bench.expect(&["a: 3"]).await;
    bench.stop().await;
    assert_eq!(
        (bench.saved_files("files"), bench.saved_files("gone")),
        (1, 0)
    );
}

#[tokio::test]
async fn a_file_that_is_gone_for_long_is_read_on_after_a_restart() {
    let mut bench = two_lines_read().await;
    bench.rename("in", "in2");
    bench.given_up().await;
    bench.stop().await;
    bench.rename("in2", "in");
    bench.append("in/a", "3\n");
    bench.restart_from_cursor();
    bench.expect(&[BACK, "a: 3"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn another_file_in_the_place_of_one_that_was_absent_is_read_whole() {
    let mut bench = two_lines_read().await;
    bench.stop().await;
    bench.rename("in", "in2");
    bench.look_once().await;
    bench.expect(&[GAP]).await;
    fs::create_dir(bench.path("in")).unwrap();
    bench.append("in/a", "one\ntwo\n");
    bench.restart_from_cursor();
    bench.expect(&["a: one", "a: two"]).await;
    // The one that was there is still known, by its node.
    bench.stop().await;
    bench.rename("in", "in3");
    bench.rename("in2", "in");
    bench.append("in/a", "3\n");
    bench.restart_from_cursor();
    bench.expect(&[BACK, GAP, "a: 3"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn another_file_in_the_place_of_one_that_was_moved_away_is_read_whole() {
    let mut bench = two_lines_read().await;
    bench.rename("in", "done");
    bench.given_up().await;
    // The next delivery begins like the last one.
    fs::create_dir(bench.path("in")).unwrap();
    bench.append("a", "1\n2\nmore\n");
    bench.rename("a", "in/a");
    bench.expect(&["a: 1", "a: 2", "a: more"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_file_that_was_removed_does_not_come_back() {
    let mut bench = two_lines_read().await;
    fs::remove_file(bench.path("in/a")).unwrap();
    bench.given_up().await;
    assert_eq!(bench.saved_files("gone"), 0);
    // Perhaps with the same inode.
    bench.append("a", "1\n2\n");
    bench.rename("a", "in/a");
    bench.expect(&["a: 1", "a: 2"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_bounded_number_of_positions_is_kept() {
    let mut bench = Bench::new("in/{a,b}*", &[]);
    // A missing folder would be a failure, in which nothing is known of its files.
    fs::create_dir_all(bench.path("in")).unwrap();
    fs::create_dir_all(bench.path("empty")).unwrap();
    for number in 0..300 {
        bench.append(&format!("in/a{number}"), "line\n");
    }
    bench.start();
    bench.take_until(300).await;
    bench.shown.clear();
    bench.stop().await;
    bench.rename("in", "away");
    bench.rename("empty", "in");
    bench.restart_from_cursor();
    while bench.shown.len() < 300 || bench.saved_files("files") > 0 {
        bench.take().await;
    }
    assert!(bench.shown.iter().all(|line| line.starts_with("gap: ")));
    assert_eq!(bench.saved_files("gone"), 64);
    bench.shown.clear();
    bench.stop().await;
    bench.rename("in", "empty");
    bench.rename("away", "in");
    bench.append("in/b", "last\n");
    bench.restart_from_cursor();
    bench.take_until(301).await;
    let back = bench.shown.iter().filter(|line| line.contains(" is back"));
    assert_eq!(back.count(), 64);
    bench.stop().await;
    assert_eq!(bench.shown.len(), 301, "the other 236 are read again, once");
}

#[test]
fn cursors_of_older_versions_are_read() {
    let cursor = serde_json::json!({"files": [{
        "path": "/a", "device": 1, "inode": 2, "position": 4, "prefix": {"length": 4, "hash": 5},
    }]});
    let cursor: FileCursor = Cursor(cursor).read().unwrap();
    assert_eq!((cursor.files.len(), cursor.gone.len()), (1, 0));
}
