//! Commands that continue from the cursor in their environment.

use super::*;

/// Counts on from its cursor: three lines a run.
const COUNTER: &str = r#"
    n=${HEADWATER_CURSOR:-0}
    for i in 1 2 3; do n=$((n + 1)); echo "{\"n\": $n}"; done
    echo tail
"#;

#[tokio::test]
async fn each_run_goes_on_from_the_cursor_of_the_one_before() {
    let more = [
        ("mode", "interval".into()),
        ("interval", "10 ms".into()),
        ("cursor_field", "n".into()),
    ];
    let handle = script(COUNTER, &more);
    let mut items = start(&handle);
    let shown = lines(&mut items, 8).await;
    assert_eq!(shown[..3], [r#"{"n": 1}"#, r#"{"n": 2}"#, r#"{"n": 3}"#]);
    assert_eq!(shown[3..5], ["tail", r#"{"n": 4}"#]);
    stop(&handle, &mut items).await;
}

#[tokio::test]
async fn a_command_that_fails_goes_on_from_its_cursor_without_a_gap() {
    let text = format!("{COUNTER} [ $n -ge 9 ]");
    let handle = script(&text, &[("cursor_field", "n".into())]);
    let shown = all(&handle).await;
    let rows = shown.iter().filter(|line| line.starts_with('{'));
    let expected: Vec<_> = (1..=9).map(|n| format!("{{\"n\": {n}}}")).collect();
    assert_eq!(rows.cloned().collect::<Vec<_>>(), expected);
    assert_eq!((handle.status().gaps, handle.status().restarts), (0, 2));
}

#[tokio::test]
async fn a_cursor_covers_the_line_it_is_of_and_no_other() {
    let handle = script(COUNTER, &[("cursor_field", "n".into())]);
    let mut items = start(&handle);
    let mut covered = Vec::new();
    while let Some(item) = next(&mut items).await {
        if let Item::Rows(delivery) = &item {
            covered.push((show(&item), delivery.cursor.is_some()));
        }
    }
    let (last, before) = covered.split_last().unwrap();
    assert_eq!(*last, (vec!["tail".to_owned()], false));
    assert!(before.iter().all(|(_, covered)| *covered), "{before:?}");
}

#[tokio::test]
async fn without_its_field_a_source_is_degraded_and_without_the_option_it_gets_no_cursor() {
    let handle = script("echo x; sleep 60", &[("cursor_field", "n".into())]);
    let mut items = start(&handle);
    lines(&mut items, 1).await;
    let mut watch = handle.watch();
    let degraded = watch.wait_for(|status| status.state == State::Degraded);
    let degraded = within("the state degraded", degraded).await;
    let reason = degraded.unwrap().reason.clone().unwrap();
    assert!(
        reason.contains("no line is a JSON object with the field \"n\""),
        "{reason}"
    );
    stop(&handle, &mut items).await;

    let handle = script("echo ${HEADWATER_CURSOR:-none}", &[]);
    assert!(
        !handle
            .blueprint()
            .source(None)
            .unwrap()
            .supports_incremental()
    );
    assert_eq!(all(&handle).await[1], "none");
    let error = spec(&[
        ("command", "x".into()),
        ("cursor_field", "n".into()),
        ("stream", "both".into()),
    ]);
    let error = error.err().unwrap();
    assert!(
        error.contains("two outputs have no common order"),
        "{error}"
    );
}
