//! Which options go together, and what they come to.

use std::time::Duration as Time;

use super::*;
use crate::Connectors;
use crate::options::{Given, Value, read};

fn given(options: &[(&str, &str)]) -> Vec<Given<()>> {
    let given = |(key, value): &(&str, &str)| Given::new(key, Value::from(*value));
    options.iter().map(given).collect()
}

fn options(list: &[(&str, &str)]) -> ErrorOptions {
    read("websocket", &given(list)).unwrap()
}

fn refused(list: &[(&str, &str)]) -> String {
    let read: Result<ErrorOptions> = read("websocket", &given(list));
    read.unwrap_err().to_string()
}

#[test]
fn without_options_everything_is_as_it_was() {
    let none = options(&[]);
    assert_eq!((none.strategy(), none.dlq_stream()), (None, None));
    let (writes, restarts, default) = (
        none.retries(),
        none.restarts(Backoff::default()),
        Backoff::default(),
    );
    assert_eq!((writes.base, writes.cap), (default.base, default.cap));
    assert_eq!(
        (writes.factor, writes.jitter),
        (default.factor, default.jitter)
    );
    assert_eq!((writes.attempts_max, writes.restarts_max), (None, u32::MAX));
    assert_eq!(restarts.restarts_max, default.restarts_max);
    assert!(matches!(none.bad_rows(&Arc::default()), BadRows::Keep));
}

#[test]
fn the_docs_name_the_defaults() {
    let doc = |name: &str| {
        let row = error_options().into_iter().find(|row| row.name == name);
        row.unwrap().doc
    };
    let shown = |delay| format!("Default: {}.", Duration(delay));
    assert!(doc("error.retry.initial-delay").contains(&shown(INITIAL_DELAY)));
    assert!(doc("error.retry.max-delay").contains(&shown(MAX_DELAY)));
    assert!(doc("error.retry.backoff").contains("Default: `exponential`"));
}

#[test]
fn retries_are_as_the_options_say() {
    let retry = options(&[
        ("websocket.error.strategy", "RETRY"),
        ("error.retry.max-attempts", "3"),
        ("error.retry.initial-delay", "100ms"),
        ("Error.Retry.Backoff", "fixed"),
    ]);
    for backoff in [retry.retries(), retry.restarts(Backoff::default())] {
        assert_eq!(
            (backoff.base, backoff.factor),
            (Time::from_millis(100), 1.0)
        );
        assert_eq!((backoff.jitter, backoff.attempts_max), (0.0, Some(3)));
        assert_eq!(backoff.restarts_max, u32::MAX);
    }
    let slow = options(&[
        ("error.strategy", "retry"),
        ("error.retry.initial-delay", "1 min"),
    ]);
    assert_eq!(
        slow.retries().cap,
        Time::from_secs(60),
        "not below the first"
    );
    let short = options(&[
        ("error.strategy", "retry"),
        ("error.retry.max-delay", "10ms"),
    ]);
    assert_eq!(short.retries().base, Time::from_millis(10));
}

#[test]
fn what_is_not_tried_again() {
    for strategy in ["drop", "fail"] {
        let options = options(&[("error.strategy", strategy)]);
        assert_eq!(options.retries().attempts_max, Some(0), "{strategy}");
    }
    let dlq = [("error.strategy", "dlq"), ("error.dlq.stream", "dead")];
    assert_eq!(options(&dlq).retries().attempts_max, Some(0));
    assert_eq!(
        options(&dlq).restarts(Backoff::default()).attempts_max,
        None
    );
    assert_eq!(options(&dlq).dlq_stream(), Some("dead"));
    let patient = [&dlq[..], &[("error.retry.max-attempts", "2")]].concat();
    assert_eq!(options(&patient).retries().attempts_max, Some(2));
    let fail = options(&[("error.strategy", "fail")]);
    assert_eq!(fail.restarts(Backoff::default()).attempts_max, Some(0));
    assert!(matches!(fail.bad_rows(&Arc::default()), BadRows::Fail));
}

