-- Trades from one websocket to another, and the prices of each second.
--
-- `cargo run --example websocket` starts the server. For real trades use the URL
-- 'wss://stream.binance.com:9443/ws/btcusdt@trade'.

@source(
    type='websocket',
    websocket.url='ws://127.0.0.1:9443/ws/btcusdt@trade',
    @map(type='json')
)
CREATE STREAM RawTrades (
    e STRING,
    s STRING,
    p STRING,
    q STRING,
    -- Milliseconds since 1970; as a TIMESTAMP, not a BIGINT, it can be event time.
    -- A trade also has a `t`, the trade id: JSON fields match columns in their exact case.
    T TIMESTAMP(3),
    WATERMARK FOR T AS T
);

@sink(
    type='websocket',
    websocket.url='ws://127.0.0.1:9443/events',
    websocket.message.type='text',
    @map(type='json')
)
CREATE STREAM OutputEvents (
    symbol STRING,
    price DOUBLE,
    volume DOUBLE
);

INSERT INTO OutputEvents
SELECT s AS symbol, CAST(p AS DOUBLE) AS price, CAST(q AS DOUBLE) AS volume
FROM RawTrades
WHERE e = 'trade';

CREATE STREAM prices AS
SELECT
    window_start,
    s AS symbol,
    min(CAST(p AS DOUBLE)) AS low,
    max(CAST(p AS DOUBLE)) AS high,
    sum(CAST(p AS DOUBLE) * CAST(q AS DOUBLE)) / sum(CAST(q AS DOUBLE)) AS vwap,
    count(*) AS trades
FROM RawTrades
WHERE e = 'trade'
GROUP BY TUMBLE(T, INTERVAL '1 second'), s;

SUBSCRIBE TO prices;
