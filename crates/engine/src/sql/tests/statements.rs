//! Every form of every statement.

use std::time::Duration;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

use super::one;
use crate::sql::{
    CreateSink, CreateSource, Emit, ExplainTarget, Kind, OptionValue, Shown, SinkInput, Statement,
    StreamAction, parse,
};

fn source(script: &str) -> CreateSource {
    match one(script) {
        Statement::CreateSource(source) => source,
        other => panic!("{script} is no source: {other:?}"),
    }
}

fn sink(script: &str) -> CreateSink {
    match one(script) {
        Statement::CreateSink(sink) => sink,
        other => panic!("{script} is no sink: {other:?}"),
    }
}

fn options(source: &CreateSource) -> Vec<(&str, String)> {
    source
        .options
        .iter()
        .map(|entry| (entry.key.as_str(), entry.value.to_string()))
        .collect()
}

#[test]
fn a_source_has_columns_a_watermark_and_options() {
    let script = "CREATE SOURCE trades (
        symbol VARCHAR NOT NULL, price DOUBLE NOT NULL, qty BIGINT NULL, ts TIMESTAMP NOT NULL,
        WATERMARK FOR ts AS ts - INTERVAL '100 milliseconds'
    ) WITH (buffer_size = 131072, backpressure = 'block', websocket.reconnect = TRUE,
        'websocket.headers.X-Key' = 'a;b', websocket.reconnect.max.attempts = -1, wal_mode = async);";
    let source = source(script);
    assert_eq!(source.name.value, "trades");
    assert!(!source.if_not_exists);
    let columns: Vec<_> = source
        .columns
        .iter()
        .map(|column| {
            (
                column.name.value.as_str(),
                column.data_type.clone(),
                column.nullable,
            )
        })
        .collect();
    assert_eq!(
        columns,
        [
            ("symbol", DataType::Utf8, false),
            ("price", DataType::Float64, false),
            ("qty", DataType::Int64, true),
            (
                "ts",
                DataType::Timestamp(TimeUnit::Microsecond, None),
                false
            ),
        ]
    );
    let watermark = source.watermark.clone().unwrap();
    assert_eq!(watermark.column.value, "ts");
    assert_eq!(watermark.delay, Duration::from_millis(100));
    assert_eq!(
        options(&source),
        [
            ("buffer_size", "131072".into()),
            ("backpressure", "block".into()),
            ("websocket.reconnect", "true".into()),
            ("websocket.headers.X-Key", "a;b".into()),
            ("websocket.reconnect.max.attempts", "-1".into()),
            ("wal_mode", "async".into()),
        ]
    );
    let last = &source.options[4];
    assert_eq!(last.value, OptionValue::Number("-1".into()));
    assert_eq!(
        &script[last.key_span.clone()],
        "websocket.reconnect.max.attempts"
    );
    assert_eq!(&script[last.value_span.clone()], "-1");
}

#[test]
fn everything_behind_the_name_of_a_source_may_be_missing() {
    let bare = source("create source if not exists s");
    assert!(bare.if_not_exists && bare.columns.is_empty() && bare.options.is_empty());
    assert_eq!(bare.watermark, None);
    let connector_knows = source("CREATE SOURCE s WITH (connector = 'git', path = '.')");
    assert_eq!(connector_knows.options.len(), 2);
    assert_eq!(
        source("CREATE SOURCE \"my source\" (a INT) WITH ()")
            .name
            .value,
        "my source"
    );
}

#[test]
fn a_column_keeps_its_case_and_may_be_called_like_a_keyword() {
    let source = source("CREATE SOURCE s (t BIGINT, T BIGINT, \"a b\" INT, key INT, check INT)");
    let names: Vec<_> = source
        .columns
        .iter()
        .map(|column| column.name.value.as_str())
        .collect();
    assert_eq!(names, ["t", "T", "a b", "key", "check"]);
    assert!(source.columns[2].name.quoted);
}

