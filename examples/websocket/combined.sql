-- The trades of two symbols by one connection, Binance's combined stream: each trade is nested in `data`,
-- and its time is event time.
--
-- `cargo run --example websocket` starts the server. For real trades use the URL
-- 'wss://stream.binance.com:9443/stream?streams=btcusdt@trade/ethusdt@trade'.

CREATE SOURCE trades (
    stream VARCHAR,
    data STRUCT<s VARCHAR, p VARCHAR, q VARCHAR, T TIMESTAMP(3)>,
    -- Also a column of its own, `T`.
    WATERMARK FOR data.T AS data.T - INTERVAL '1 second'
) WITH (
    connector = 'websocket',
    url = 'ws://127.0.0.1:9443/stream?streams=btcusdt@trade/ethusdt@trade',
    format = 'json'
);

CREATE STREAM prices AS
SELECT
    window_start,
    data.s AS symbol,
    min(CAST(data.p AS DOUBLE)) AS low,
    max(CAST(data.p AS DOUBLE)) AS high,
    count(*) AS trades
FROM trades
GROUP BY TUMBLE(data.T, INTERVAL '1 second'), data.s;

SUBSCRIBE TO prices;
