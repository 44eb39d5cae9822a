//! Random queries: one for the engine, and one for DataFusion to check it.
//!
//! The two differ for windows only. The engine gets `GROUP BY TUMBLE(...)`; DataFusion gets a join
//! with a table that has for each row, by its `id`, the windows it belongs to. That table is
//! computed without either of them (see `windows.rs`).

use datafusion::arrow::datatypes::DataType;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use crate::data::{Care, Column, per_second};
use crate::expression::{Class, Expressions, class_of};

/// Something to read from.
#[derive(Debug, Clone)]
pub struct Relation {
    pub name: String,
    pub columns: Vec<Column>,
    /// The column with event time.
    pub time: Option<String>,
    /// Whether `id` is unique in its rows.
    pub has_id: bool,
    pub changes: bool,
    /// Whether nothing can be late: rows are never behind the watermark.
    pub orderly: bool,
}

/// Which windows; lengths in units of the event time column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Windows {
    Tumble { size: i64, offset: i64 },
    Hop { slide: i64, size: i64, offset: i64 },
    Session { gap: i64 },
}

#[derive(Debug, Clone)]
pub struct Window {
    pub windows: Windows,
    /// The column with event time.
    pub time: String,
    pub time_type: DataType,
    /// How many keys there are beside the window.
    pub keys: usize,
    /// The rows that reach the windows: `id`, time, keys.
    pub rows: String,
    /// The relation in FROM with all its columns.
    pub whole: String,
    /// Whether no row of it can be late.
    pub orderly: bool,
    /// The source, if its rows come as they are.
    pub direct: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Query {
    pub name: String,
    pub view: bool,
    /// The SELECT for the engine.
    pub stream: String,
    /// The SELECT for DataFusion.
    pub batch: String,
    pub window: Option<Window>,
    pub reads: Vec<String>,
    /// Whether later queries may read it, and as what. Types come from planning.
    pub time: Option<String>,
    pub has_id: bool,
    pub changes: bool,
    pub orderly: bool,
    /// Of the result's columns.
    pub cares: Vec<Option<Care>>,
}

impl Query {
    /// The table of windows.
    pub fn windows_table(&self) -> String {
        format!("__win_{}", self.name)
    }

    pub fn create(&self) -> String {
        let kind = if self.view { "VIEW" } else { "STREAM" };
        format!("CREATE {kind} {} AS {}", self.name, self.stream)
    }
}

/// The relation in FROM.
struct From {
    /// `WITH ...`, or nothing.
    with: String,
    text: String,
    columns: Vec<Column>,
    relation: Relation,
    reads: Vec<String>,
    direct: bool,
}

/// Makes queries over `relations`.
pub struct Grammar<'a> {
    pub relations: &'a [Relation],
    pub stepwise: bool,
    pub rng: &'a mut StdRng,
}

