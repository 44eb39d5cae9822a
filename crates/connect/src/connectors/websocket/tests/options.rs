//! The options as users write them, with and without the connector's name in front, and everything
//! that can be wrong with them.

use serde_json::{Value, json};

use super::super::CONNECTOR;
use super::given;
use crate::options::{Fault, OptionSet, Options, Problem, check, read};

fn problems<T: Options>(options: &Value) -> Vec<Problem<()>> {
    let sets = [OptionSet::of::<T>()];
    check("websocket", &sets, &given(options))
        .err()
        .unwrap_or_default()
}

/// The keys with something wrong, and what.
fn texts<T: Options>(options: &Value) -> Vec<String> {
    problems::<T>(options)
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// What a person must not see.
const TOKEN: &str = "s3cr3t";

fn all_of_the_connection() -> Value {
    json!({
        "websocket.url": "wss://example.com:9443/ws?streams=a@trade",
        "websocket.reconnect": "false",
        "websocket.reconnect.delay.ms": "250",
        "websocket.reconnect.max.delay.ms": 4_000,
        "websocket.reconnect.max.attempts": 7,
        "websocket.reconnect.max.retry_after": "5 min",
        "websocket.reconnect.healthy_after": "5 minutes",
        "websocket.headers": {"Authorization": format!("Bearer {TOKEN}"), "X-Other": "1"},
        "websocket.subprotocol": "v2.feed",
        "websocket.connect_timeout": "3 s",
        "websocket.ping_interval": "0 s",
        "websocket.ping_timeout": "4 s",
        "websocket.tls.ca_file": "/ca.pem",
        "websocket.tls.cert_file": "/cert.pem",
        "websocket.tls.key_file": "/key.pem",
    })
}

#[test]
fn test_factory_metadata() {
    assert_eq!(CONNECTOR.name, "websocket");
    let source = CONNECTOR.source.expect("it is a source");
    let sink = CONNECTOR.sink.expect("it is a sink");
    assert_eq!(source.formats, ["json", "text", "bytes"]);
    assert_eq!(sink.formats, ["json", "text", "bytes"]);
    assert_eq!(source.max_frame.to_string(), "64 MiB");
    for set in [source.options, sink.options] {
        assert_eq!(set.lint(), None);
        let rows = set.rows();
        let required: Vec<_> = rows.iter().filter(|row| row.required).collect();
        assert!(matches!(required.as_slice(), [url] if url.name == "url"));
        for (name, default) in [
            ("reconnect", Some("true")),
            ("reconnect.delay.ms", Some("1000")),
            ("reconnect.max.delay.ms", Some("30000")),
            ("reconnect.max.attempts", Some("-1")),
            ("headers.*", None),
            ("subprotocol", None),
        ] {
            let row = rows.iter().find(|row| row.name == name).expect(name);
            assert_eq!(row.default.as_deref(), default, "{name}");
        }
    }
}

mod source {
    use super::super::super::options::WebsocketSourceOptions;
    use super::super::super::source::WebsocketSourceSettings;
    use super::super::with;
    use super::*;
    use std::time::Duration;

    fn settings(options: &Value) -> WebsocketSourceSettings {
        let options: WebsocketSourceOptions =
            read("websocket", &given(options)).expect("fine options");
        options.settings().expect("fine options")
    }

    #[test]
    fn test_config_from_properties_required_only() {
        let settings = settings(&json!({"url": "ws://localhost:9001/feed"}));
        assert_eq!(settings.dialer.target(), "ws://localhost:9001/feed");
        let backoff = settings.backoff.expect("it reconnects");
        assert_eq!(backoff.base, Duration::from_secs(1));
        assert_eq!(backoff.cap, Duration::from_secs(30));
        assert_eq!(backoff.healthy, Duration::from_secs(60));
        assert_eq!(backoff.attempts_max, None);
        assert_eq!(settings.connect_timeout, Duration::from_secs(10));
        assert_eq!(settings.ping_interval, Some(Duration::from_secs(20)));
        assert_eq!(settings.ping_timeout, Duration::from_secs(20));
        assert_eq!(settings.data_timeout, None);
        assert!(settings.subscribe.is_empty() && settings.compression.is_none());
    }

    #[test]
    fn test_config_from_properties_all_options() {
        let own = json!({
            "websocket.subscribe.message": TOKEN,
            "websocket.compression": "ZSTD",
            "websocket.data_timeout": "1 min",
        });
        let settings = settings(&with(all_of_the_connection(), own));
        assert_eq!(settings.dialer.target(), "wss://example.com:9443/ws");
        assert!(settings.backoff.is_none());
        assert_eq!(settings.connect_timeout, Duration::from_secs(3));
        assert_eq!(settings.ping_interval, None);
        assert_eq!(settings.ping_timeout, Duration::from_secs(4));
        assert_eq!(settings.data_timeout, Some(Duration::from_secs(60)));
        assert_eq!(settings.subscribe[0].expose(), TOKEN);
        let shown = format!("{settings:?}");
        assert!(!shown.contains(TOKEN), "{shown}");
        for part in [
            "Zstd",
            "v2.feed",
            "/ca.pem",
            "/cert.pem",
            "/key.pem",
            "x-other",
        ] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let reconnecting = with(
            all_of_the_connection(),
            json!({"websocket.reconnect": true}),
        );
        let backoff = super::source::settings(&reconnecting)
            .backoff
            .expect("it reconnects");
        assert_eq!(backoff.base, Duration::from_millis(250));
        assert_eq!(backoff.cap, Duration::from_secs(4));
        assert_eq!(backoff.healthy, Duration::from_secs(300));
        assert_eq!(backoff.attempts_max, Some(7));
        assert_eq!(backoff.asked_max, Duration::from_secs(300));
    }

    #[test]
    fn test_config_missing_url() {
        let problems = problems::<WebsocketSourceOptions>(&json!({"reconnect": true}));
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].key, "url");
        assert!(matches!(problems[0].fault, Fault::Missing { .. }));
    }

    #[test]
    fn test_config_invalid_reconnect_delay() {
        for (delay, why) in [
            (json!("soon"), "must be a whole number"),
            (json!(-1), "it is -1"),
            (json!(60_000), "60000 ms is more than the longest, 30000 ms"),
        ] {
            let options = json!({"url": "ws://h", "websocket.reconnect.delay.ms": delay});
            let texts = texts::<WebsocketSourceOptions>(&options);
            assert_eq!(texts.len(), 1, "{texts:?}");
            assert!(
                texts[0].contains("websocket.reconnect.delay.ms"),
                "{texts:?}"
            );
            assert!(texts[0].contains(why), "{texts:?}");
        }
        assert!(
            texts::<WebsocketSourceOptions>(
                &json!({"url": "ws://h", "reconnect.max.attempts": -2})
            )
            .len()
                == 1
        );
    }

    #[test]
    fn everything_wrong_is_told_at_once_and_no_secret_with_it() {
        let options = json!({
            "url": format!("http://user:{TOKEN}@host/?token={TOKEN}"),
            "headers": {"Upgrade": TOKEN, "X": format!("{TOKEN}\n")},
            "subprotocol": "two words",
            "tls.key_file": "/key.pem",
            "reconnect.delay.ms": 5, "reconnect.max.delay.ms": 4,
        });
        let texts = texts::<WebsocketSourceOptions>(&options);
        assert_eq!(texts.len(), 6, "{texts:#?}");
        assert!(!texts.concat().contains(TOKEN), "{texts:#?}");
        let misspelt = problems::<WebsocketSourceOptions>(
            &json!({"url": "ws://h", "websocket.subprotocl": "x"}),
        );
        assert_eq!(
            misspelt[0].hint().as_deref(),
            Some("did you mean \"subprotocol\"?")
        );
        // Declared once for every connector, not here.
        let strategy =
            problems::<WebsocketSourceOptions>(&json!({"url": "ws://h", "error.strategy": "drop"}));
        assert!(matches!(strategy[0].fault, Fault::Unknown { .. }));
    }

    #[test]
    fn one_message_or_several_to_subscribe_with() {
        let messages = |text: &str| {
            let options = json!({"url": "ws://h", "subscribe.message": text});
            let subscribe = settings(&options).subscribe;
            subscribe
                .iter()
                .map(|message| message.expose().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(messages("SUB a"), ["SUB a"]);
        assert_eq!(messages(r#"{"b": 1, "a": [2]}"#), [r#"{"b": 1, "a": [2]}"#]);
        assert_eq!(messages(r#"["x", "y"]"#), ["x", "y"]);
        let mixed = r#" [ {"b": 1,"a":2.50}, "say \"hi\"", ["REQ", "x"] ] "#;
        assert_eq!(
            messages(mixed),
            [r#"{"b": 1,"a":2.50}"#, r#"say "hi""#, r#"["REQ", "x"]"#]
        );
        assert_eq!(messages("[not json"), ["[not json"]);
    }
}

mod sink {
    use super::super::super::options::WebsocketSinkOptions;
    use super::super::super::queue::Overflow;
    use super::super::super::sink::{MessageType, WebsocketSinkSettings};
    use super::super::with;
    use super::*;

    fn settings(options: &Value) -> WebsocketSinkSettings {
        let options: WebsocketSinkOptions =
            read("websocket", &given(options)).expect("fine options");
        options.settings(false).expect("fine options")
    }

    #[test]
    fn test_config_from_properties_required_only() {
        let settings = settings(&json!({"websocket.url": "wss://my-server.com/events"}));
        assert_eq!(settings.dialer.target(), "wss://my-server.com/events");
        assert!(
            settings
                .backoff
                .is_some_and(|backoff| backoff.attempts_max.is_none())
        );
        assert_eq!(settings.message_type, MessageType::Text);
        assert_eq!(
            (settings.bounds.rows, settings.bounds.bytes),
            (10_000, 64 << 20)
        );
        assert_eq!(settings.bounds.overflow, Overflow::Block);
    }

    #[test]
    fn test_config_from_properties_all_options() {
        let own = json!({
            "websocket.message.type": "binary",
            "websocket.queue.rows": 5,
            "websocket.queue.bytes": "1 KiB",
            "websocket.overflow": "drop_oldest",
        });
        let settings = settings(&with(all_of_the_connection(), own));
        assert_eq!(settings.dialer.target(), "wss://example.com:9443/ws");
        assert!(settings.backoff.is_none());
        assert_eq!(settings.message_type, MessageType::Binary);
        assert_eq!((settings.bounds.rows, settings.bounds.bytes), (5, 1024));
        assert_eq!(settings.bounds.overflow, Overflow::DropOldest);
        let shown = format!("{settings:?}");
        assert!(!shown.contains(TOKEN), "{shown}");
    }

    #[test]
    fn test_config_missing_url() {
        let problems = problems::<WebsocketSinkOptions>(&json!({"message.type": "text"}));
        assert!(matches!(problems[0].fault, Fault::Missing { .. }));
        assert_eq!(problems[0].key, "url");
    }

    #[test]
    fn test_message_type_parsing() {
        let of = |text: &str| json!({"url": "ws://h", "message.type": text});
        assert_eq!(settings(&of("text")).message_type, MessageType::Text);
        assert_eq!(settings(&of("Binary")).message_type, MessageType::Binary);
        let texts = texts::<WebsocketSinkOptions>(&of("binry"));
        assert!(texts[0].contains("'text', 'binary'"), "{texts:?}");
        let hint = problems::<WebsocketSinkOptions>(&of("binry"))[0].hint();
        assert_eq!(hint.as_deref(), Some("did you mean \"binary\"?"));
    }
}
