//! What goes wrong with a source that a factory makes, and what is never shown.

use std::fs;

use super::*;

#[tokio::test]
async fn an_unknown_kind_is_reported_with_those_that_exist() {
    let sources = Sources::new(Connectors::builtin(), MemoryCursors::default());
    for kind in ["slak", "stdout"] {
        let error = sources
            .create(kind, "a", Credentials::new(), SourceConfig::new())
            .await;
        let error = error.unwrap_err().to_string();
        let kinds = "there are file, generate, process, websocket";
        assert_eq!(
            error,
            format!("there is no source of kind {kind:?}, {kinds}")
        );
    }
    assert!(sources.active().is_empty(), "the id is free again");
}

#[tokio::test]
async fn a_bad_config_and_an_outside_out_of_reach_are_different_errors() {
    let sources = with_greeter();
    let config = SourceConfig::new()
        .option("pth", "x")
        .option("follow", "maybe");
    let error = sources
        .create("file", "a", Credentials::new(), config)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::BadConfig { .. }));
    assert!(
        text.starts_with("source \"a\" cannot be made: option \"pth\" is unknown"),
        "{text}"
    );
    assert!(
        text.contains("did you mean \"path\"?") && text.contains("\"follow\" must be"),
        "{text}"
    );
    let config = SourceConfig::new()
        .option("path", "x")
        .cursor(Cursor(json!(7)));
    let error = sources
        .create("file", "a", Credentials::new(), config)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::BadConfig { .. }),
        "a cursor of something else: {error}"
    );
    let cursor = SourceConfig::new().cursor(Cursor(json!(7)));
    let credentials = Credentials::new().with("token", "x");
    let error = sources
        .create("greeter", "a", credentials, cursor)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::BadConfig { .. }),
        "a kind without cursors: {error}"
    );
    let command = SourceConfig::new().option("command", "no-such-program");
    let error = sources
        .create("process", "a", Credentials::new(), command)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::BadConfig { .. }), "{error}");

    let config = SourceConfig::new().option("path", "/no/such/folder/x");
    let error = sources
        .create("file", "a", Credentials::new(), config)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotReached { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("source \"a\": cannot reach /no/such/folder: ")
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", port.local_addr().unwrap());
    drop(port);
    let config = SourceConfig::new()
        .option("url", url.as_str())
        .option("format", "text");
    let error = sources
        .create("websocket", "a", Credentials::new(), config)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotReached { .. }), "{error}");
    for mood in ["away", "refused"] {
        let error = greeter(&sources, "a", mood).await.unwrap_err();
        assert!(matches!(error, Error::NotReached { .. }), "{error}");
    }
    assert!(sources.active().is_empty());
    BACK.store(true, Relaxed);
    let source = greeter(&sources, "a", "away").await.unwrap();
    source.validate().await.unwrap();
    BACK.store(false, Relaxed);
    assert!(
        source.validate().await.is_err(),
        "its health can be asked again"
    );
}

#[tokio::test]
async fn one_id_is_one_source() {
    let sources = Arc::new(with_greeter());
    let first = greeter(&sources, "a", "well").await.unwrap();
    let error = greeter(&sources, "a", "well").await.unwrap_err();
    assert_eq!(error.to_string(), "there is already an active source \"a\"");
    drop(first);
    assert!(
        greeter(&sources, "a", "well").await.is_err(),
        "it was not closed"
    );
    assert!(sources.close("a").await);
    assert!(!sources.close("a").await);
    greeter(&sources, "a", "well").await.unwrap();
    let error = sources.save_cursor("b").await.unwrap_err();
    assert_eq!(error.to_string(), "there is no active source \"b\"");
}

#[tokio::test]
async fn credentials_are_never_shown() {
    let sources = with_greeter();
    let credentials = Credentials::new().with("token", "hunter2");
    assert_eq!(format!("{credentials:?}"), "{\"token\": ***}");
    let mut source = greeter(&sources, "a", "well").await.unwrap();
    assert_eq!(
        lines(&source.next().await.unwrap().unwrap()),
        ["hello 7"],
        "it has the token"
    );
    let shown = format!("{source:?} {:?} {:?}", source.stats(), sources.stats());
    assert!(!shown.contains("hunter2"), "{shown}");
    for (option, config) in [
        ("mood", SourceConfig::new()),
        ("greeter.MOOD", SourceConfig::new()),
        ("tokn", SourceConfig::new()),
        ("token", SourceConfig::new().option("token", "other")),
    ] {
        let credentials = Credentials::new().with(option, "hunter2");
        let error = sources
            .create("greeter", "b", credentials, config)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::BadConfig { .. }));
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        let refused = error.to_string().contains("is not a secret");
        assert_eq!(refused, option.to_lowercase().ends_with("mood"), "{error}");
    }
    let credentials = Credentials::new().with("env.TOKEN", "hunter2");
    let config = SourceConfig::from_json(json!({ "command": "echo ${#TOKEN}", "shell": true }));
    let source = sources
        .create("process", "p", credentials, config.unwrap())
        .await;
    assert_eq!(all(&mut source.unwrap()).await, ["7"]);
}

#[tokio::test]
async fn gaps_are_reported_and_a_failure_is_the_last_item() {
    let sources = with_greeter();
    let mut source = greeter(&sources, "a", "ill").await.unwrap();
    assert_eq!(lines(&source.next().await.unwrap().unwrap()), ["hello 7"]);
    let error = source.next().await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "source \"a\" failed: cannot make rows: it is ill"
    );
    assert!(source.next().await.is_none());
    let gaps = source.take_gaps();
    assert_eq!(gaps[0].reason, "it yawned");
    assert!(source.take_gaps().is_empty());
    let stats = sources.stats();
    let failure = stats.active["a"].status.last_failure.clone().unwrap();
    assert_eq!(&*failure.reason, "cannot make rows: it is ill");
}

#[tokio::test]
async fn a_cursor_that_cannot_be_saved_or_loaded_is_an_error() {
    let bench = Bench::new();
    bench.append("c1\n");
    let mut source = bench.create(bench.config()).await.unwrap();
    all(&mut source).await;
    let cursors = bench.folder.path().join("cursors");
    fs::remove_dir_all(&cursors).unwrap();
    let error = bench.sources.save_cursor("repo").await.unwrap_err();
    assert!(
        matches!(error, Error::CursorStore { what: "save", .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with("cannot save the cursor of source \"repo\": ")
    );
    assert_eq!(bench.sources.stats().cursors_saved, 0);
    fs::create_dir(&cursors).unwrap();
    bench.sources.save_cursor("repo").await.unwrap();
    bench.sources.close("repo").await;
    fs::write(cursors.join("repo.json"), "{").unwrap();
    let error = bench.create(bench.config()).await.unwrap_err();
    assert!(
        matches!(error, Error::CursorStore { what: "load", .. }),
        "{error}"
    );
    assert!(
        bench.sources.active().is_empty(),
        "not read from the start as if nothing was"
    );
}

#[tokio::test]
async fn an_event_that_cannot_be_stored_does_not_stop_the_others() {
    let bench = Bench::new();
    bench.append("good\nbad\ngood again\n");
    let mut source = bench.create(bench.config()).await.unwrap();
    let (mut stored, mut failed) = (0, 0);
    while let Some(delivery) = source.next().await {
        for line in lines(&delivery.unwrap()) {
            let store = |line: &str| {
                if line == "bad" {
                    Err("disk full")
                } else {
                    Ok(())
                }
            };
            match store(&line) {
                Ok(()) => stored += 1,
                Err(_) => failed += 1,
            }
        }
    }
    assert_eq!((stored, failed), (2, 1));
}
