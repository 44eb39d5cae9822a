-- The load of this machine, second by second: its processors and its network interfaces.

-- The kernel's counters, read ten times a second. The lines have no timestamp, so event time is the
-- time of arrival.
CREATE SOURCE proc_stat (
    line VARCHAR NOT NULL,
    _arrival TIMESTAMP NOT NULL,
    WATERMARK FOR _arrival AS _arrival
) WITH (connector = 'process', command = 'cat /proc/stat', mode = 'interval', interval = '100ms');

CREATE SOURCE proc_net_dev (
    line VARCHAR NOT NULL,
    _arrival TIMESTAMP NOT NULL,
    WATERMARK FOR _arrival AS _arrival
) WITH (connector = 'process', command = 'cat /proc/net/dev', mode = 'interval', interval = '100ms');

-- `cpu0 user nice system idle iowait irq softirq steal ...`, in hundredths of a second since boot.
CREATE STREAM ticks AS
SELECT
    split_part(line, ' ', 1) AS cpu,
    CAST(split_part(line, ' ', 2) AS BIGINT) + CAST(split_part(line, ' ', 3) AS BIGINT)
        + CAST(split_part(line, ' ', 4) AS BIGINT) + CAST(split_part(line, ' ', 7) AS BIGINT)
        + CAST(split_part(line, ' ', 8) AS BIGINT) + CAST(split_part(line, ' ', 9) AS BIGINT) AS busy,
    CAST(split_part(line, ' ', 5) AS BIGINT) + CAST(split_part(line, ' ', 6) AS BIGINT) AS idle,
    _arrival
FROM proc_stat
WHERE regexp_like(line, '^cpu[0-9]+ ');

CREATE STREAM processors AS
SELECT
    window_start,
    cpu,
    100.0 * (max(busy) - min(busy))
        / nullif(max(busy) - min(busy) + max(idle) - min(idle), 0) AS busy_percent,
    count(*) AS readings
FROM ticks
GROUP BY TUMBLE(_arrival, INTERVAL '1 second'), cpu;

-- `  eth0: 8155643 5412 0 0 0 0 0 0 912347 4120 ...`: bytes received are the first number, bytes sent the ninth.
CREATE STREAM counters AS
SELECT
    trim(split_part(line, ':', 1)) AS interface,
    CAST(regexp_match(split_part(line, ':', 2), '\d+')[1] AS BIGINT) AS received,
    CAST(regexp_match(split_part(line, ':', 2), '\d+(?:\s+\d+){7}\s+(\d+)')[1] AS BIGINT) AS sent,
    _arrival
FROM proc_net_dev
WHERE line LIKE '%:%';

CREATE STREAM network AS
SELECT
    window_start,
    interface,
    max(received) - min(received) AS received_bytes,
    max(sent) - min(sent) AS sent_bytes,
    count(*) AS readings
FROM counters
GROUP BY TUMBLE(_arrival, INTERVAL '1 second'), interface;

SUBSCRIBE TO processors;
SUBSCRIBE TO network;
