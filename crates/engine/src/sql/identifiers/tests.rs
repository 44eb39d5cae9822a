//! Names get their declared spelling at every position of a query.

use super::{TableLookup, resolve_identifiers};
use crate::sql::SqlError;
use crate::sql::tests::{pointed_at, query};

/// Binance's feed, a table in capitals, two that differ by case, and one in a schema.
struct Declared;

const TABLES: &[(&str, &[&str])] = &[
    ("trades", &["e", "E", "symbol", "Price", "ts"]),
    ("Quotes", &["symbol", "Bid", "ask", "info"]),
    ("same", &["a"]),
    ("SAME", &["A", "a b"]),
    ("system.gaps", &["Source", "reason"]),
];

impl TableLookup for Declared {
    fn names(&self) -> Vec<String> {
        TABLES.iter().map(|(name, _)| (*name).into()).collect()
    }

    fn columns(&self, table: &str) -> Option<Vec<String>> {
        let (_, columns) = TABLES.iter().find(|(name, _)| *name == table)?;
        Some(columns.iter().map(|&name| name.into()).collect())
    }
}

#[track_caller]
fn resolves(script: &str, expected: &str) {
    let mut query = query(script);
    resolve_identifiers(&mut query, &Declared).unwrap_or_else(|e| panic!("{script}: {e:?}"));
    assert_eq!(query.ast.to_string(), expected);
    resolve_identifiers(&mut query, &Declared).unwrap_or_else(|e| panic!("{script}: {e:?}"));
    assert_eq!(
        query.ast.to_string(),
        expected,
        "a second time changes nothing"
    );
}

fn failure(script: &str) -> (SqlError, String) {
    let mut query = query(script);
    match resolve_identifiers(&mut query, &Declared) {
        Ok(_) => panic!("{script} was accepted: {}", query.ast),
        Err(error) => {
            let place = pointed_at(script, &error);
            (error, place)
        }
    }
}

#[test]
fn the_exact_spelling_goes_first_then_the_only_one_but_for_case() {
    resolves(
        "SELECT e, E, SYMBOL, price, abs(PRICE) FROM TRADES WHERE Symbol = 'x' AND TS > 1",
        "SELECT e, E, symbol, Price, abs(Price) FROM trades WHERE symbol = 'x' AND ts > 1",
    );
    resolves("SELECT A FROM SAME", "SELECT A FROM SAME");
    resolves("SELECT A FROM same", "SELECT a FROM same");
}

#[test]
fn a_quoted_name_and_an_unknown_one_stay_as_they_are() {
    resolves(
        "SELECT \"SYMBOL\", missing, \"a b\" FROM trades",
        "SELECT \"SYMBOL\", missing, \"a b\" FROM trades",
    );
    resolves(
        "SELECT X, t.Y FROM nowhere AS t",
        "SELECT X, t.Y FROM nowhere AS t",
    );
    resolves(
        "SELECT \"SYMBOL\" FROM \"TRADES\"",
        "SELECT \"SYMBOL\" FROM \"TRADES\"",
    );
}

#[test]
fn a_name_that_fits_several_is_ambiguous() {
    let (error, place) = failure("SELECT x FROM Same");
    assert_eq!((error.sqlstate, place.as_str()), ("42P09", "Same"));
    assert_eq!(error.message, "name \"Same\" is ambiguous: SAME, same");

    let (error, place) = failure("SELECT aB FROM (SELECT 1 AS ab, 2 AS AB) AS t");
    assert_eq!((error.sqlstate, place.as_str()), ("42702", "aB"));
    assert!(error.hint.is_some());

    let (error, place) = failure("SELECT tT.x FROM trades tt CROSS JOIN trades TT");
    assert_eq!((error.sqlstate, place.as_str()), ("42P09", "tT"));
}

#[test]
fn a_qualifier_is_a_table_an_alias_or_a_schema_and_a_table() {
    resolves(
        "SELECT TRADES.SYMBOL FROM trades",
        "SELECT trades.symbol FROM trades",
    );
    resolves(
        "SELECT T.SYMBOL, q.bid, Q.* FROM trades t JOIN quotes AS Q ON T.symbol = q.SYMBOL",
        "SELECT t.symbol, Q.Bid, Q.* FROM trades t JOIN Quotes AS Q ON t.symbol = Q.symbol",
    );
    resolves(
        "SELECT SYSTEM.GAPS.SOURCE, Gaps.REASON FROM System.Gaps",
        "SELECT system.gaps.Source, gaps.reason FROM system.gaps",
    );
    // An alias hides the name of the table; a column may have fields.
    resolves(
        "SELECT trades.SYMBOL FROM trades AS t",
        "SELECT trades.SYMBOL FROM trades AS t",
    );
    resolves(
        "SELECT INFO.Field, quotes.INFO.Field FROM quotes",
        "SELECT info.Field, Quotes.info.Field FROM Quotes",
    );
    resolves(
        "SELECT \"T\".SYMBOL FROM trades t",
        "SELECT \"T\".SYMBOL FROM trades t",
    );
}

