//! The plans under test: every kind of stage, with no, one and several keys.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono_tz::Tz;
use datafusion::functions_aggregate::{array_agg, average, count, min_max, sum};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::col;

use super::SECOND;
use crate::dataflow::{
    Aggregate, EventTime, Grouping, KeyedSpec, LocalDays, OutputColumn, Plan, PlanNode,
    SessionSpec, WindowSlots, WindowSpec,
};

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

pub(super) fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8, true),
        Field::new("number", DataType::Int64, false),
        Field::new("value", DataType::Int64, true),
        Field::new("price", DataType::Float64, false),
        Field::new("ts", time_type(), true),
    ]))
}

fn aggregate(function: Arc<AggregateUDF>, column: &str, schema: &SchemaRef) -> Aggregate {
    let argument = col(column, schema).unwrap();
    let builder = AggregateExprBuilder::new(function, vec![argument]);
    let builder = builder.schema(Arc::clone(schema)).alias(column);
    Aggregate {
        function: Arc::new(builder.build().unwrap()),
        filter: None,
    }
}

/// Aggregates, of which the last shows the order of the rows.
pub(super) fn aggregates(schema: &SchemaRef) -> Vec<Aggregate> {
    vec![
        aggregate(count::count_udaf(), "value", schema),
        aggregate(sum::sum_udaf(), "value", schema),
        aggregate(average::avg_udaf(), "price", schema),
        aggregate(min_max::min_udaf(), "name", schema),
        aggregate(array_agg::array_agg_udaf(), "number", schema),
    ]
}

pub(super) fn grouping(keys: &[&str], aggregates: Vec<Aggregate>) -> Arc<Grouping> {
    let schema = input_schema();
    let exprs = keys.iter().map(|key| col(key, &schema).unwrap()).collect();
    let fields = keys
        .iter()
        .map(|key| Arc::new(schema.field_with_name(key).unwrap().clone()));
    Grouping::new(&schema, exprs, fields.collect(), aggregates).unwrap()
}

/// Columns of a result: keys, bounds of the window if it has some, aggregates.
fn output(
    keys: &[&str],
    aggregates: &[Aggregate],
    windows: bool,
) -> (Vec<OutputColumn>, SchemaRef) {
    let schema = input_schema();
    let mut columns = Vec::new();
    let mut fields = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        columns.push(OutputColumn::Key(number));
        fields.push(schema.field_with_name(key).unwrap().clone());
    }
    if windows {
        columns.extend([OutputColumn::WindowStart, OutputColumn::WindowEnd]);
        fields.extend(["start", "end"].map(|name| Field::new(name, time_type(), false)));
    }
    for (number, aggregate) in aggregates.iter().enumerate() {
        columns.push(OutputColumn::Aggregate(number));
        let of = aggregate.function.field();
        fields.push(Field::new(
            format!("a{number}"),
            of.data_type().clone(),
            true,
        ));
    }
    (columns, Arc::new(Schema::new(fields)))
}

fn event_time() -> EventTime {
    EventTime {
        expr: col("ts", &input_schema()).unwrap(),
        data_type: time_type(),
        lag_us: 0,
    }
}

fn plan(root: PlanNode, changes: bool) -> Plan {
    Plan {
        metadata_columns: Vec::new(),
        root,
        schema: input_schema(),
        changes,
        late: vec![input_schema()],
    }
}

fn input() -> Box<PlanNode> {
    Box::new(PlanNode::Input { input: 0 })
}

fn windows(keys: &[&str], size: i64, slide: i64, from: Box<PlanNode>) -> Plan {
    let aggregates = aggregates(&input_schema());
    let (output, schema) = output(keys, &aggregates, true);
    let spec = Arc::new(WindowSpec {
        stage: 0,
        time: event_time(),
        slots: WindowSlots {
            size,
            slide,
            offset: 0,
            days: None,
        },
        grouping: grouping(keys, aggregates),
        output,
        schema,
    });
    plan(PlanNode::Window { from, spec }, false)
}

/// Windows of 30 days from each tenth on, where what counts as a second is a microsecond.
fn days(keys: &[&str]) -> Plan {
    let mut plan = windows(keys, 30, 10, input());
    if let PlanNode::Window { spec, .. } = &mut plan.root
        && let Some(spec) = Arc::get_mut(spec)
    {
        spec.slots.offset = 3;
        spec.slots.days = Some(LocalDays::new(Tz::Europe__Berlin, TimeUnit::Second));
    }
    plan
}

fn sessions(keys: &[&str]) -> Plan {
    let mut all = aggregates(&input_schema());
    let (output, schema) = output(keys, &all, true);
    for function in [min_max::min_udaf(), min_max::max_udaf()] {
        all.push(aggregate(function, "ts", &input_schema()));
    }
    let spec = Arc::new(SessionSpec {
        stage: 0,
        time: event_time(),
        gap: 2 * SECOND,
        grouping: grouping(keys, all),
        output,
        schema,
    });
    plan(
        PlanNode::Session {
            from: input(),
            spec,
        },
        false,
    )
}

fn keyed(keys: &[&str]) -> Plan {
    let aggregates = aggregates(&input_schema());
    let (output, schema) = output(keys, &aggregates, false);
    let grouping = grouping(keys, aggregates);
    let spec = Arc::new(KeyedSpec {
        total: grouping.total_of_nothing().unwrap(),
        grouping,
        output,
        schema,
    });
    plan(
        PlanNode::Keyed {
            from: input(),
            spec,
        },
        true,
    )
}

/// A tumbling window over two inputs, the watermarks of the second two seconds behind.
fn united() -> Plan {
    let from = vec![PlanNode::Input { input: 0 }, PlanNode::Input { input: 1 }];
    windows(
        &["name"],
        5 * SECOND,
        5 * SECOND,
        Box::new(PlanNode::Union { from }),
    )
}

/// Every kind of stage, with no, one and several keys.
pub(super) fn plans() -> Vec<(&'static str, Plan)> {
    vec![
        (
            "tumble",
            windows(&["name"], 5 * SECOND, 5 * SECOND, input()),
        ),
        (
            "tumble, two keys",
            windows(&["number", "name"], 9 * SECOND, 9 * SECOND, input()),
        ),
        (
            "tumble, no key",
            windows(&[], 5 * SECOND, 5 * SECOND, input()),
        ),
        ("hop", windows(&["name"], 12 * SECOND, 3 * SECOND, input())),
        ("hop, days of a zone", days(&["name"])),
        ("session", sessions(&["number"])),
        ("session, two keys", sessions(&["name", "number"])),
        ("keyed", keyed(&["name", "number"])),
        ("keyed, no key", keyed(&[])),
        ("union", united()),
    ]
}

pub(super) fn inputs(plan: &Plan) -> usize {
    match &plan.root {
        PlanNode::Window { from, .. } => match from.as_ref() {
            PlanNode::Union { from } => from.len(),
            _ => 1,
        },
        _ => 1,
    }
}
