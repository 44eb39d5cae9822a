//! What comes of files while they grow, are rotated, emptied, removed, and while nobody looked.

mod gone;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use tokio::sync::mpsc;

use crate::options::{Given, Value};
use crate::scripted::start;
use crate::{Blueprint, Care, Connectors, Cursor, Item, Lifecycle, SourceHandle, State};

/// Whatever takes longer than this never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder and a source that follows files in it.
struct Bench {
    folder: tempfile::TempDir,
    handle: SourceHandle,
    items: mpsc::Receiver<Item>,
    cursor: Option<Cursor>,
    blueprint: Arc<dyn Blueprint>,
    /// What has come and was not asked for yet.
    shown: Vec<String>,
}

fn spec(
    folder: &Path,
    path: &str,
    more: &[(&str, Value)],
    columns: Option<SchemaRef>,
) -> Result<Arc<dyn Blueprint>, String> {
    let path = format!("{}/{path}", folder.display());
    let mut given = vec![Given::new("path", path.as_str())];
    // Quiet files are waited for only as long as a test can bear.
    let quick = ("partial_timeout", Value::from("300 ms"));
    let quick = Some(quick).filter(|(key, _)| !more.iter().any(|(other, _)| other == key));
    let more = more.iter().cloned().chain(quick);
    given.extend(more.map(|(key, value)| Given::new(key, value)));
    let spec = Connectors::builtin().source("file", &given, columns, &[]);
    spec.map(|spec| Arc::new(spec) as _)
        .map_err(|rejection| rejection.to_string())
}

impl Bench {
    fn new(path: &str, more: &[(&str, Value)]) -> Self {
        Self::with_columns(path, more, None)
    }

