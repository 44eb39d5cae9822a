-- What Headwater has and PostgreSQL has not, and what differs on purpose: in a schema of this connection, which is
-- searched first.
SELECT 'hw' || pg_backend_pid() AS hw \gset
BEGIN;
CREATE SCHEMA :hw;
SET search_path = :hw, pg_catalog, pg_temp;
SET statement_timeout = '60s';

-- SUM(BIGINT) stays BIGINT.
CREATE FUNCTION add_wide(numeric, bigint) RETURNS numeric LANGUAGE sql IMMUTABLE
    AS 'SELECT CASE WHEN $2 IS NULL THEN $1 ELSE COALESCE($1, 0) + $2 END';
CREATE FUNCTION narrow(numeric) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1::bigint';
CREATE AGGREGATE sum(bigint) (SFUNC = add_wide, STYPE = numeric, FINALFUNC = narrow);

-- Types and casts.
CREATE FUNCTION tinyint(smallint) RETURNS smallint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF $1 NOT BETWEEN -128 AND 127 THEN
        RAISE 'tinyint out of range' USING ERRCODE = '22003';
    END IF;
    RETURN $1;
END $$;
CREATE FUNCTION try_smallint(anyelement) RETURNS smallint LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN $1::smallint; EXCEPTION WHEN data_exception THEN RETURN NULL; END';
CREATE FUNCTION try_int(anyelement) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN $1::int; EXCEPTION WHEN data_exception THEN RETURN NULL; END';
CREATE FUNCTION try_bigint(anyelement) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN $1::bigint; EXCEPTION WHEN data_exception THEN RETURN NULL; END';
CREATE FUNCTION try_double(anyelement) RETURNS double precision LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN RETURN $1::double precision; EXCEPTION WHEN data_exception THEN RETURN NULL; END';

-- The time of a DATE has no zone.
CREATE FUNCTION date_trunc(text, date) RETURNS timestamp LANGUAGE sql IMMUTABLE
    AS 'SELECT pg_catalog.date_trunc($1, $2::timestamp)';

-- Functions of other databases.
CREATE FUNCTION signum(double precision) RETURNS double precision LANGUAGE sql IMMUTABLE
    AS 'SELECT pg_catalog.sign($1)';
CREATE FUNCTION rest(a double precision, b double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE AS 'SELECT CASE WHEN $2 = 0 THEN ''NaN'' ELSE $1 - $2 * trunc($1 / $2) END';
CREATE OPERATOR % (LEFTARG = double precision, RIGHTARG = double precision, FUNCTION = rest);

-- Aggregates of other databases.
CREATE FUNCTION keep_first(anyarray, anyelement) RETURNS anyarray LANGUAGE sql IMMUTABLE
    AS 'SELECT COALESCE($1, ARRAY[$2])';
CREATE FUNCTION keep_last(anyarray, anyelement) RETURNS anyarray LANGUAGE sql IMMUTABLE
    AS 'SELECT ARRAY[$2]';
CREATE FUNCTION kept(anyarray) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT $1[1]';
CREATE AGGREGATE first_value(anyelement) (SFUNC = keep_first, STYPE = anyarray, FINALFUNC = kept);
CREATE AGGREGATE last_value(anyelement) (SFUNC = keep_last, STYPE = anyarray, FINALFUNC = kept);
CREATE FUNCTION join_text(text, anyelement, text) RETURNS text LANGUAGE sql IMMUTABLE
    AS 'SELECT CASE WHEN $2 IS NULL THEN $1 ELSE COALESCE($1 || $3, '''') || $2::text END';
CREATE AGGREGATE string_agg(anyelement, text) (SFUNC = join_text, STYPE = text);
