//! Commands: their lines, their exits, and that no process of them is left.

mod cursors;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::sync::mpsc;

use crate::conform::within;
use crate::options::Value;
use crate::scripted::{source_spec, start, stop};
use crate::{Backoff, Blueprint, Care, Item, Lifecycle, SourceHandle, State};

fn care() -> Care {
    let backoff = Backoff {
        base: Duration::from_millis(1),
        jitter: 0.0,
        ..Backoff::default()
    };
    Care {
        backoff,
        ..Care::default()
    }
}

fn spec(given: &[(&str, Value)]) -> Result<Arc<dyn Blueprint>, String> {
    source_spec("process", given, None).map(|spec| Arc::new(spec) as _)
}

fn source(given: &[(&str, Value)], care: Care) -> SourceHandle {
    let spec = spec(given).unwrap_or_else(|problems| panic!("{problems}"));
    SourceHandle::new(spec, None, care)
}

/// A source that runs a script of `sh`.
fn script(text: &str, more: &[(&str, Value)]) -> SourceHandle {
    let mut given = vec![("command", text.into()), ("shell", true.into())];
    given.extend_from_slice(more);
    source(&given, care())
}

/// An item as text: its lines, with their origin before them and bad ones in brackets.
fn show(item: &Item) -> Vec<String> {
    match item {
        Item::Rows(delivery) => {
            let origin = delivery
                .origin
                .as_ref()
                .map_or(String::new(), |from| format!("{from}: "));
            let rows = delivery.rows.column(0).as_string::<i32>().iter().flatten();
            let rows = rows.map(|line| format!("{origin}{line}"));
            let bad = delivery.bad.iter().map(|bad| format!("<{}>", bad.reason));
            // In a delivery of these tests a bad line came first.
            bad.chain(rows).collect()
        }
        Item::Gap(gap) => vec![format!("gap: {}", gap.reason)],
        Item::Lifecycle(Lifecycle::Connected { .. }) => vec!["connected".to_owned()],
        Item::Lifecycle(Lifecycle::Exited {
            code,
            signal,
            stderr_tail,
            ..
        }) => {
            vec![format!("exited: {code:?} {signal:?} {stderr_tail:?}")]
        }
        Item::Lifecycle(other) => vec![format!("{other:?}")],
    }
}

async fn next(items: &mut mpsc::Receiver<Item>) -> Option<Item> {
    within("the next item", items.recv()).await
}

/// Everything until the source ends.
async fn all(handle: &SourceHandle) -> Vec<String> {
    let mut items = start(handle);
    let mut shown = Vec::new();
    while let Some(item) = next(&mut items).await {
        shown.extend(show(&item));
    }
    shown
}

/// The lines, until there are `count` of them.
async fn lines(items: &mut mpsc::Receiver<Item>, count: usize) -> Vec<String> {
    let mut shown = Vec::new();
    while shown.len() < count {
        let item = next(items).await.expect("there are more lines");
        if let Item::Rows(_) = item {
            shown.extend(show(&item));
        }
    }
    shown
}

fn is_there(pid: &str) -> bool {
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    test_kill_process(pid).is_ok()
}