#[test]
fn a_watermark_is_its_column_less_an_interval() {
    for (clause, micros) in [
        ("WATERMARK FOR ts AS ts", 0),
        ("watermark for TS as Ts", 0),
        ("WATERMARK FOR ts AS ts - INTERVAL '1 minute'", 60_000_000),
        ("WATERMARK FOR ts AS ts - INTERVAL '5' SECOND", 5_000_000),
        (
            "WATERMARK FOR ts AS ts - INTERVAL '1 second 500 milliseconds'",
            1_500_000,
        ),
        ("WATERMARK FOR ts AS ts - INTERVAL '0 seconds'", 0),
    ] {
        let source = source(&format!("CREATE SOURCE s (ts TIMESTAMP(3), {clause})"));
        let watermark = source.watermark.unwrap();
        assert_eq!(watermark.delay, Duration::from_micros(micros), "{clause}");
        assert_eq!(watermark.column.value, "ts", "{clause}");
    }
}

#[test]
fn a_type_is_an_arrow_type() {
    use DataType::*;
    let list = |of| DataType::new_list(of, true);
    let fields = Fields::from(vec![
        Field::new("x", Int64, true),
        Field::new("Y", list(Utf8), true),
    ]);
    for (sql, arrow) in [
        ("STRING", Utf8),
        ("TEXT", Utf8),
        ("CHAR", Utf8),
        ("CHARACTER VARYING", Utf8),
        ("JSON", Utf8),
        ("UUID", Utf8),
        ("TINYINT", Int8),
        ("TINYINT UNSIGNED", UInt8),
        ("SMALLINT", Int16),
        ("SMALLINT UNSIGNED", UInt16),
        ("INT", Int32),
        ("INTEGER", Int32),
        ("INT UNSIGNED", UInt32),
        ("INTEGER UNSIGNED", UInt32),
        ("BIGINT", Int64),
        ("INT8", Int64),
        ("BIGINT UNSIGNED", UInt64),
        ("UBIGINT", UInt64),
        ("REAL", Float32),
        ("FLOAT", Float32),
        ("FLOAT(53)", Float64),
        ("DOUBLE", Float64),
        ("DOUBLE PRECISION", Float64),
        ("BOOLEAN", Boolean),
        ("BOOL", Boolean),
        ("DATE", Date32),
        ("TIME", Time64(TimeUnit::Microsecond)),
        ("TIMESTAMP", Timestamp(TimeUnit::Microsecond, None)),
        ("TIMESTAMP(0)", Timestamp(TimeUnit::Second, None)),
        ("TIMESTAMP(3)", Timestamp(TimeUnit::Millisecond, None)),
        (
            "TIMESTAMP(9) WITHOUT TIME ZONE",
            Timestamp(TimeUnit::Nanosecond, None),
        ),
        (
            "TIMESTAMP WITH TIME ZONE",
            Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        ),
        (
            "TIMESTAMPTZ",
            Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
        ),
        ("BYTES", Binary),
        ("BYTEA", Binary),
        ("VARBINARY", Binary),
        ("BLOB", Binary),
        ("DECIMAL(18, 4)", Decimal128(18, 4)),
        ("NUMERIC(5)", Decimal128(5, 0)),
        ("DECIMAL", Decimal128(38, 10)),
        ("DECIMAL(76, 38)", Decimal256(76, 38)),
        ("ARRAY<BIGINT>", list(Int64)),
        ("BIGINT[]", list(Int64)),
        ("ARRAY<ARRAY<STRING>>", list(list(Utf8))),
        ("STRUCT<x BIGINT, Y ARRAY<STRING>>", Struct(fields)),
    ] {
        let source = source(&format!("CREATE SOURCE s (a {sql} NOT NULL, b INT)"));
        assert_eq!(source.columns[0].data_type, arrow, "{sql}");
        assert!(!source.columns[0].nullable, "{sql}");
        assert_eq!(source.columns.len(), 2, "{sql}");
    }
    let source = source("CREATE SOURCE s (a MAP(STRING, BIGINT))");
    assert!(matches!(source.columns[0].data_type, Map(_, false)));
}

