-- What Headwater has and PostgreSQL has not, and what differs on purpose. `hw` is searched first.
BEGIN;
CREATE SCHEMA IF NOT EXISTS hw;
SET search_path = hw, pg_catalog, pg_temp;
SET statement_timeout = '60s';

-- SUM(BIGINT) stays BIGINT.
CREATE OR REPLACE FUNCTION hw.add_wide(numeric, bigint) RETURNS numeric LANGUAGE sql IMMUTABLE
    AS 'SELECT CASE WHEN $2 IS NULL THEN $1 ELSE COALESCE($1, 0) + $2 END';
CREATE OR REPLACE FUNCTION hw.narrow(numeric) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1::bigint';
CREATE OR REPLACE AGGREGATE hw.sum(bigint) (SFUNC = hw.add_wide, STYPE = numeric, FINALFUNC = hw.narrow);

-- Types and casts.
CREATE OR REPLACE FUNCTION hw.tinyint(smallint) RETURNS smallint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF $1 NOT BETWEEN -128 AND 127 THEN
        RAISE 'tinyint out of range' USING ERRCODE = '22003';
    END IF;
    RETURN $1;
END $$;
CREATE OR REPLACE FUNCTION hw.try_smallint(anyelement) RETURNS smallint LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN $1::smallint; EXCEPTION WHEN data_exception THEN RETURN NULL; END';
CREATE OR REPLACE FUNCTION hw.try_int(anyelement) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN $1::int; EXCEPTION WHEN data_exception THEN RETURN NULL; END';
CREATE OR REPLACE FUNCTION hw.try_bigint(anyelement) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN $1::bigint; EXCEPTION WHEN data_exception THEN RETURN NULL; END';
CREATE OR REPLACE FUNCTION hw.try_double(anyelement) RETURNS double precision LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN $1::double precision; EXCEPTION WHEN data_exception THEN RETURN NULL; END';

-- The time of a DATE has no zone.
CREATE OR REPLACE FUNCTION hw.date_trunc(text, date) RETURNS timestamp LANGUAGE sql IMMUTABLE
    AS 'SELECT pg_catalog.date_trunc($1, $2::timestamp)';

-- Functions of other databases.
CREATE OR REPLACE FUNCTION hw.signum(double precision) RETURNS double precision LANGUAGE sql IMMUTABLE
    AS 'SELECT pg_catalog.sign($1)';
CREATE OR REPLACE FUNCTION hw.rest(a double precision, b double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE AS 'SELECT $1 - $2 * trunc($1 / $2)';
DROP OPERATOR IF EXISTS hw.% (double precision, double precision);
CREATE OPERATOR hw.% (LEFTARG = double precision, RIGHTARG = double precision, FUNCTION = hw.rest);

-- Aggregates of other databases.
CREATE OR REPLACE FUNCTION hw.keep_first(anyarray, anyelement) RETURNS anyarray LANGUAGE sql IMMUTABLE
    AS 'SELECT COALESCE($1, ARRAY[$2])';
CREATE OR REPLACE FUNCTION hw.keep_last(anyarray, anyelement) RETURNS anyarray LANGUAGE sql IMMUTABLE
    AS 'SELECT ARRAY[$2]';
CREATE OR REPLACE FUNCTION hw.kept(anyarray) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT $1[1]';
CREATE OR REPLACE AGGREGATE hw.first_value(anyelement) (SFUNC = hw.keep_first, STYPE = anyarray, FINALFUNC = hw.kept);
CREATE OR REPLACE AGGREGATE hw.last_value(anyelement) (SFUNC = hw.keep_last, STYPE = anyarray, FINALFUNC = hw.kept);
CREATE OR REPLACE FUNCTION hw.join_text(text, anyelement, text) RETURNS text LANGUAGE sql IMMUTABLE
    AS 'SELECT CASE WHEN $2 IS NULL THEN $1 ELSE COALESCE($1 || $3, '''') || $2::text END';
CREATE OR REPLACE AGGREGATE hw.string_agg(anyelement, text) (SFUNC = hw.join_text, STYPE = text);