/// Waits until a process has ended that is not our child.
async fn gone(pid: &str) {
    let gone = async {
        while is_there(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within(&format!("the end of process {pid}"), gone).await;
}

#[tokio::test]
async fn lines_come_until_the_command_ends() {
    let handle = source(&[("command", r#"printf 'a\nb\r\n\nlast'"#.into())], care());
    let shown = all(&handle).await;
    assert_eq!(
        shown,
        [
            "connected",
            "a",
            "b",
            "",
            "last",
            "exited: Some(0) None \"\""
        ]
    );
    assert_eq!(handle.status().state, State::Stopped);
    let list = Value::List(vec!["printf".into(), "%s".into(), "x  y".into()]);
    let handle = source(&[("command", list)], care());
    assert_eq!(all(&handle).await[1], "x  y");
}

#[tokio::test]
async fn nothing_is_lost_of_much() {
    let mut seen = 0;
    let handle = script("seq 1 200000", &[]);
    let mut items = start(&handle);
    while let Some(item) = next(&mut items).await {
        if let Item::Rows(delivery) = item {
            for line in delivery.rows.column(0).as_string::<i32>().iter().flatten() {
                seen += 1;
                assert_eq!(line.parse(), Ok(seen));
            }
        }
    }
    assert_eq!(seen, 200_000);
}

#[tokio::test]
async fn surroundings_are_as_the_options_say() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    let more = [
        ("env.GREETING", "hello".into()),
        ("clear_env", true.into()),
        ("cwd", path.to_str().unwrap().into()),
    ];
    let shown = all(&script("echo $GREETING $HOME; pwd; cat", &more)).await;
    assert_eq!(shown[1..3], ["hello", path.to_str().unwrap()]);
    assert_eq!(shown.len(), 4, "the input is closed: {shown:?}");
}

#[tokio::test]
async fn either_output_or_both_are_rows() {
    let text = "echo out; echo err >&2";
    let shown = |stream: &str| {
        let handle = script(text, &[("stream", stream.into())]);
        async move { all(&handle).await.into_iter().collect::<BTreeSet<_>>() }
    };
    let exit = "exited: Some(0) None \"err\"";
    assert_eq!(
        shown("stdout").await,
        BTreeSet::from(["connected", exit, "out"].map(str::to_owned))
    );
    assert_eq!(
        shown("stderr").await,
        BTreeSet::from(["connected", exit, "err"].map(str::to_owned))
    );
    let both = ["connected", exit, "stdout: out", "stderr: err"].map(str::to_owned);
    assert_eq!(shown("both").await, BTreeSet::from(both));
}

#[tokio::test]
async fn a_record_of_csv_has_line_ends_in_quotes() {
    use arrow::datatypes::{DataType, Field, Schema};
    let columns = Schema::new(vec![Field::new("v", DataType::Utf8, true)]);
    let given = [
        (
            "command",
            Value::from(r#"printf '"a\nb"\n"c'; printf '\n""d"\ne'"#),
        ),
        ("shell", true.into()),
        ("format", "csv".into()),
    ];
    let spec = source_spec("process", &given, Some(Arc::new(columns))).unwrap();
    let handle = SourceHandle::new(Arc::new(spec), None, care());
    let mut items = start(&handle);
    let mut shown = Vec::new();
    while let Some(item) = within("the end", items.recv()).await {
        if let Item::Rows(_) = &item {
            shown.extend(show(&item));
        }
    }
    assert_eq!(shown, ["a\nb", "c\n\"d", "e"]);
}

#[tokio::test]
async fn overlong_lines_are_bad() {
    let shown = all(&script(
        "echo abcd; echo abcde; echo abc",
        &[("max_frame", "4 B".into())],
    ))
    .await;
    assert_eq!(
        shown[1..4],
        [
            "abcd",
            "<the frame has 5 bytes, the largest taken has 4>",
            "abc"
        ]
    );
}

#[tokio::test]
async fn a_failure_is_reported_with_its_cause_and_retried_or_not() {
    let text = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i >&2; done; exit 3";
    let handle = script(text, &[("restart", "never".into())]);
    let shown = all(&handle).await;
    assert!(
        shown[1].starts_with("exited: Some(3) None \"line 3\\nline 4"),
        "{shown:?}"
    );
    let status = handle.status();
    assert_eq!(status.state, State::Failed);
    let reason = status.reason.unwrap().to_string();
    assert!(reason.contains("exit code 3: line 3 | line 4"), "{reason}");

    let handle = script("kill -9 $$", &[("mode", "once".into())]);
    assert_eq!(all(&handle).await[1], "exited: None Some(9) \"\"");
    assert_eq!(handle.status().state, State::Failed);

    let folder = tempfile::tempdir().unwrap();
    let cwd = ("cwd", folder.path().to_str().unwrap().into());
    let handle = script(
        "if test -f done; then echo ok; else touch done; exit 1; fi",
        &[cwd],
    );
    let shown = all(&handle).await;
    let gap = "gap: /bin/sh -c if test -f done; then echo ok; else touch done; exit 1; fi ended with exit code 1";
    let exits = ["exited: Some(1) None \"\"", "exited: Some(0) None \"\""];
    assert_eq!(
        shown,
        ["connected", exits[0], gap, "connected", "ok", exits[1]]
    );
    assert_eq!(handle.status().restarts, 1);
}

#[tokio::test]
async fn always_means_also_when_it_went_well() {
    let handle = script("echo again", &[("restart", "always".into())]);
    let mut items = start(&handle);
    assert_eq!(lines(&mut items, 3).await, ["again"; 3]);
    stop(&handle, &mut items).await;
    assert_eq!(handle.status().state, State::Stopped);
}

#[tokio::test]
async fn a_command_that_is_not_there_fails_for_good() {
    let handle = source(&[("command", "no-such-program --at all".into())], care());
    let expected =
        "cannot run no-such-program --at all: there is no program no-such-program in PATH";
    assert_eq!(handle.validate().await.unwrap_err().to_string(), expected);
    assert_eq!(all(&handle).await, [] as [&str; 0]);
    let status = handle.status();
    assert_eq!(status.state, State::Failed);
    assert_eq!(status.reason.unwrap().to_string(), expected);
}

#[tokio::test]
async fn stopping_ends_the_whole_group() {
    let handle = script(
        "sleep 1000 & echo $!; (trap '' TERM; echo $$; sleep 1000) & wait",
        &[],
    );
    let mut items = start(&handle);
    let pids = lines(&mut items, 2).await;
    assert!(pids.iter().all(|pid| is_there(pid)));
    stop(&handle, &mut items).await;
    for pid in &pids {
        gone(pid).await;
    }
    let status = handle.status();
    assert_eq!(
        (status.state, status.reason.map(|reason| reason.to_string())),
        (State::Stopped, None)
    );
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed_after_the_grace() {
    let text = "trap 'echo no' TERM; echo $$; while :; do sleep 0.01; done";
    let handle = script(text, &[("grace", "50 ms".into())]);
    let mut items = start(&handle);
    let pids = lines(&mut items, 1).await;
    stop(&handle, &mut items).await;
    assert!(!is_there(&pids[0]), "not even a zombie is left");
    assert_eq!(handle.status().state, State::Stopped);
}

#[tokio::test]
async fn a_source_that_is_dropped_leaves_nothing() {
    let text = "trap '' TERM; sleep 1000 & echo $!; echo $$; wait";
    let given = [
        ("command", text.into()),
        ("shell", true.into()),
        ("grace", "1 hour".into()),
    ];
    let handle = source(
        &given,
        Care {
            stop_deadline: Duration::from_millis(50),
            ..care()
        },
    );
    let mut items = start(&handle);
    let pids = lines(&mut items, 2).await;
    stop(&handle, &mut items).await;
    assert!(handle.status().reason.is_some(), "it did not stop in time");
    for pid in &pids {
        gone(pid).await;
    }
}

#[tokio::test]
async fn what_a_command_leaves_in_the_background_ends_with_it() {
    let handle = script("sleep 1000 & echo $!", &[]);
    let shown = all(&handle).await;
    gone(&shown[1]).await;
    assert_eq!(shown[2], "exited: Some(0) None \"\"");
}

#[tokio::test]
async fn an_interval_runs_it_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let more = [
        ("mode", "interval".into()),
        ("interval", "1 ms".into()),
        ("cwd", folder.path().to_str().unwrap().into()),
    ];
    // Fails if two run at a time.
    let handle = script("mkdir here && echo run && rmdir here || echo twice", &more);
    let mut items = start(&handle);
    assert_eq!(lines(&mut items, 5).await, ["run"; 5]);
    stop(&handle, &mut items).await;
    assert_eq!(handle.status().state, State::Stopped);
}

#[tokio::test]
async fn a_run_that_fails_at_an_interval_degrades_the_source() {
    let more = [("mode", "interval".into()), ("interval", "1 ms".into())];
    let handle = script("echo run; exit 7", &more);
    let mut items = start(&handle);
    let mut exits = 0;
    while exits < 2 {
        let shown = show(&next(&mut items).await.unwrap());
        exits += shown
            .iter()
            .filter(|line| line.starts_with("exited: Some(7)"))
            .count();
    }
    assert_eq!(handle.status().state, State::Degraded);
    stop(&handle, &mut items).await;
}

#[test]
fn options_that_make_no_sense_are_refused_at_once() {
    for (given, expected) in [
        (
            vec![("command", "a 'b".into())],
            "the quote ' is not closed",
        ),
        (
            vec![("command", "a".into()), ("mode", "interval".into())],
            "mode 'interval' needs it",
        ),
        (
            vec![("command", "a".into()), ("interval", "1 s".into())],
            "only mode 'interval' has one",
        ),
        (
            vec![
                ("command", "a".into()),
                ("mode", "once".into()),
                ("restart", "always".into()),
            ],
            "mode 'once' never runs it again",
        ),
        (
            vec![
                ("command", Value::List(vec!["a".into(), "b".into()])),
                ("shell", true.into()),
            ],
            "a shell takes one text, not a list",
        ),
        (vec![("shell", true.into())], "command"),
    ] {
        let problems = spec(&given).err().unwrap();
        assert!(problems.contains(expected), "{problems}");
    }
}

/// Set in the process that is killed.
const VICTIM: &str = "HEADWATER_TEST_VICTIM";

/// Killed by a signal that it cannot catch, a process takes the groups of its sources with it. The
/// process is this test again, with a variable set.
#[tokio::test]
async fn the_command_dies_with_us() {
    if let Some(path) = std::env::var_os(VICTIM) {
        let text = format!(
            "sleep 1000 & echo $$ $! > {0}.new; mv {0}.new {0}; wait",
            path.display()
        );
        let handle = script(&text, &[("grace", "10 ms".into())]);
        let mut items = start(&handle);
        return while items.recv().await.is_some() {};
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pids");
    let name = std::thread::current().name().unwrap().to_owned();
    let mut victim = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name])
        .env(VICTIM, &path)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pids = async {
        loop {
            if let Ok(pids) = std::fs::read_to_string(&path) {
                return pids;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let pids = within("the start of the command", pids).await;
    assert!(pids.split_whitespace().all(is_there));
    kill_process(
        Pid::from_raw(victim.id().unwrap() as i32).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    victim.wait().await.unwrap();
    for pid in pids.split_whitespace() {
        gone(pid).await;
    }
}

#[tokio::test]
async fn how_often_it_is_run_again_is_an_option() {
    let more = [
        ("restart.max", 2.into()),
        ("restart.within", "1 hour".into()),
        ("restart.delay", "1 ms".into()),
    ];
    let handle = script("echo run; exit 3", &more);
    let shown = all(&handle).await;
    let status = handle.status();
    assert_eq!((status.state, status.restarts), (State::Failed, 2));
    let reason = status.reason.unwrap();
    assert!(
        reason.contains("(at most 2 restarts in 3600 s): /bin/sh"),
        "{reason}"
    );
    assert_eq!(shown.iter().filter(|line| *line == "run").count(), 3);
    for (key, value, expected) in [
        ("restart.within", Value::from("0 s"), "longer than 0"),
        ("restart.delay.max", "1 us".into(), "shorter of the two"),
        ("restart.max", (-1).into(), "at least 0"),
    ] {
        let given = [
            ("command", "x".into()),
            ("restart.delay", "1 s".into()),
            (key, value),
        ];
        let error = spec(&given).err().unwrap();
        assert!(error.contains(expected), "{error}");
    }
}
