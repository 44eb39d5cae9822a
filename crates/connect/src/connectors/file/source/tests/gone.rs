//! Files that are gone and come back: a mount that is late, a folder that was moved away and back.
//!
//! What was read of them must not come again, what was added must come, and another file in their
//! place is read whole. Each disappearance is told once, and what is kept is bounded.

use super::*;

/// A source that follows `in/a`, of which it has read two lines.
async fn two_lines_read() -> Bench {
    let mut bench = Bench::new("in/a", &[("poll_interval", "10 ms".into())]);
    fs::create_dir(bench.path("in")).unwrap();
    bench.append("in/a", "1\n2\n");
    bench.start();
    bench.expect(&["a: 1", "a: 2"]).await;
    bench
}

const GAP: &str = "gap: in/a is gone: what was added to it since is not known";
const BACK: &str = "in/a is back, and read on after 4 bytes";

impl Bench {
    fn places(&self, which: &str) -> usize {
        let cursor = self.cursor.as_ref().map(|Cursor(cursor)| &cursor[which]);
        let places = cursor.and_then(|places| places.as_array());
        places.map_or(0, Vec::len)
    }

    /// The folder is moved away, or its file removed, and the source has given the file up.
    async fn given_up(&mut self) {
        while self.places("files") > 0 {
            self.take().await;
        }
        self.expect(&["in/a was removed"]).await;
    }

    /// Starts anew and stops when all files were looked for.
    async fn look_once(&mut self) {
        self.start_anew();
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
    // A gap is told once, however often one starts without the file.
    bench.look_once().await;
    assert!(bench.shown.is_empty(), "{:?}", bench.shown);
    bench.rename("in2", "in");
    bench.append("in/a", "3\n");
    bench.start_anew();
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
    bench.start_anew();
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
    while bench.places("gone") > 0 {
        bench.take().await;
    }
    bench.append("in/a", "3\n");
    bench.expect(&["a: 3"]).await;
    bench.stop().await;
    assert_eq!((bench.places("files"), bench.places("gone")), (1, 0));
}

#[tokio::test]
async fn a_file_that_is_gone_for_long_is_read_on_after_a_restart() {
    let mut bench = two_lines_read().await;
    bench.rename("in", "in2");
    bench.given_up().await;
    bench.stop().await;
    bench.rename("in2", "in");
    bench.append("in/a", "3\n");
    bench.start_anew();
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
    bench.start_anew();
    bench.expect(&["a: one", "a: two"]).await;
    // The one that was there is still known, by its node.
    bench.stop().await;
    bench.rename("in", "in3");
    bench.rename("in2", "in");
    bench.append("in/a", "3\n");
    bench.start_anew();
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
    assert_eq!(bench.places("gone"), 0);
    // Perhaps with the same inode.
    bench.append("a", "1\n2\n");
    bench.rename("a", "in/a");
    bench.expect(&["a: 1", "a: 2"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_bounded_number_of_places_is_kept() {
    let mut bench = Bench::new("in/{a,b}*", &[]);
    // A missing folder would be a failure, in which nothing is known of its files.
    fs::create_dir_all(bench.path("in")).unwrap();
    fs::create_dir_all(bench.path("empty")).unwrap();
    for number in 0..300 {
        bench.append(&format!("in/a{number}"), "line\n");
    }
    bench.start();
    while bench.shown.len() < 300 {
        bench.take().await;
    }
    bench.shown.clear();
    bench.stop().await;
    bench.rename("in", "away");
    bench.rename("empty", "in");
    bench.start_anew();
    while bench.shown.len() < 300 || bench.places("files") > 0 {
        bench.take().await;
    }
    assert!(bench.shown.iter().all(|told| told.starts_with("gap: ")));
    assert_eq!(bench.places("gone"), 64);
    bench.shown.clear();
    bench.stop().await;
    bench.rename("in", "empty");
    bench.rename("away", "in");
    bench.append("in/b", "last\n");
    bench.start_anew();
    while bench.shown.len() < 301 {
        bench.take().await;
    }
    let back = bench.shown.iter().filter(|told| told.contains(" is back"));
    assert_eq!(back.count(), 64);
    bench.stop().await;
    assert_eq!(bench.shown.len(), 301, "the other 236 are read anew, once");
}

#[test]
fn cursors_of_older_versions_are_read() {
    let cursor = serde_json::json!({"files": [{
        "path": "/a", "device": 1, "inode": 2, "position": 4, "prefix": {"length": 4, "hash": 5},
    }]});
    let places = super::super::super::saved::places(&Cursor(cursor)).unwrap();
    assert_eq!((places.files.len(), places.gone.len()), (1, 0));
}