impl Grammar<'_> {
    pub fn query(&mut self, name: &str) -> Query {
        let mut query = match self.rng.random_range(0..20) {
            0..=6 => self.rows(),
            7..=11 => self.grouped(),
            12 => self.mixed_union(),
            _ => self.windowed(name),
        };
        query.name = name.into();
        query.view = self.rng.random_bool(0.4);
        query
    }

    fn expressions<'b>(&'b mut self, columns: &'b [Column]) -> Expressions<'b> {
        Expressions {
            columns,
            rng: self.rng,
            tame: false,
        }
    }

    fn relation(&mut self, fits: impl Fn(&Relation) -> bool) -> Relation {
        let fitting: Vec<_> = self.relations.iter().filter(|it| fits(it)).collect();
        // The first relation is a source, which fits everything.
        fitting
            .choose(self.rng)
            .map_or_else(|| self.relations[0].clone(), |&it| it.clone())
    }

    /// A relation, a subquery, a CTE, or a union of two sources.
    fn from(&mut self, fits: impl Fn(&Relation) -> bool) -> From {
        let relation = self.relation(fits);
        let reads = vec![relation.name.clone()];
        let plain = From {
            with: String::new(),
            text: relation.name.clone(),
            columns: relation.columns.clone(),
            reads,
            direct: true,
            relation,
        };
        match self.rng.random_range(0..10) {
            0 | 1 => self.derived(plain, false),
            2 => self.derived(plain, true),
            3 | 4 => self.united().unwrap_or(plain),
            _ => plain,
        }
    }

    /// `SELECT id, ts, ..., expressions FROM ... WHERE ...` in FROM.
    fn derived(&mut self, from: From, cte: bool) -> From {
        let kept: Vec<Column> = from
            .columns
            .iter()
            .filter(|it| {
                let essential = it.name == "id" || Some(&it.name) == from.relation.time.as_ref();
                essential || it.name.len() % 2 == 0
            })
            .cloned()
            .collect();
        let mut items: Vec<String> = kept.iter().map(|it| it.name.clone()).collect();
        let mut columns = kept;
        let classes = [
            ("d0", Class::Number, DataType::Float64),
            ("d1", Class::Text, DataType::Utf8),
        ];
        for (name, class, data_type) in classes {
            let sql = self.expressions(&from.columns).of(class, 2);
            let sql = match class {
                Class::Number => format!("CAST({sql} AS DOUBLE)"),
                _ => sql,
            };
            items.push(format!("{sql} AS {name}"));
            let (name, care) = (name.into(), Care::Wild);
            columns.push(Column {
                name,
                data_type,
                nullable: true,
                care,
            });
        }
        let filter = self.filter(&from.columns);
        let select = format!("SELECT {} FROM {}{filter}", items.join(", "), from.text);
        let (with, text) = match cte {
            true => (format!("WITH d AS ({select}) "), "d".to_owned()),
            false => (String::new(), format!("({select}) AS d")),
        };
        From {
            with,
            text,
            columns,
            direct: false,
            ..from
        }
    }

    /// Two sources of the same columns, one after the other.
    fn united(&mut self) -> Option<From> {
        let [a, b, ..] = self.relations else {
            return None;
        };
        let same = a.columns.len() == b.columns.len();
        let same = same
            && a.columns
                .iter()
                .zip(&b.columns)
                .all(|(a, b)| a.name == b.name && a.data_type == b.data_type);
        if !same {
            return None;
        }
        let mut columns = a.columns.clone();
        for (column, other) in columns.iter_mut().zip(&b.columns) {
            column.nullable |= other.nullable;
            if other.care == Care::Wild {
                column.care = Care::Wild;
            }
        }
        let list: Vec<_> = columns.iter().map(|it| it.name.clone()).collect();
        let list = list.join(", ");
        let filter = self.filter(&a.columns);
        let text = format!(
            "(SELECT {list} FROM {}{filter} UNION ALL SELECT {list} FROM {}) AS u",
            a.name, b.name
        );
        let mut relation = a.clone();
        relation.orderly &= b.orderly;
        let reads = vec![a.name.clone(), b.name.clone()];
        Some(From {
            with: String::new(),
            text,
            columns,
            relation,
            reads,
            direct: false,
        })
    }

    fn filter(&mut self, columns: &[Column]) -> String {
        match self.rng.random_bool(0.5) {
            true => format!(" WHERE {}", self.expressions(columns).truth(2)),
            false => String::new(),
        }
    }

    fn rows(&mut self) -> Query {
        let from = self.from(|_| true);
        let mut items = Vec::new();
        let mut cares = Vec::new();
        let keeps_time = self.rng.random_bool(0.6);
        for column in &from.columns {
            let essential =
                column.name == "id" || Some(&column.name) == from.relation.time.as_ref();
            let kept = essential && keeps_time || self.rng.random_bool(0.3);
            if kept {
                items.push(column.name.clone());
                cares.push(Some(column.care));
            }
        }
        for number in 0..self.rng.random_range(1..4) {
            let sql = self.expressions(&from.columns).any(3);
            items.push(format!("{sql} AS e{number}"));
            cares.push(Some(Care::Wild));
        }
        let risky = self.rng.random_bool(0.06);
        let (filter, distinct) = match risky {
            true => {
                items.push(format!(
                    "{} AS risk",
                    self.expressions(&from.columns).risky()
                ));
                cares.push(None);
                (String::new(), false)
            }
            false => (
                self.filter(&from.columns),
                !from.relation.changes && self.rng.random_bool(0.1),
            ),
        };
        let keyword = if distinct {
            "SELECT DISTINCT"
        } else {
            "SELECT"
        };
        let mut sql = format!(
            "{}{keyword} {} FROM {}{filter}",
            from.with,
            items.join(", "),
            from.text
        );
        let doubled = !distinct && self.rng.random_bool(0.1);
        if doubled {
            let again = self.filter(&from.columns);
            sql = format!(
                "{sql} UNION ALL SELECT {} FROM {}{again}",
                items.join(", "),
                from.text
            );
        }
        let changes = from.relation.changes || distinct;
        let whole = keeps_time && !changes;
        Query {
            stream: sql.clone(),
            batch: sql,
            time: from.relation.time.clone().filter(|_| whole),
            has_id: from.relation.has_id && whole && !doubled,
            changes,
            orderly: from.relation.orderly,
            cares,
            reads: from.reads,
            ..empty()
        }
    }

    /// Keys, aggregates, HAVING; `None` for what is the same with and without windows.
    fn grouping(
        &mut self,
        columns: &[Column],
        most_keys: usize,
    ) -> (Vec<String>, Vec<String>, String) {
        let count = self.rng.random_range(0..=most_keys);
        let keys: Vec<_> = (0..count)
            .map(|_| self.expressions(columns).key())
            .collect();
        let count = self.rng.random_range(1..5);
        let aggregates = (0..count)
            .map(|_| self.expressions(columns).aggregate())
            .collect();
        let having = match self.rng.random_bool(0.25) {
            true => format!(" HAVING {}", self.expressions(columns).having()),
            false => String::new(),
        };
        (keys, aggregates, having)
    }

    fn grouped(&mut self) -> Query {
        let from = self.from(|it| !it.changes);
        let (keys, aggregates, having) = self.grouping(&from.columns, 3);
        let filter = self.filter(&from.columns);
        let mut items: Vec<_> = name(&keys, "k");
        items.extend(name(&aggregates, "a"));
        let group = if keys.is_empty() {
            String::new()
        } else {
            format!(" GROUP BY {}", keys.join(", "))
        };
        let sql = format!(
            "{}SELECT {} FROM {}{filter}{group}{having}",
            from.with,
            items.join(", "),
            from.text
        );
        Query {
            stream: sql.clone(),
            batch: sql,
            changes: true,
            cares: cares(&keys, &aggregates),
            reads: from.reads,
            ..empty()
        }
    }

    /// A result that changes beside rows that only appear.
    fn mixed_union(&mut self) -> Query {
        let (a, b) = (self.relation(|it| !it.changes), self.relation(|_| true));
        let key = self.expressions(&a.columns).of(Class::Text, 1);
        let value = self.expressions(&b.columns).of(Class::Text, 2);
        let number = self.expressions(&b.columns).of(Class::Number, 1);
        let sql = format!(
            "SELECT CONCAT({key}, '') AS k, COUNT(*) AS n FROM {} GROUP BY CONCAT({key}, '') \
             UNION ALL SELECT CONCAT({value}, ''), TRY_CAST({number} AS BIGINT) FROM {}",
            a.name, b.name
        );
        Query {
            stream: sql.clone(),
            batch: sql,
            changes: true,
            cares: vec![Some(Care::None), Some(Care::Wild)],
            reads: vec![a.name, b.name],
            ..empty()
        }
    }

    fn windowed(&mut self, query: &str) -> Query {
        let from = self.from(|it| !it.changes && it.time.is_some() && it.has_id);
        let time = from.relation.time.clone().expect("a relation with time");
        let column = from
            .columns
            .iter()
            .find(|it| it.name == time)
            .expect("kept");
        let time_type = column.data_type.clone();
        let (windows, call) = self.windows(&time, &time_type, &from);
        let (keys, mut aggregates, having) = self.grouping(&from.columns, 2);
        // Keeps `id` among the columns of late rows, and gives the result one.
        aggregates.insert(0, "MIN(id)".into());
        let filter = self.filter(&from.columns);
        // PostgreSQL has no nanoseconds, so not the last instant of such a window.
        let has_last = per_second(&time_type) <= 1_000_000;
        let end = match !has_last || self.rng.random_bool(0.5) {
            true => ("window_end AS we", "__we AS we"),
            false => ("window_time AS we", "__wt AS we"),
        };
        let mut items = vec!["window_start AS ws".to_owned(), end.0.to_owned()];
        items.extend(name(&keys, "k"));
        items.extend(name(&aggregates, "a"));
        let items = items.join(", ").replace(" AS a0", " AS id");
        let mut group = vec![call];
        group.extend(keys.iter().cloned());
        let stream = format!(
            "{}SELECT {items} FROM {}{filter} GROUP BY {}{having}",
            from.with,
            from.text,
            group.join(", ")
        );
        group[0] = "__ws, __we, __wt".into();
        let table = format!("__win_{query}");
        let items = items.replacen("window_start AS ws", "__ws AS ws", 1);
        let items = items.replacen(end.0, end.1, 1);
        let batch = format!(
            "{}SELECT {items} FROM {} JOIN {table} ON id = __id{filter} GROUP BY {}{having}",
            from.with,
            from.text,
            group.join(", ")
        );
        let listed: String = name(&keys, "k")
            .iter()
            .map(|key| format!(", {key}"))
            .collect();
        let rows = format!(
            "{}SELECT id, {time}{listed} FROM {}{filter}",
            from.with, from.text
        );
        let mut all = vec![Some(Care::None), Some(Care::None)];
        all.extend(cares(&keys, &aggregates));
        let direct = is_source(&from).then(|| from.relation.name.clone());
        Query {
            stream,
            batch,
            window: Some(Window {
                windows,
                time: time.clone(),
                time_type,
                keys: keys.len(),
                rows,
                whole: format!("{}SELECT * FROM {}", from.with, from.text),
                orderly: from.relation.orderly,
                direct,
            }),
            time: Some("we".into()),
            has_id: !matches!(windows, Windows::Hop { .. }),
            orderly: true,
            cares: all,
            reads: from.reads,
            ..empty()
        }
    }

    fn windows(&mut self, time: &str, time_type: &DataType, from: &From) -> (Windows, String) {
        let second = per_second(time_type);
        let size = *[1, 5, 10, 60].choose(self.rng).expect("some");
        // Which windows were open when a late row came is known only if each push is a step.
        let hop = from.relation.orderly || self.stepwise && is_source(from);
        let offset = match self.rng.random_bool(0.3) {
            true => self.rng.random_range(-100..100),
            false => 0,
        };
        let more = match offset {
            0 => String::new(),
            seconds => format!(", INTERVAL '{seconds} seconds'"),
        };
        match self.rng.random_range(0..3) {
            0 if hop => {
                let panes = *[1, 2, 3, 10].choose(self.rng).expect("some");
                let (slide, size) = (size * second, size * panes * second);
                let text = (size / second, slide / second);
                let call = format!(
                    "HOP({time}, INTERVAL '{} seconds', INTERVAL '{} seconds'{more})",
                    text.1, text.0
                );
                let offset = offset * second;
                let windows = Windows::Hop {
                    slide,
                    size,
                    offset,
                };
                (windows, call)
            }
            1 => {
                let call = format!("SESSION({time}, INTERVAL '{size} seconds')");
                (Windows::Session { gap: size * second }, call)
            }
            _ => {
                let call = format!("TUMBLE({time}, INTERVAL '{size} seconds'{more})");
                let (size, offset) = (size * second, offset * second);
                (Windows::Tumble { size, offset }, call)
            }
        }
    }
}

/// Whether rows come from a source as they are; sources are called s0 and s1.
fn is_source(from: &From) -> bool {
    from.direct && from.relation.name.starts_with('s')
}

fn name(expressions: &[String], prefix: &str) -> Vec<String> {
    let numbered = expressions.iter().enumerate();
    numbered
        .map(|(number, sql)| format!("{sql} AS {prefix}{number}"))
        .collect()
}

/// Keys may be used for anything but sums of floats; aggregates as their type says.
fn cares(keys: &[String], aggregates: &[String]) -> Vec<Option<Care>> {
    let keys = keys.iter().map(|_| Some(Care::Wild));
    keys.chain(aggregates.iter().map(|_| None)).collect()
}

fn empty() -> Query {
    Query {
        name: String::new(),
        view: false,
        stream: String::new(),
        batch: String::new(),
        window: None,
        reads: Vec::new(),
        time: None,
        has_id: false,
        changes: false,
        orderly: false,
        cares: Vec::new(),
    }
}

/// Whether expressions can be made of a column.
pub fn is_usable(data_type: &DataType) -> bool {
    class_of(data_type).is_some()
}