    fn with_columns(path: &str, more: &[(&str, Value)], columns: Option<SchemaRef>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blueprint = spec(folder.path(), path, more, columns).unwrap();
        let handle = SourceHandle::new(blueprint.clone(), None, Care::default());
        let (items, cursor) = (mpsc::channel(1).1, None);
        Self {
            folder,
            handle,
            items,
            cursor,
            blueprint,
            shown: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut how = OpenOptions::new();
        let mut file = how.append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    fn start(&mut self) {
        self.items = start(&self.handle);
    }

    /// Takes what comes next; `false` at the end.
    async fn take(&mut self) -> bool {
        let item = tokio::time::timeout(PATIENCE, self.items.recv()).await;
        let item = item.unwrap_or_else(|_| panic!("nothing more came after {:?}", self.shown));
        item.is_some_and(|item| {
            self.see(item);
            true
        })
    }

    fn see(&mut self, item: Item) {
        match item {
            Item::Rows(delivery) => {
                let origin = delivery.origin.as_deref().unwrap_or_default();
                let name = origin.rsplit('/').next().unwrap_or_default();
                let bad = delivery.bad.iter().map(|bad| format!("<{}>", bad.reason));
                let rows = cast(delivery.rows.column(0), &DataType::Utf8).unwrap();
                let rows = rows.as_string::<i32>().iter().flatten();
                let rows = rows.map(|line| format!("{name}: {line}"));
                self.shown.extend(bad.chain(rows));
                self.cursor = delivery.cursor.or(self.cursor.take());
            }
            Item::Gap(gap) => self
                .shown
                .push(format!("gap: {}", self.relative(&gap.reason))),
            Item::Lifecycle(Lifecycle::Changed { what }) => self.shown.push(self.relative(&what)),
            Item::Lifecycle(_) => {}
        }
    }

    fn relative(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }

    /// The next things that come are these.
    async fn expect(&mut self, expected: &[&str]) {
        while self.shown.len() < expected.len() && self.take().await {}
        assert_eq!(self.shown, expected);
        self.shown.clear();
    }

    /// All that comes until the source ends is this.
    async fn expect_all(&mut self, expected: &[&str]) {
        while self.take().await {}
        assert_eq!(self.shown, expected);
        self.shown.clear();
    }

    async fn running(&self) {
        let mut status = self.handle.watch();
        let found =
            status.wait_for(|status| matches!(status.state, State::Running | State::Degraded));
        tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap()
            .unwrap();
    }

    async fn stop(&mut self) {
        let mut rest = Vec::new();
        let items = &mut self.items;
        let drain = async {
            while let Some(item) = items.recv().await {
                rest.push(item);
            }
        };
        tokio::join!(self.handle.stop(), drain);
        rest.into_iter().for_each(|item| self.see(item));
        assert_eq!(self.handle.status().state, State::Stopped);
    }

    /// Starts anew as after a crash of the whole machine: only the last cursor is left.
    fn start_anew(&mut self) {
        self.handle =
            SourceHandle::new(self.blueprint.clone(), self.cursor.clone(), Care::default());
        self.start();
    }
}

#[tokio::test]
async fn lines_are_followed_as_they_come() {
    let mut bench = Bench::new("log", &[]);
    bench.append("log", "a\nb\r\n\nwith");
    bench.start();
    bench.expect(&["log: a", "log: b", "log: "]).await;
    bench.append("log", "out\nc\n");
    bench.expect(&["log: without", "log: c"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn much_is_read_whole_and_in_order() {
    let mut bench = Bench::new("log", &[("follow", false.into())]);
    let lines: Vec<String> = (0..300_000).map(|line| format!("line {line}")).collect();
    fs::write(bench.path("log"), lines.join("\n")).unwrap();
    bench.start();
    while bench.take().await {}
    assert_eq!(bench.shown.len(), lines.len());
    assert!(
        bench
            .shown
            .iter()
            .zip(&lines)
            .all(|(shown, line)| shown[5..] == *line)
    );
    assert_eq!(bench.handle.status().state, State::Stopped);
}

#[tokio::test]
async fn a_file_can_be_read_from_its_end() {
    let mut bench = Bench::new("*", &[("read_from", "end".into())]);
    bench.append("log", "old\nha");
    bench.start();
    bench.running().await;
    // The half line was not the end of the last one: it is whole.
    bench.append("log", "lf\nnew\n");
    bench.expect(&["log: half", "log: new"]).await;
    bench.append("later", "from the beginning\n");
    bench.expect(&["later: from the beginning"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn globs_say_which_files_and_which_not() {
    let exclude = Value::List(vec!["*.gz".into(), "**/b.*".into()]);
    let mut bench = Bench::new("*.{log,gz}", &[("exclude", exclude)]);
    for name in ["a.log", "b.log", "c.txt", "d.gz"] {
        bench.append(name, "line\n");
    }
    bench.start();
    bench.expect(&["a.log: line"]).await;
    bench.append("e.log", "new\n");
    bench.expect(&["e.log: new"]).await;
    bench.stop().await;
    bench.expect_all(&[]).await;
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_waited_for() {
    let mut bench = Bench::new("log", &[]);
    bench.start();
    let mut status = bench.handle.watch();
    status
        .wait_for(|status| status.state == State::Degraded)
        .await
        .unwrap();
    bench.append("log", "here\n");
    bench.expect(&["log: here"]).await;
    assert_eq!(bench.handle.status().state, State::Running);
    bench.stop().await;
}

#[tokio::test]
async fn a_last_line_is_held_until_it_ends_or_for_a_while() {
    let mut bench = Bench::new("log", &[]);
    bench.append("log", "half");
    bench.start();
    bench.expect(&["log: half"]).await;
    bench.append("log", " the rest\n");
    bench.expect(&["log:  the rest"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_last_line_ends_when_the_file_is_removed() {
    let mut bench = Bench::new("log", &[("partial_timeout", "1 hour".into())]);
    bench.append("log", "a\nhalf");
    bench.start();
    bench.expect(&["log: a"]).await;
    fs::remove_file(bench.path("log")).unwrap();
    bench.expect(&["log was removed", "log: half"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn overlong_lines_are_bad_or_cut_off_or_left_out() {
    for (policy, expected) in [
        ("dlq", "<the frame has 5 bytes, the largest taken has 4>"),
        ("truncate", "log: abcd"),
        (
            "drop",
            "a line of 5 bytes in log was left out, the longest taken has 4",
        ),
    ] {
        let more = [
            ("overlong", policy.into()),
            ("max_frame", "4 B".into()),
            ("follow", false.into()),
        ];
        let mut bench = Bench::new("log", &more);
        bench.append("log", "1234\nabcde\nabc\n");
        bench.start();
        bench.expect_all(&["log: 1234", expected, "log: abc"]).await;
    }
}

#[tokio::test]
async fn a_rotated_file_is_read_to_its_end_before_the_new_one() {
    let mut bench = Bench::new("log", &[]);
    bench.append("log", "1\n");
    bench.start();
    bench.expect(&["log: 1"]).await;
    let mut old = OpenOptions::new()
        .append(true)
        .open(bench.path("log"))
        .unwrap();
    bench.rename("log", "log.1");
    bench.append("log", "3\n");
    old.write_all(b"2\n").unwrap();
    while bench.shown.len() < 3 {
        bench.take().await;
    }
    let told = bench
        .shown
        .iter()
        .filter(|line| line.starts_with("log was "))
        .count();
    assert_eq!(told, 1, "{:?}", bench.shown);
    let mut lines: Vec<_> = bench
        .shown
        .drain(..)
        .filter(|line| line.starts_with("log: "))
        .collect();
    // What was added after the new file was found may come after its first lines.
    lines.sort();
    assert_eq!(lines, ["log: 2", "log: 3"]);
    // The writer has the old file open for a while longer.
    old.write_all(b"late\n").unwrap();
    while !bench.shown.iter().any(|line| line == "log: late") {
        bench.take().await;
    }
    bench.stop().await;
}

#[tokio::test]
async fn a_file_renamed_within_the_pattern_is_not_read_twice() {
    let mut bench = Bench::new("log*", &[]);
    bench.append("log", "1\n");
    bench.start();
    bench.expect(&["log: 1"]).await;
    bench.rename("log", "log.1");
    bench.append("log", "2\n");
    bench.expect(&["log: 2"]).await;
    bench.append("log.1", "3\n");
    bench.expect(&["log.1: 3"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn an_emptied_file_is_read_anew_and_leaves_a_gap() {
    let mut bench = Bench::new("log", &[]);
    bench.append("log", "one\ntwo\nha");
    bench.start();
    bench.expect(&["log: one", "log: two"]).await;
    // As copytruncate does; the new content is shorter, then longer than the old.
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(bench.path("log"))
        .unwrap();
    let emptied = "log was emptied or written anew after 10 bytes of it were read";
    let gap = format!("gap: {emptied}");
    bench.expect(&["log: ha", emptied, &gap]).await;
    bench.append("log", "three\n");
    bench.expect(&["log: three"]).await;
    fs::write(bench.path("log"), "written over with more than there was\n").unwrap();
    bench
        .expect(&[
            "log was emptied or written anew after 6 bytes of it were read",
            "gap: log was emptied or written anew after 6 bytes of it were read",
            "log: written over with more than there was",
        ])
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn a_removed_file_is_read_to_its_end_and_its_successor_from_the_start() {
    let mut bench = Bench::new("log", &[]);
    bench.append("log", "1\n");
    bench.start();
    bench.expect(&["log: 1"]).await;
    let mut old = OpenOptions::new()
        .append(true)
        .open(bench.path("log"))
        .unwrap();
    fs::remove_file(bench.path("log")).unwrap();
    old.write_all(b"2\n").unwrap();
    while bench.shown.len() < 2 {
        bench.take().await;
    }
    bench.shown.sort();
    bench.expect(&["log was removed", "log: 2"]).await;
    bench.append("log", "1\n");
    bench.expect(&["log: 1"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_link_that_points_elsewhere_is_another_file() {
    let mut bench = Bench::new("current", &[("poll_interval", "10 ms".into())]);
    bench.append("a", "in a\n");
    bench.append("b", "in b\n");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(bench.path(target), bench.path(name)).unwrap();
    };
    link("a", "current");
    link("b", "next");
    bench.start();
    bench.expect(&["current: in a"]).await;
    bench.rename("next", "current");
    bench
        .expect(&["current was replaced", "current: in b"])
        .await;
    bench.append("b", "more\n");
    bench.expect(&["current: more"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn reading_goes_on_where_the_cursor_says() {
    let mut bench = Bench::new("*", &[]);
    bench.append("a", "1\n2\nha");
    bench.append("b", "1\n");
    bench.start();
    bench.expect(&["a: 1", "a: 2", "b: 1"]).await;
    bench.stop().await;
    bench.append("a", "lf\n3\n");
    bench.rename("b", "c");
    bench.append("c", "2\n");
    bench.append("b", "another b\n");
    bench.start_anew();
    let mut shown = Vec::new();
    while shown.len() < 4 {
        bench.take().await;
        shown.append(&mut bench.shown);
    }
    shown.sort();
    assert_eq!(shown, ["a: 3", "a: half", "b: another b", "c: 2"]);
    bench.stop().await;
}

#[tokio::test]
async fn a_file_rotated_while_nobody_looked_is_read_to_its_end_first() {
    let mut bench = Bench::new("log", &[]);
    bench.append("log", "1\n");
    bench.start();
    bench.expect(&["log: 1"]).await;
    bench.stop().await;
    bench.append("log", "2\n");
    bench.rename("log", "log.1");
    bench.append("log", "3\n");
    bench.start_anew();
    bench.expect(&["log.1: 2", "log: 3"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn what_happened_to_a_file_while_nobody_looked_leaves_a_gap() {
    let mut bench = Bench::new("*", &[]);
    bench.append("gone", "1\n");
    bench.append("over", "something\n");
    bench.start();
    bench.expect(&["gone: 1", "over: something"]).await;
    bench.stop().await;
    fs::remove_file(bench.path("gone")).unwrap();
    fs::write(bench.path("over"), "other\n").unwrap();
    bench.start_anew();
    let mut shown = Vec::new();
    while shown.len() < 3 {
        bench.take().await;
        shown.append(&mut bench.shown);
    }
    assert_eq!(
        shown,
        [
            "gap: gone is gone: what was added to it since is not known",
            "gap: over was written anew since it was last read",
            "over: other",
        ]
    );
    bench.stop().await;
}

#[tokio::test]
async fn no_file_waits_for_another() {
    let mut bench = Bench::new("*", &[]);
    let large: String = (0..200_000).map(|line| format!("{line}\n")).collect();
    for name in ["a", "b", "c"] {
        bench.append(name, &large);
    }
    bench.start();
    while bench.shown.len() < 300_000 {
        bench.take().await;
    }
    for name in ["a", "b", "c"] {
        let lines = bench
            .shown
            .iter()
            .filter(|line| line.starts_with(name))
            .count();
        assert!(lines > 50_000, "{name}: {lines}");
    }
    bench.stop().await;
}

fn gzip(text: &str) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    packed.finish().unwrap()
}

#[tokio::test]
async fn packed_files_are_unpacked() {
    let mut bench = Bench::new("*", &[("follow", false.into())]);
    let mut two = gzip("a\nb\n");
    two.extend(gzip("c\nd"));
    fs::write(bench.path("1"), two).unwrap();
    fs::write(
        bench.path("2"),
        zstd::encode_all(&b"e\nf\n"[..], 0).unwrap(),
    )
    .unwrap();
    fs::write(bench.path("3"), "\u{1f}plain\n").unwrap();
    bench.start();
    bench
        .expect_all(&[
            "1: a",
            "1: b",
            "1: c",
            "1: d",
            "2: e",
            "2: f",
            "3: \u{1f}plain",
        ])
        .await;
}

#[tokio::test]
async fn a_packed_file_is_continued_and_its_damage_is_told() {
    let mut bench = Bench::new("*", &[]);
    let text: String = (0..1_000).map(|line| format!("{line}\n")).collect();
    fs::write(bench.path("log.gz"), gzip(&text)).unwrap();
    bench.start();
    while bench.shown.len() < 1_000 {
        bench.take().await;
    }
    bench.shown.clear();
    bench.stop().await;
    let mut more = OpenOptions::new()
        .append(true)
        .open(bench.path("log.gz"))
        .unwrap();
    more.write_all(&gzip("more\n")).unwrap();
    bench.start_anew();
    bench.expect(&["log.gz: more"]).await;
    // Half a member: perhaps the other half comes.
    let member = gzip("later\n");
    more.write_all(&member[..10]).unwrap();
    bench.take().await;
    let gap = bench.shown.pop().unwrap();
    assert!(gap.starts_with("gap: log.gz cannot be unpacked: "), "{gap}");
    more.write_all(&member[10..]).unwrap();
    bench.expect(&["log.gz: later"]).await;
    bench.stop().await;
    fs::write(
        bench.path("bad.gz"),
        [&gzip("fine\n")[..], b"\x1f\x8b\x08\x00 not gzip at all"].concat(),
    )
    .unwrap();
    bench.start_anew();
    while !bench
        .shown
        .iter()
        .any(|line| line.starts_with("gap: bad.gz cannot be unpacked"))
    {
        bench.take().await;
    }
    assert_eq!(bench.shown[0], "bad.gz: fine");
    bench.stop().await;
}

/// Some programs put a mark before a text; without this the first column would be NULL.
#[tokio::test]
async fn a_mark_before_the_text_is_no_part_of_it() {
    let columns = Schema::new(vec![
        Field::new("a", DataType::Utf8, true),
        Field::new("b", DataType::Utf8, true),
    ]);
    let more = [("format", "csv".into()), ("header", true.into())];
    let mut bench = Bench::with_columns("*", &more, Some(Arc::new(columns)));
    bench.append("plain", "\u{feff}a,b\n1,x\n");
    let text = "\u{feff}b,a\ny,2\n";
    let packed = zstd::encode_all(text.as_bytes(), 0).unwrap();
    fs::write(bench.path("packed"), packed).unwrap();
    bench.start();
    bench.expect(&["packed: 2", "plain: 1"]).await;
    bench.stop().await;
    // The cursor is behind the mark as well.
    bench.append("plain", "\u{feff}3,z\n");
    bench.start_anew();
    bench.expect(&["plain: \u{feff}3"]).await;
    bench.stop().await;
    for (format, expected) in [("text", "t: a"), ("bytes", "t: \u{feff}a")] {
        let column = match format {
            "text" => DataType::Utf8,
            _ => DataType::Binary,
        };
        let columns = Schema::new(vec![Field::new("line", column, true)]);
        let more = [("format", format.into())];
        let mut bench = Bench::with_columns("t", &more, Some(Arc::new(columns)));
        bench.append("t", "\u{feff}a\n");
        bench.start();
        bench.expect(&[expected]).await;
        bench.stop().await;
    }
}

#[tokio::test]
async fn the_header_of_each_file_counts_for_its_own_lines() {
    let columns = Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int64, true),
    ]);
    let more = [("format", "csv".into()), ("header", true.into())];
    let mut bench = Bench::with_columns("*", &more, Some(Arc::new(columns)));
    bench.append("a", "name,n\na,1\n");
    bench.append("b", "n,name\n2,b\n");
    bench.start();
    bench.expect(&["a: a", "b: b"]).await;
    bench.append("a", "c,3\n");
    bench.expect(&["a: c"]).await;
    bench.append("b", "4,d\n");
    bench.expect(&["b: d"]).await;
    bench.stop().await;
    bench.append("b", "5,e\n");
    bench.start_anew();
    let item = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Some(Item::Rows(delivery)) = bench.items.recv().await {
                break delivery;
            }
        }
    });
    let delivery = item.await.unwrap();
    assert_eq!(delivery.rows.column(0).as_string::<i32>().value(0), "e");
    assert_eq!(
        delivery.rows.column(1).as_primitive::<Int64Type>().value(0),
        5
    );
    bench.stop().await;
}

#[tokio::test]
async fn what_cannot_be_followed_says_why() {
    let mut bench = Bench::new("no/log", &[("follow", false.into())]);
    let error = bench.handle.validate().await.unwrap_err().to_string();
    assert!(
        error.contains("/no: ") && error.starts_with("cannot reach "),
        "{error}"
    );
    bench.start();
    bench.expect_all(&[]).await;
    let status = bench.handle.status();
    assert_eq!(status.state, State::Failed);
    assert!(
        status
            .reason
            .unwrap()
            .to_string()
            .ends_with("there is no such file")
    );
    let folder = bench.folder.path();
    for (path, more, expected) in [
        ("a/", vec![], "names no file"),
        ("[", vec![], "path"),
        ("a", vec![("exclude", "[".into())], "exclude"),
        (
            "a",
            vec![("follow", false.into()), ("read_from", "end".into())],
            "nothing comes after the end",
        ),
        ("a", vec![("poll_interval", "0 s".into())], "longer than 0"),
    ] {
        let problems = spec(folder, path, &more, None).err().unwrap();
        assert!(problems.contains(expected), "{problems}");
    }
}
