//! The rows of a view as a table of a batch query.
//!
//! The table is planned before the view is read. A condition `key = value AND ..` on all columns of the
//! view's key becomes a question for few rows, which the view answers by its index; every other scan gets
//! the present version, whose pages are divided among partitions and filtered by their bitmaps while they
//! are read. DataFusion applies the conditions again, row by row.

use std::fmt;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, ScalarValue, Statistics, internal_err, project_schema};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures_util::stream;

use crate::dataflow::batch_of;
use crate::locked::locked;
use crate::topic::{Topic, ViewRead};

/// Rows from which on several threads scan a view.
pub(super) const LARGE_VIEW: usize = 131_072;

/// The keys that one scan looks up; of more it reads all rows.
const MAX_KEYS: usize = 1_024;

/// What the scans of one query read.
#[derive(Debug, Clone, Default)]
pub(super) struct ViewReads(Arc<Mutex<Vec<Arc<ViewRead>>>>);

impl ViewReads {
    /// What the scans read, and each of these views at least once: so that one that has failed says so.
    pub fn of(&self, views: &[Arc<Topic>]) -> Vec<Arc<ViewRead>> {
        let mut reads = std::mem::take(&mut *locked(&self.0));
        for view in views {
            if !reads.iter().any(|read| read.topic.id == view.id) {
                reads.push(Arc::new(ViewRead::new(Arc::clone(view), None)));
            }
        }
        reads
    }
}

#[derive(Debug)]
pub(super) struct ViewTable {
    topic: Arc<Topic>,
    reads: ViewReads,
    /// Maximum number of threads that scan at once.
    partitions: usize,
}

impl ViewTable {
    pub fn new(topic: &Arc<Topic>, reads: &ViewReads, partitions: usize) -> Self {
        Self {
            topic: Arc::clone(topic),
            reads: reads.clone(),
            partitions,
        }
    }

    /// The keys that these conditions leave, a column for each column of the key; `None` if that may be any,
    /// or too many.
    fn keys(&self, filters: &[Expr], state: &dyn Session) -> Option<Vec<ArrayRef>> {
        let relation = &self.topic.relation;
        if !relation.changes || filters.is_empty() {
            return None;
        }
        let all = || (0..relation.schema.fields().len()).collect();
        let columns: Vec<usize> = relation.key.clone().unwrap_or_else(all);
        let values = columns.iter().map(|&column| {
            let field = relation.schema.field(column);
            let values = filters
                .iter()
                .find_map(|filter| values_of(field.name(), filter, state))?;
            let values = ScalarValue::iter_to_array(values).ok()?;
            (values.data_type() == field.data_type()).then_some(values)
        });
        product(&values.collect::<Option<Vec<_>>>()?)
    }
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.topic.relation.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let keys = self.keys(filters, state);
        let rows = match &keys {
            Some(keys) => keys.first().map_or(1, |column| column.len()),
            None => self.topic.kept_rows(),
        };
        let read = Arc::new(ViewRead::new(Arc::clone(&self.topic), keys));
        locked(&self.reads.0).push(Arc::clone(&read));
        let schema = project_schema(&self.schema(), projection)?;
        let all = || (0..self.schema().fields().len()).collect();
        let partitions = if rows > LARGE_VIEW {
            self.partitions
        } else {
            1
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Arc::new(ViewScan {
            read,
            columns: projection.cloned().unwrap_or_else(all).into(),
            schema,
            rows,
            properties: Arc::new(properties),
        }))
    }
}

/// The values that the column of this name may have if a condition is met; `None` if it does not say.
fn values_of(name: &str, filter: &Expr, state: &dyn Session) -> Option<Vec<ScalarValue>> {
    let is_it = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == name);
    let constant = |expr: &Expr| constant(expr, state);
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Eq if is_it(left) => constant(right).map(|value| vec![value]),
            Operator::Eq if is_it(right) => constant(left).map(|value| vec![value]),
            Operator::And => {
                let left = values_of(name, left, state);
                left.or_else(|| values_of(name, right, state))
            }
            Operator::Or => {
                let mut values = values_of(name, left, state)?;
                values.extend(values_of(name, right, state)?);
                Some(values)
            }
            _ => None,
        },
        Expr::InList(list) if !list.negated && is_it(&list.expr) => {
            list.list.iter().map(constant).collect()
        }
        _ => None,
    }
}

