//! Of which epoch a failure is, and what goes on beside it.

use arrow::array::Int64Array;
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion::logical_expr::{Accumulator, Operator, Volatility, create_udaf};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{binary, col, lit};
use datafusion::scalar::ScalarValue;

use super::*;
use crate::dataflow::{
    Aggregate, Grouping, KeyedSpec, OpenWindows, OutputColumn, Plan, PlanNode, Transform, build,
};

/// A sum that cannot be 13.
#[derive(Debug, Default)]
struct Fussy(i64);

impl Accumulator for Fussy {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0 += values[0]
            .as_primitive::<Int64Type>()
            .values()
            .iter()
            .sum::<i64>();
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        assert_ne!(self.0, 13);
        Ok(self.0.into())
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.0.into()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

/// Columns `k` and `n`.
fn rows(rows: &[(i64, i64)]) -> RecordBatch {
    let column = |of: fn(&(i64, i64)) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
    };
    let columns = [("k", column(|row| row.0)), ("n", column(|row| row.1))];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// `SELECT k, fussy(n) FROM input WHERE 10 / n > -100 GROUP BY k`.
fn plan() -> Plan {
    let input = rows(&[]).schema();
    let long = Arc::new(DataType::Int64);
    let fussy = create_udaf(
        "fussy",
        vec![DataType::Int64],
        Arc::clone(&long),
        Volatility::Immutable,
        Arc::new(|_| Ok(Box::new(Fussy::default()))),
        Arc::new(vec![DataType::Int64]),
    );
    let fussy = AggregateExprBuilder::new(Arc::new(fussy), vec![col("n", &input).unwrap()]);
    let fussy = fussy.schema(Arc::clone(&input)).alias("n").build().unwrap();
    let aggregate = Aggregate {
        function: Arc::new(fussy),
        filter: None,
    };
    let key = Arc::new(Field::new("k", DataType::Int64, false));
    let keys = vec![col("k", &input).unwrap()];
    let grouping = Grouping::new(&input, keys, vec![key], vec![aggregate]).unwrap();
    let spec = KeyedSpec {
        total: None,
        grouping,
        output: vec![OutputColumn::Key(0), OutputColumn::Aggregate(0)],
        schema: Arc::new(Schema::new(vec![
            Field::new("k", DataType::Int64, false),
            Field::new("n", DataType::Int64, true),
        ])),
    };
    let share = binary(
        lit(10i64),
        Operator::Divide,
        col("n", &input).unwrap(),
        &input,
    );
    let above = binary(share.unwrap(), Operator::Gt, lit(-100i64), &input);
    let filtered = PlanNode::Transform {
        from: Box::new(PlanNode::Input { input: 0 }),
        steps: vec![Transform::Filter(above.unwrap())],
        changes: false,
    };
    Plan {
        metadata_columns: Vec::new(),
        schema: Arc::clone(&spec.schema),
        root: PlanNode::Keyed {
            from: Box::new(filtered),
            spec: Arc::new(spec),
        },
        changes: true,
        late: Vec::new(),
    }
}

/// What a query gives for each of these epochs, which have all arrived before it runs: so it is in an epoch
/// while its peer, here itself, is in the next.
fn run(
    on_error: OnError,
    epochs: &'static [&'static [(i64, i64)]],
) -> (QueryFailure, Vec<Vec<StreamElement>>) {
    timely::execute_directly(move |timely| {
        let failure = QueryFailure::default();
        let errors = QueryErrors::new(failure.clone(), on_error, |_| "XX000");
        let (plan, open) = (plan(), OpenWindows::default());
        let built = timely.dataflow::<u64, _, _>(|scope| build(scope, &plan, 1, 0, &errors, &open));
        let mut built = built.unwrap();
        for (epoch, of_epoch) in (0..).zip(epochs) {
            built.inputs[0].send(StreamElement::rows(rows(of_epoch)));
            built.inputs[0].advance_to(epoch + 1);
        }
        let all = 0..epochs.len() as u64;
        timely.step_while(|| built.probe.less_than(&all.end));
        let given = all.map(|epoch| built.outlet.take(epoch)).collect();
        (failure, given)
    })
}

/// Keys, values and diffs of all rows.
fn changes(elements: &[StreamElement]) -> Vec<(i64, i64, i8)> {
    let mut changes = Vec::new();
    for element in elements {
        if let StreamElement::Rows(rows, _) = element {
            let column = |number: usize| rows.column(number).as_primitive::<Int64Type>();
            let diffs = diffs_of(rows).unwrap();
            changes.extend(
                (0..rows.num_rows())
                    .map(|row| (column(0).value(row), column(1).value(row), diffs[row])),
            );
        }
    }
    changes.sort_unstable();
    changes
}

#[test]
fn an_epoch_before_that_of_the_failure_is_whole() {
    let (failure, given) = run(OnError::Fail, &[&[(1, 5)], &[(1, 6), (2, 0)], &[(1, 1)]]);
    assert_eq!(failure.until(0), None);
    assert_eq!(changes(&given[0]), [(1, 5, 1)]);
    assert!(
        failure
            .until(1)
            .is_some_and(|it| it.contains("division by zero"))
    );
    assert!(failure.until(2).is_some());
    assert!(
        failure.has_staged(0) && !failure.has_staged(1),
        "it goes on before epoch 1"
    );
}

#[test]
fn the_earliest_failure_counts_whichever_came_first() {
    let failure = QueryFailure::default();
    for epoch in [7, 5, 6] {
        failure.set(epoch, format!("in {epoch}"));
    }
    let found = [4, 5, 8].map(|epoch| failure.until(epoch));
    assert_eq!(
        found,
        [None, Some("in 5".to_owned()), Some("in 5".to_owned())]
    );
}

#[test]
fn a_result_that_panics_is_a_dead_letter_of_its_group_alone() {
    let epochs: &[&[_]] = &[&[(1, 5), (2, 6)], &[(1, 8), (2, 1)], &[(1, 1)]];
    let (failure, given) = run(OnError::DeadLetter, epochs);
    assert_eq!(failure.until(2), None);
    assert_eq!(changes(&given[0]), [(1, 5, 1), (2, 6, 1)]);
    assert_eq!(changes(&given[1]), [(1, 5, -1), (2, 6, -1), (2, 7, 1)]);
    assert_eq!(changes(&given[2]), [(1, 14, 1)]);
    let failed =
        |of: &&StreamElement| matches!(of, StreamElement::Failed(rows) if rows.num_rows() == 1);
    assert_eq!(given[1].iter().filter(failed).count(), 1);
}