#[test]
fn a_stream_has_a_query_and_may_say_when_it_emits() {
    let script = "CREATE STREAM IF NOT EXISTS vwap WITH (start = 'earliest') AS
        SELECT symbol, SUM(price * qty) / SUM(qty) AS vwap FROM trades
        GROUP BY TUMBLE(ts, INTERVAL '1 minute'), symbol EMIT ON UPDATE;";
    let Statement::CreateQuery(stream) = one(script) else {
        panic!()
    };
    assert!(stream.if_not_exists);
    assert_eq!((stream.kind, &*stream.name.value), (Kind::Stream, "vwap"));
    assert_eq!(
        stream.options[0].value,
        OptionValue::String("earliest".into())
    );
    assert_eq!(stream.emit, Some(Emit::OnUpdate));
    assert!(
        stream.query.text.starts_with("SELECT symbol"),
        "{}",
        stream.query.text
    );
    assert!(
        stream.query.text.ends_with("symbol"),
        "{}",
        stream.query.text
    );
    assert_eq!(&script[stream.query.span.clone()], stream.query.text);

    let Statement::CreateQuery(closes) =
        one("CREATE STREAM s AS SELECT * FROM t emit on window close")
    else {
        panic!()
    };
    assert_eq!(closes.emit, Some(Emit::OnWindowClose));
    assert_eq!(closes.query.text, "SELECT * FROM t");

    let Statement::CreateQuery(silent) = one("CREATE STREAM s AS SELECT emit FROM emit") else {
        panic!()
    };
    assert_eq!(silent.emit, None);
    assert_eq!(silent.query.text, "SELECT emit FROM emit");
}

#[test]
fn a_view_is_a_view_materialized_or_not() {
    for script in [
        "CREATE VIEW latest AS SELECT symbol, MAX(ts) AS ts FROM trades GROUP BY symbol",
        "CREATE MATERIALIZED VIEW latest AS SELECT symbol, MAX(ts) AS ts FROM trades GROUP BY symbol",
    ] {
        let Statement::CreateQuery(view) = one(script) else {
            panic!("{script}")
        };
        assert_eq!((view.kind, &*view.name.value), (Kind::View, "latest"));
        assert!(view.query.text.starts_with("SELECT symbol"));
    }
    let Statement::CreateQuery(view) = one(
        "CREATE VIEW IF NOT EXISTS v WITH (start = 'now') AS (SELECT 1 AS one) UNION ALL SELECT 2",
    ) else {
        panic!()
    };
    assert!(view.if_not_exists);
    assert_eq!(view.options[0].key, "start");
}

#[test]
fn a_sink_takes_a_name_or_a_query() {
    let named = sink("CREATE SINK out FROM vwap WITH (connector = 'stdout')");
    assert!(matches!(&named.input, SinkInput::Named(name) if name.value == "vwap"));
    assert_eq!(named.options[0].key, "connector");

    let system = sink("CREATE SINK IF NOT EXISTS out FROM system.gaps WITH (connector = 'stdout')");
    assert!(matches!(&system.input, SinkInput::Named(name) if name.value == "system.gaps"));
    assert!(system.if_not_exists);

    let script = "CREATE SINK out FROM (SELECT (1) AS a FROM t) WITH (connector = 'stdout')";
    let SinkInput::Query(query) = sink(script).input else {
        panic!()
    };
    assert_eq!(query.text, "SELECT (1) AS a FROM t");
}

#[test]
fn a_query_alone_begins_with_select_with_values_or_a_parenthesis() {
    for script in [
        "SELECT * FROM latest WHERE n > 10",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "VALUES (1, 'a'), (2, 'b')",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "select 1 -- a comment",
        "/* ; */ SELECT ';' AS semicolon",
    ] {
        assert!(matches!(one(script), Statement::Query(_)), "{script}");
    }
}

#[test]
fn the_small_statements() {
    assert!(matches!(one("SUBSCRIBE TO vwap"), Statement::Subscribe(name) if name.value == "vwap"));
    for (script, shown) in [
        ("SHOW SOURCES", Shown::Sources),
        ("show streams", Shown::Streams),
        ("SHOW VIEWS", Shown::Views),
        ("SHOW SINKS;", Shown::Sinks),
        ("SHOW CONNECTORS", Shown::Connectors),
    ] {
        assert_eq!(one(script), Statement::Show(shown));
    }
    assert!(matches!(one("DESCRIBE Vwap"), Statement::Describe(name) if name.value == "Vwap"));
    assert!(
        matches!(one("DESC system.gaps"), Statement::Describe(name) if name.value == "system.gaps")
    );
    for (script, kind, if_exists, cascade) in [
        ("DROP SOURCE a", Kind::Source, false, false),
        ("DROP STREAM IF EXISTS a", Kind::Stream, true, false),
        ("DROP VIEW a CASCADE", Kind::View, false, true),
        (
            "DROP MATERIALIZED VIEW a RESTRICT",
            Kind::View,
            false,
            false,
        ),
        ("drop sink if exists a cascade", Kind::Sink, true, true),
    ] {
        let Statement::Drop(drop) = one(script) else {
            panic!("{script}")
        };
        assert_eq!(
            (drop.kind, drop.if_exists, drop.cascade),
            (kind, if_exists, cascade),
            "{script}"
        );
        assert_eq!(drop.name.value, "a");
    }
}