#[test]
fn contradictions_are_reported() {
    for (list, expected) in [
        (
            vec![("error.strategy", "dlq")],
            "'dlq' needs error.dlq.stream",
        ),
        (
            vec![("error.strategy", "fail"), ("error.dlq.stream", "x")],
            "option \"error.dlq.stream\" contradicts \"error.strategy\": nothing would be sent there",
        ),
        (
            vec![("error.dlq.stream", "x")],
            "option \"error.dlq.stream\" is wrong: nothing would be sent there",
        ),
        (
            vec![
                ("error.strategy", "drop"),
                ("error.retry.max-attempts", "3"),
            ],
            "option \"error.retry.max-attempts\" contradicts \"error.strategy\": it has no effect",
        ),
        (
            vec![("error.retry.backoff", "fixed")],
            "option \"error.retry.backoff\" is wrong: it has no effect",
        ),
        (
            vec![
                ("error.strategy", "dlq"),
                ("error.dlq.stream", "x"),
                ("error.retry.backoff", "fixed"),
            ],
            "without error.retry.max-attempts nothing would ever be given up",
        ),
        (
            vec![
                ("error.strategy", "retry"),
                ("error.retry.initial-delay", "2s"),
                ("error.retry.max-delay", "1s"),
            ],
            "contradicts \"error.retry.max-delay\": 2 s is more than the longest, 1 s",
        ),
        (
            vec![
                ("error.strategy", "retry"),
                ("error.retry.backoff", "fixed"),
                ("error.retry.max-delay", "1s"),
            ],
            "waits that are all the same have no longest",
        ),
        (
            vec![
                ("error.strategy", "retry"),
                ("error.retry.initial-delay", "0s"),
            ],
            "must be more than zero",
        ),
        (
            vec![
                ("error.strategy", "retry"),
                ("error.retry.max-attempts", "0"),
            ],
            "must be from 1 to 4294967295, it is 0",
        ),
        (vec![("error.strategy", "retri")], "did you mean \"retry\"?"),
    ] {
        let text = refused(&list);
        assert!(text.contains(expected), "{list:?}: {text}");
    }
}

/// Together with a connector's own options; all problems are reported at once.
#[test]
fn every_source_and_sink_takes_them() {
    let connectors = Connectors::builtin();
    let columns = || {
        let field = arrow::datatypes::Field::new("line", arrow::datatypes::DataType::Utf8, true);
        Arc::new(arrow::datatypes::Schema::new(vec![field]))
    };
    for name in connectors.names() {
        let connector = connectors.get(name).unwrap();
        let prefixed = format!("{name}.error.strategy");
        let given = given(&[(prefixed.as_str(), "dlq"), ("nothing.like.it", "x")]);
        let mut reports = Vec::new();
        if connector.source.is_some() {
            let source = connectors.source(name, &given, Some(columns()), &[]);
            reports.extend(source.err().map(|rejection| rejection.to_string()));
        }
        if connector.sink.is_some() {
            let sink = connectors.sink(name, &given, columns(), &[]);
            reports.extend(sink.err().map(|rejection| rejection.to_string()));
        }
        assert!(!reports.is_empty());
        for report in reports {
            assert!(
                report.contains("'dlq' needs error.dlq.stream"),
                "{name}: {report}"
            );
            assert!(
                report.contains("\"nothing.like.it\" is unknown"),
                "{name}: {report}"
            );
        }
    }
}

#[cfg(all(feature = "file", feature = "websocket"))]
#[test]
fn dropping_lowers_what_a_sink_promises() {
    use crate::Guarantee;
    let guarantee = |name: &str, list: &[(&str, &str)]| {
        let field = arrow::datatypes::Field::new("line", arrow::datatypes::DataType::Utf8, true);
        let columns = Arc::new(arrow::datatypes::Schema::new(vec![field]));
        let spec = Connectors::builtin().sink(name, &given(list), columns, &[]);
        spec.unwrap().guarantee()
    };
    let drop = ("error.strategy", "drop");
    let (path, url) = (("path", "/tmp/x"), ("url", "ws://h/"));
    assert_eq!(guarantee("file", &[path]), Guarantee::ExactlyOnce);
    assert_eq!(guarantee("file", &[path, drop]), Guarantee::AtMostOnce);
    assert_eq!(guarantee("stdout", &[]), Guarantee::AtLeastOnce);
    assert_eq!(guarantee("websocket", &[url]), Guarantee::AtLeastOnce);
    let overflow = ("overflow", "reject");
    assert_eq!(
        guarantee("websocket", &[url, overflow]),
        Guarantee::AtMostOnce
    );
    assert!(Guarantee::AtMostOnce < Guarantee::AtLeastOnce);
}

#[cfg(feature = "file")]
#[test]
fn a_source_is_restarted_as_the_options_say() {
    use crate::Blueprint;
    let backoff = |list: &[(&str, &str)]| {
        let path = ("path", "/tmp/x");
        let given = given(&[&[path][..], list].concat());
        let spec = Connectors::builtin().source("file", &given, None, &[]);
        spec.unwrap().backoff(Backoff::default())
    };
    let fail = backoff(&[("error.strategy", "fail")]);
    assert_eq!(fail.attempts_max, Some(0));
    let retry = [
        ("error.strategy", "retry"),
        ("error.retry.max-attempts", "7"),
    ];
    assert_eq!(backoff(&retry).attempts_max, Some(7));
    let both = backoff(&[&retry[..], &[("restart.max", "2")]].concat());
    assert_eq!((both.attempts_max, both.restarts_max), (Some(7), 2));
    assert!(!both.window.is_zero(), "or none would be counted");
}