/// The value of an expression without columns, such as a literal that is cast.
fn constant(expr: &Expr, state: &dyn Session) -> Option<ScalarValue> {
    if let Expr::Literal(value, _) = expr {
        return Some(value.clone());
    }
    if !expr.column_refs().is_empty() || expr.is_volatile() {
        return None;
    }
    let physical = state.create_physical_expr(expr.clone(), &DFSchema::empty());
    let row = batch_of(&Arc::new(Schema::empty()), Vec::new(), 1).ok()?;
    let value = physical.ok()?.evaluate(&row).ok()?.into_array(1).ok()?;
    ScalarValue::try_from_array(&value, 0).ok()
}

/// Every combination of one value of each column; `None` if those are more than [`MAX_KEYS`].
fn product(columns: &[ArrayRef]) -> Option<Vec<ArrayRef>> {
    let mut keys: Vec<ArrayRef> = Vec::with_capacity(columns.len());
    let mut count = 1;
    for values in columns {
        let each = values.len();
        if count * each > MAX_KEYS {
            return None;
        }
        let repeated = (0..count as u32).flat_map(|key| std::iter::repeat_n(key, each));
        let repeated = UInt32Array::from_iter_values(repeated);
        for column in &mut keys {
            *column = take(column, &repeated, None).ok()?;
        }
        let cycled: Vec<&dyn Array> = std::iter::repeat_n(values.as_ref(), count).collect();
        keys.push(concat(&cycled).ok()?);
        count *= each;
    }
    Some(keys)
}

/// A scan of the version that the view has when the plan runs.
#[derive(Debug)]
struct ViewScan {
    read: Arc<ViewRead>,
    columns: Arc<[usize]>,
    schema: SchemaRef,
    /// The number of rows, about.
    rows: usize,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for ViewScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.read.topic.relation.name;
        match &self.read.keys {
            Some(_) => write!(f, "ViewScan: {name}, by key"),
            None => write!(f, "ViewScan: {name}"),
        }
    }
}

