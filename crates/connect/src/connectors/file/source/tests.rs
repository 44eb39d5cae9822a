//! Files that grow, are rotated, truncated and removed, while the source runs and while it does not.

mod bench;
mod content;
mod gone;

use std::fs;
use std::io::Write;

use self::bench::{Bench, spec};
use crate::State;
use crate::conform::within;
use crate::options::Value;

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
    let degraded = status.wait_for(|status| status.state == State::Degraded);
    within("the state degraded", degraded).await.unwrap();
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
            "a line of 5 bytes in log was dropped, the longest taken has 4",
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
    let mut old = bench.writer("log");
    bench.rename("log", "log.1");
    bench.append("log", "3\n");
    old.write_all(b"2\n").unwrap();
    bench.take_until(3).await;
    let replaced = bench
        .shown
        .iter()
        .filter(|line| line.starts_with("log was "))
        .count();
    assert_eq!(replaced, 1, "{:?}", bench.shown);
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
async fn a_truncated_file_is_read_from_its_start_and_leaves_a_gap() {
    let mut bench = Bench::new("log", &[]);
    bench.append("log", "one\ntwo\nha");
    bench.start();
    bench.expect(&["log: one", "log: two"]).await;
    // As copytruncate does; the new content is shorter, then longer than the old.
    bench.writer("log").set_len(0).unwrap();
    let truncated = "log was truncated or rewritten after 10 bytes of it were read";
    let gap = format!("gap: {truncated}");
    bench.expect(&["log: ha", truncated, &gap]).await;
    bench.append("log", "three\n");
    bench.expect(&["log: three"]).await;
    fs::write(bench.path("log"), "written over with more than there was\n").unwrap();
    bench
        .expect(&[
            "log was truncated or rewritten after 6 bytes of it were read",
            "gap: log was truncated or rewritten after 6 bytes of it were read",
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
    let mut old = bench.writer("log");
    fs::remove_file(bench.path("log")).unwrap();
    old.write_all(b"2\n").unwrap();
    bench.take_until(2).await;
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
    bench.restart_from_cursor();
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
async fn a_file_rotated_while_the_source_was_down_is_read_to_its_end_first() {
    let mut bench = Bench::new("log", &[]);
    bench.append("log", "1\n");
    bench.start();
    bench.expect(&["log: 1"]).await;
    bench.stop().await;
    bench.append("log", "2\n");
    bench.rename("log", "log.1");
    bench.append("log", "3\n");
    bench.restart_from_cursor();
    bench.expect(&["log.1: 2", "log: 3"]).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_change_while_the_source_was_down_leaves_a_gap() {
    let mut bench = Bench::new("*", &[]);
    bench.append("gone", "1\n");
    bench.append("over", "something\n");
    bench.start();
    bench.expect(&["gone: 1", "over: something"]).await;
    bench.stop().await;
    fs::remove_file(bench.path("gone")).unwrap();
    fs::write(bench.path("over"), "other\n").unwrap();
    bench.restart_from_cursor();
    let mut shown = Vec::new();
    while shown.len() < 3 {
        bench.take().await;
        shown.append(&mut bench.shown);
    }
    assert_eq!(
        shown,
        [
            "gap: gone is gone: lines added since it was last read may be lost",
            "gap: over was rewritten since it was last read",
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
    bench.take_until(300_000).await;
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

#[tokio::test]
async fn what_cannot_be_followed_is_refused_with_the_reason() {
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
