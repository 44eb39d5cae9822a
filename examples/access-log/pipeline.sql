-- Requests and errors for each minute of an access log, by the log's own clock.
--
-- The columns behind AS are computed from the line when it is read; a line without a time is a bad row.

CREATE SOURCE access (
    line VARCHAR,
    ts TIMESTAMP NOT NULL AS (
        to_timestamp(regexp_match(line, '\[([^]]+)\]')[1], 'DD/Mon/YYYY:HH24:MI:SS TZHTZM')
    ),
    path VARCHAR AS (regexp_match(line, '"[A-Z]+ ([^ ]+)')[1]),
    status INT AS (CAST(regexp_match(line, '" ([0-9]{3}) ')[1] AS INT)),
    WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (
    connector = 'file',
    path = 'examples/access-log/access.log',
    format = 'text',
    follow = false
);

CREATE STREAM minutes AS
SELECT
    window_start AS minute,
    COUNT(*) AS requests,
    COUNT(*) FILTER (WHERE status >= 400) AS errors,
    MAX(path) AS last_path
FROM access
GROUP BY TUMBLE(ts, INTERVAL '1 minute');

-- The line that came after its minute had closed, and the one that has no time.
CREATE STREAM asides AS
SELECT 'late' AS why, line FROM minutes__late
UNION ALL
SELECT 'bad' AS why, CAST(bytes AS VARCHAR) AS line FROM access__bad;

SUBSCRIBE TO minutes;
SUBSCRIBE TO asides;