impl ExecutionPlan for ViewScan {
    fn name(&self) -> &'static str {
        "ViewScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(rows) = self.read.rows().cloned() else {
            return internal_err!("a view that has not been read");
        };
        let partitions = self.properties.partitioning.partition_count();
        let (columns, schema) = (Arc::clone(&self.columns), Arc::clone(&self.schema));
        let slots = (partition..rows.slot_count()).step_by(partitions);
        let batches = slots.filter_map(move |slot| rows.read_slot(slot, &schema, &columns));
        let schema = Arc::clone(&self.schema);
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            schema,
            stream::iter(batches),
        )))
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let partitions = match args.partition() {
            Some(_) => self.properties.partitioning.partition_count(),
            None => 1,
        };
        let mut statistics = Statistics::new_unknown(&self.schema);
        statistics.num_rows = Precision::Inexact(self.rows / partitions);
        Ok(Arc::new(statistics))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{RecordBatch, StringArray};
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::physical_plan::displayable;

    use super::super::select::batch_context;
    use super::*;
    use crate::db::Db;

    const TYPES: [(&str, &str); 9] = [
        ("b", "BIGINT"),
        ("i", "INT"),
        ("t", "VARCHAR"),
        ("d", "DOUBLE"),
        ("ts", "TIMESTAMP"),
        ("day", "DATE"),
        ("m", "DECIMAL(10, 2)"),
        ("z", "TIMESTAMPTZ"),
        ("u", "SMALLINT"),
    ];

    fn view(key: &str) -> Db {
        let db = Db::builder().workers(1).in_memory().unwrap();
        let columns = TYPES.map(|(name, of)| format!("{name} {of}")).join(", ");
        let script = format!(
            "CREATE SOURCE s ({columns});
             CREATE VIEW v AS SELECT COUNT(*) AS n, {key} FROM s GROUP BY {key}"
        );
        db.execute(&script).unwrap();
        db
    }

    async fn planned(db: &Db, condition: &str) -> String {
        let topic = db.engine.catalog().topic("v").unwrap();
        let table = ViewTable::new(&topic, &ViewReads::default(), 1);
        let context = batch_context(1);
        context.register_table("v", Arc::new(table)).unwrap();
        let query = format!("SELECT n FROM v WHERE {condition}");
        let frame = context.sql(&query).await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        displayable(plan.as_ref()).indent(false).to_string()
    }

    #[tokio::test]
    async fn equal_to_a_literal_of_each_type_is_looked_up() {
        let conditions = [
            "b = 7",
            "7 = b",
            "i = 7",
            "u = 7",
            "t = 'a'",
            "d = 1.5",
            "d = 2",
            "ts = TIMESTAMP '2024-01-01 00:00:00'",
            "day = DATE '2024-01-01'",
            "m = 1.50",
            "z = TIMESTAMP '2024-01-01 00:00:00Z'",
        ];
        for condition in conditions {
            let key = condition
                .split(' ')
                .find(|word| TYPES.iter().any(|(name, _)| name == word));
            let plan = planned(&view(key.unwrap()), condition).await;
            assert!(plan.contains("by key"), "{condition}: {plan}");
        }
    }

    #[tokio::test]
    async fn conditions_on_all_columns_of_the_key_are_looked_up() {
        let db = view("b, t");
        for (condition, is_looked_up) in [
            ("b = 1 AND t = 'a'", true),
            ("t = 'a' AND n > 3 AND b IN (1, 2, 3, 4, 5)", true),
            ("(b = 1 OR b = 2) AND (t = 'a' OR t = 'b')", true),
            ("b = 1", false),
            ("b = 1 OR t = 'a'", false),
            ("b > 1 AND t = 'a'", false),
            ("b NOT IN (1, 2) AND t = 'a'", false),
            ("b + 1 = 2 AND t = 'a'", false),
        ] {
            let plan = planned(&db, condition).await;
            assert_eq!(plan.contains("by key"), is_looked_up, "{condition}: {plan}");
        }
        let many: Vec<_> = (0..=MAX_KEYS).map(|key| key.to_string()).collect();
        let plan = planned(&db, &format!("b IN ({}) AND t = 'a'", many.join(", "))).await;
        assert!(!plan.contains("by key"), "{plan}");
    }

    #[test]
    fn what_is_looked_up_is_what_a_scan_finds() {
        let db = view("t");
        let source = db.source_untyped("s").unwrap();
        let rows = (0..5_000).map(|row| match row % 100 {
            0 => None,
            key => Some(format!("k{key}")),
        });
        let texts: ArrayRef = Arc::new(rows.collect::<StringArray>());
        let schema = Arc::clone(&db.engine.catalog().topic("s").unwrap().relation.schema);
        let columns = schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                "t" => Arc::clone(&texts),
                _ => arrow::array::new_null_array(field.data_type(), texts.len()),
            });
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
        source.push_arrow(batch).unwrap();
        db.settle().unwrap();
        let shown = |condition: &str| {
            let query = format!("SELECT t, n FROM v WHERE {condition} ORDER BY t, n");
            pretty_format_batches(&db.query(&query).unwrap())
                .unwrap()
                .to_string()
        };
        for (looked_up, scanned) in [
            ("t = 'k7'", "concat(t, '') = 'k7'"),
            ("t = 'none'", "concat(t, '') = 'none'"),
            (
                "t IN ('k1', 'k2', 'k1', NULL, 'x', 'y')",
                "concat(t, '') IN ('k1', 'k2')",
            ),
            ("t = 'k3' AND n > 50", "concat(t, '') = 'k3' AND n > 50"),
        ] {
            assert_eq!(shown(looked_up), shown(scanned), "{looked_up}");
        }
        assert!(shown("t = 'k7'").contains("50"));
    }
}