#[test]
fn explain_takes_a_query_a_name_or_a_statement() {
    let explain = |script| match one(script) {
        Statement::Explain(explain) => explain,
        other => panic!("{script}: {other:?}"),
    };
    assert!(matches!(
        explain("EXPLAIN SELECT 1").target,
        ExplainTarget::Query(_)
    ));
    assert!(matches!(
        explain("EXPLAIN (SELECT 1)").target,
        ExplainTarget::Query(_)
    ));
    let named = explain("EXPLAIN GUARANTEES vwap");
    assert!(named.guarantees);
    assert!(matches!(named.target, ExplainTarget::Name(name) if name.value == "vwap"));
    let of_that_name = explain("EXPLAIN guarantees");
    assert!(!of_that_name.guarantees);
    assert!(matches!(of_that_name.target, ExplainTarget::Name(_)));
    let created = explain("EXPLAIN GUARANTEES CREATE SINK o FROM v WITH (connector = 'stdout')");
    assert!(matches!(created.target, ExplainTarget::Statement(_)));
    let fed = explain("EXPLAIN INSERT INTO o SELECT * FROM v");
    assert!(matches!(fed.target, ExplainTarget::Statement(_)));
    let view = explain("EXPLAIN CREATE VIEW v AS SELECT 1 AS x");
    assert!(matches!(view.target, ExplainTarget::Statement(_)));
}

/// The usage example of the requirement, word for word.
#[test]
fn an_annotated_source_is_a_source() {
    let script = "@source(
            type='websocket',
            websocket.url='wss://stream.binance.com:9443/ws/btcusdt@trade',
            @map(type='json')
        )
        CREATE STREAM RawTrades (
            e STRING,
            s STRING,
            p STRING,
            q STRING,
            T BIGINT
        );";
    let source = source(script);
    assert_eq!(source.name.value, "RawTrades");
    let names: Vec<_> = source
        .columns
        .iter()
        .map(|column| column.name.value.as_str())
        .collect();
    assert_eq!(names, ["e", "s", "p", "q", "T"]);
    assert_eq!(
        options(&source),
        [
            ("connector", "websocket".into()),
            (
                "websocket.url",
                "wss://stream.binance.com:9443/ws/btcusdt@trade".into()
            ),
            ("format", "json".into()),
        ]
    );
    assert_eq!(&script[source.options[2].value_span.clone()], "'json'");
}

/// The other usage example, and the proposed subscribe message.
#[test]
fn an_annotated_sink_is_a_sink_with_columns_that_insert_feeds() {
    let sink = sink(
        "@sink(type='websocket', websocket.url='wss://my-server.com/events',
            websocket.message.type='text', @map(type='json'))
        CREATE STREAM OutputEvents (symbol STRING, price DOUBLE, volume DOUBLE);",
    );
    let SinkInput::Declared(columns) = &sink.input else {
        panic!()
    };
    assert_eq!(columns.len(), 3);
    assert_eq!(sink.options.len(), 4);

    let script =
        "INSERT INTO OutputEvents (symbol, price) SELECT s, p FROM RawTrades WHERE e = 'trade'";
    let Statement::InsertInto {
        target,
        columns,
        query,
    } = one(script)
    else {
        panic!()
    };
    assert_eq!(target.value, "OutputEvents");
    assert_eq!(columns.len(), 2);
    assert!(query.text.starts_with("SELECT s, p"));
    let script = "INSERT INTO o (SELECT 1 AS a)";
    assert!(matches!(one(script), Statement::InsertInto { columns, .. } if columns.is_empty()));

    let subscribes = "@Source(type='websocket', websocket.url='wss://x',
        websocket.subscribe.message='{\"type\":\"subscribe\",\"channels\":[{\"name\":\"ticker\"}]}',
        @Map(type='json', lenient=true)) CREATE STREAM IF NOT EXISTS s (a INT, ts TIMESTAMP,
        WATERMARK FOR ts AS ts) WITH (buffer_size = 1024)";
    let source = source(subscribes);
    assert!(source.if_not_exists && source.watermark.is_some());
    let keys: Vec<_> = source
        .options
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    assert_eq!(
        keys,
        [
            "connector",
            "websocket.url",
            "websocket.subscribe.message",
            "format",
            "format.lenient",
            "buffer_size",
        ]
    );
}