#[test]
fn an_alias_is_visible_where_the_standard_makes_it_visible() {
    resolves(
        "SELECT symbol AS Sym, max(price) AS Top FROM trades GROUP BY SYM HAVING TOP > 1 ORDER BY top, SYMBOL",
        "SELECT symbol AS Sym, max(Price) AS Top FROM trades GROUP BY Sym HAVING Top > 1 ORDER BY Top, symbol",
    );
    // Not in WHERE: there the column is meant, and nothing is ambiguous.
    resolves(
        "SELECT ask AS BID FROM quotes WHERE bid > 1 GROUP BY bid ORDER BY bid",
        "SELECT ask AS BID FROM Quotes WHERE Bid > 1 GROUP BY Bid ORDER BY BID",
    );
}

#[test]
fn subqueries_and_ctes_give_their_columns() {
    resolves(
        "WITH Best AS (SELECT symbol AS Sym, PRICE FROM trades), b2 (X) AS (SELECT sym FROM best) \
         SELECT SYM, price, x FROM BEST, B2",
        "WITH Best AS (SELECT symbol AS Sym, Price FROM trades), b2 (X) AS (SELECT Sym FROM Best) \
         SELECT Sym, Price, X FROM Best, b2",
    );
    resolves(
        "SELECT D.SYMBOL, price FROM (SELECT * FROM trades) AS d",
        "SELECT d.symbol, Price FROM (SELECT * FROM trades) AS d",
    );
    resolves(
        "SELECT A, B, column1 FROM (VALUES (1, 2)) AS v (a, b) CROSS JOIN (VALUES (3)) AS w",
        "SELECT a, b, column1 FROM (VALUES (1, 2)) AS v (a, b) CROSS JOIN (VALUES (3)) AS w",
    );
    // A CTE hides a table of its name.
    resolves(
        "WITH trades AS (SELECT 1 AS Z) SELECT z, SYMBOL FROM TRADES",
        "WITH trades AS (SELECT 1 AS Z) SELECT Z, SYMBOL FROM trades",
    );
    resolves(
        "WITH RECURSIVE r AS (SELECT 1 AS N UNION ALL SELECT n + 1 FROM R) SELECT n FROM r",
        "WITH RECURSIVE r AS (SELECT 1 AS N UNION ALL SELECT n + 1 FROM r) SELECT N FROM r",
    );
}

#[test]
fn a_query_in_an_expression_sees_the_scopes_around_it() {
    resolves(
        "SELECT SYMBOL FROM trades WHERE PRICE > (SELECT max(BID) FROM quotes WHERE ASK < TRADES.Price AND TS > 1)",
        "SELECT symbol FROM trades WHERE Price > (SELECT max(Bid) FROM Quotes WHERE ask < trades.Price AND ts > 1)",
    );
    resolves(
        "SELECT 1 FROM trades WHERE SYMBOL IN (SELECT SYMBOL FROM quotes) AND EXISTS (SELECT 1 FROM quotes q WHERE Q.symbol = PRICE)",
        "SELECT 1 FROM trades WHERE symbol IN (SELECT symbol FROM Quotes) AND EXISTS (SELECT 1 FROM Quotes q WHERE q.symbol = Price)",
    );
    // A query in FROM does not, unless it is lateral.
    resolves(
        "SELECT 1 FROM trades t, (SELECT T.PRICE) AS d",
        "SELECT 1 FROM trades t, (SELECT T.PRICE) AS d",
    );
    resolves(
        "SELECT 1 FROM trades t, LATERAL (SELECT T.PRICE) AS d",
        "SELECT 1 FROM trades t, LATERAL (SELECT t.Price) AS d",
    );
}

#[test]
fn unions_joins_windows_and_stars() {
    resolves(
        "SELECT SYMBOL FROM trades UNION ALL SELECT SYMBOL FROM quotes ORDER BY Symbol",
        "SELECT symbol FROM trades UNION ALL SELECT symbol FROM Quotes ORDER BY symbol",
    );
    resolves(
        "SELECT * EXCEPT (SYMBOL) FROM trades JOIN quotes USING (SYMBOL)",
        "SELECT * EXCEPT (symbol) FROM trades JOIN Quotes USING(symbol)",
    );
    resolves(
        "SELECT sum(PRICE) OVER (PARTITION BY SYMBOL ORDER BY TS) FROM (trades)",
        "SELECT sum(Price) OVER (PARTITION BY symbol ORDER BY ts) FROM trades",
    );
    resolves(
        "SELECT CASE WHEN E = 'x' THEN PRICE END, count(*) FILTER (WHERE SYMBOL IS NULL) FROM trades",
        "SELECT CASE WHEN E = 'x' THEN Price END, count(*) FILTER (WHERE symbol IS NULL) FROM trades",
    );
    resolves(
        "SELECT x.Bid FROM (trades JOIN quotes ON TRUE) AS X",
        "SELECT X.Bid FROM (trades JOIN Quotes ON true) AS X",
    );
    resolves(
        "SELECT DISTINCT ON (SYMBOL) Price FROM trades QUALIFY rank() OVER (ORDER BY PRICE) = 1",
        "SELECT DISTINCT ON (symbol) Price FROM trades QUALIFY rank() OVER (ORDER BY Price) = 1",
    );
}