#[test]
fn a_script_is_its_statements_with_their_places() {
    let script =
        "-- first\nCREATE SOURCE a (x INT);;\n\n  SELECT 'é;' AS s FROM a ;\nDROP SOURCE a";
    let statements = parse(script).unwrap();
    let texts: Vec<_> = statements
        .iter()
        .map(|statement| &script[statement.span.clone()])
        .collect();
    assert_eq!(
        texts,
        [
            "CREATE SOURCE a (x INT)",
            "SELECT 'é;' AS s FROM a",
            "DROP SOURCE a"
        ]
    );
    assert_eq!(parse("").unwrap(), []);
    assert_eq!(parse(" ; -- nothing\n ;").unwrap(), []);
}

#[test]
fn a_place_in_the_tree_of_a_query_is_a_place_in_the_script() {
    use datafusion::sql::sqlparser::ast::{SelectItem, SetExpr, Spanned};
    let script = "SHOW SINKS;\nCREATE VIEW é AS SELECT 'ü',\n  price FROM t";
    let Statement::CreateQuery(view) = parse(script).unwrap().remove(1).node else {
        panic!()
    };
    let SetExpr::Select(select) = &*view.query.ast.body else {
        panic!()
    };
    let SelectItem::UnnamedExpr(price) = &select.projection[1] else {
        panic!()
    };
    assert_eq!(&script[view.query.position(price.span()).unwrap()], "price");
}

#[test]
fn an_option_becomes_json() {
    let json = |value: OptionValue| value.to_json().to_string();
    assert_eq!(json(OptionValue::String("5".into())), "\"5\"");
    assert_eq!(json(OptionValue::Number("-1".into())), "-1");
    assert_eq!(json(OptionValue::Number("1.5".into())), "1.5");
    assert_eq!(json(OptionValue::Number(".5".into())), "\".5\"");
    assert_eq!(json(OptionValue::Bool(true)), "true");
    let source =
        source("CREATE SOURCE s WITH (every = INTERVAL '10 seconds', a = $$b$$, \"c d\" = e)");
    let values: Vec<_> = source
        .options
        .iter()
        .map(|entry| entry.value.to_string())
        .collect();
    assert_eq!(values, ["10 seconds", "b", "e"]);
    assert_eq!(source.options[2].key, "c d");
}

#[test]
fn a_stream_without_a_query_is_a_set_of_sources() {
    let Statement::CreateSourceGroup(set) = one("CREATE STREAM IF NOT EXISTS live") else {
        panic!("not a set");
    };
    assert_eq!((set.name.value.as_str(), set.if_not_exists), ("live", true));
    assert!(set.columns.is_empty() && set.watermark.is_none() && set.options.is_empty());

    let script = "CREATE STREAM live (n INT, ts TIMESTAMP, WATERMARK FOR ts AS ts) \
        WITH (description = 'all')";
    let Statement::CreateSourceGroup(set) = one(script) else {
        panic!("not a set");
    };
    let names: Vec<_> = set
        .columns
        .iter()
        .map(|it| it.name.value.as_str())
        .collect();
    assert_eq!(names, ["n", "ts"]);
    assert_eq!(set.watermark.unwrap().column.value, "ts");
    assert_eq!(set.options[0].key, "description");
}

#[test]
fn the_life_of_a_stream_is_in_statements() {
    for (script, meant) in [
        ("START STREAM x", StreamAction::Start),
        ("pause stream x", StreamAction::Pause),
        ("RESUME STREAM x", StreamAction::Resume),
        ("STOP STREAM x", StreamAction::Stop),
    ] {
        let Statement::Lifecycle { action, stream } = one(script) else {
            panic!("{script}");
        };
        assert_eq!((action, stream.value.as_str()), (meant, "x"), "{script}");
    }
    for (script, meant) in [
        ("ATTACH SOURCE s TO STREAM x", true),
        ("DETACH SOURCE s FROM STREAM x", false),
    ] {
        let Statement::Attach(attach) = one(script) else {
            panic!("{script}");
        };
        assert_eq!(attach.attach, meant, "{script}");
        assert_eq!(
            (attach.source.value, attach.stream.value),
            ("s".into(), "x".into())
        );
    }
}
