//! `sum`, `avg`, `min` and `max`: DataFusion's, with other accumulators for integers and for floats.

use std::sync::Arc;

use arrow::datatypes::{
    DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};
use datafusion::common::internal_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature, StatisticsArgs, Volatility,
};
use datafusion::scalar::ScalarValue;

use super::extremes::Extremes;
use super::total::{DistinctTotal, GroupTotal, TotalNumber, TotalResult};
use super::totals::Totals;
use crate::sql::functions::coerced_by;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum AggregateKind {
    Sum,
    Average,
    Extreme,
}

/// An aggregate that is exact for integers and decimals, and right for canonical floats.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ExactFunction {
    kind: AggregateKind,
    /// DataFusion's function, for all other types.
    inner: Arc<AggregateUDF>,
    signature: Signature,
}

impl ExactFunction {
    pub fn sum(inner: Arc<AggregateUDF>) -> Self {
        Self::new(AggregateKind::Sum, inner)
    }

    pub fn average(inner: Arc<AggregateUDF>) -> Self {
        Self::new(AggregateKind::Average, inner)
    }

    /// `inner` is `min` or `max`.
    pub fn extreme(inner: Arc<AggregateUDF>) -> Self {
        Self::new(AggregateKind::Extreme, inner)
    }

    fn new(kind: AggregateKind, inner: Arc<AggregateUDF>) -> Self {
        Self {
            kind,
            inner,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    /// The type of a [`TotalNumber`] of such values, if they have one.
    fn total_type(&self, argument: &DataType) -> Option<DataType> {
        match argument {
            _ if self.kind == AggregateKind::Extreme => None,
            DataType::Decimal128(..) | DataType::Decimal256(..) => Some(i256::TYPE),
            integer => integer.is_integer().then_some(i128::TYPE),
        }
    }

    fn total_result(&self, args: &AccumulatorArgs<'_>) -> TotalResult {
        let argument = args.expr_fields[0].data_type();
        TotalResult {
            average: self.kind == AggregateKind::Average,
            data_type: args.return_type().clone(),
            more_digits: scale(args.return_type()).abs_diff(scale(argument)).into(),
            text: args.name.to_owned(),
        }
    }

    fn greatest(&self) -> bool {
        self.inner.name() == "max"
    }
}

fn scale(data_type: &DataType) -> i8 {
    match data_type {
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => *scale,
        _ => 0,
    }
}

fn total_of_group<N: TotalNumber>(result: TotalResult, distinct: bool) -> Box<dyn Accumulator> {
    match distinct {
        true => Box::new(DistinctTotal::<N>::new(result)),
        false => Box::new(GroupTotal::<N>::new(result)),
    }
}

fn total_groups<const AVERAGE: bool>(
    argument: &DataType,
    result: TotalResult,
) -> Result<Box<dyn GroupsAccumulator>> {
    Ok(match argument {
        DataType::Int8 => Box::new(Totals::<Int8Type, AVERAGE>::new(result)),
        DataType::Int16 => Box::new(Totals::<Int16Type, AVERAGE>::new(result)),
        DataType::Int32 => Box::new(Totals::<Int32Type, AVERAGE>::new(result)),
        DataType::Int64 => Box::new(Totals::<Int64Type, AVERAGE>::new(result)),
        DataType::UInt8 => Box::new(Totals::<UInt8Type, AVERAGE>::new(result)),
        DataType::UInt16 => Box::new(Totals::<UInt16Type, AVERAGE>::new(result)),
        DataType::UInt32 => Box::new(Totals::<UInt32Type, AVERAGE>::new(result)),
        DataType::UInt64 => Box::new(Totals::<UInt64Type, AVERAGE>::new(result)),
        DataType::Decimal128(..) => Box::new(Totals::<Decimal128Type, AVERAGE>::new(result)),
        DataType::Decimal256(..) => Box::new(Totals::<Decimal256Type, AVERAGE>::new(result)),
        other => return internal_err!("a total of {other}"),
    })
}

impl AggregateUDFImpl for ExactFunction {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Integers stay as they are.
    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match (self.kind, arguments) {
            (AggregateKind::Extreme, _) => self.inner.coerce_types(arguments),
            (_, [integer]) if integer.is_integer() => Ok(arguments.to_vec()),
            _ => coerced_by(self.inner.as_ref(), arguments),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match (self.kind, arguments) {
            (AggregateKind::Sum, [of]) if of.is_signed_integer() => Ok(DataType::Int64),
            (AggregateKind::Sum, [of]) if of.is_unsigned_integer() => Ok(DataType::UInt64),
            _ => self.inner.return_type(arguments),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let result = self.total_result(&args);
        match self.total_type(args.expr_fields[0].data_type()) {
            Some(i128::TYPE) => Ok(total_of_group::<i128>(result, args.is_distinct)),
            Some(_) => Ok(total_of_group::<i256>(result, args.is_distinct)),
            None => self.inner.accumulator(args),
        }
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn Accumulator>> {
        match self.total_type(args.expr_fields[0].data_type()) {
            Some(_) => self.accumulator(args),
            None => self.inner.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let Some(total) = self.total_type(args.input_fields[0].data_type()) else {
            return self.inner.state_fields(args);
        };
        if args.is_distinct {
            let name = format_state_name(args.name, "distinct");
            let list = Field::new_list(name, Field::new_list_field(total, true), false);
            return Ok(vec![Arc::new(list)]);
        }
        let total = Field::new(format_state_name(args.name, "total"), total, true);
        let count = Field::new(
            format_state_name(args.name, "count"),
            DataType::UInt64,
            true,
        );
        Ok(match self.kind {
            AggregateKind::Average => vec![Arc::new(count), Arc::new(total)],
            AggregateKind::Sum | AggregateKind::Extreme => vec![Arc::new(total)],
        })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        match self.total_type(args.expr_fields[0].data_type()) {
            Some(_) => !args.is_distinct,
            None => self.inner.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let argument = args.expr_fields[0].data_type();
        if self.total_type(argument).is_some() {
            let result = self.total_result(&args);
            return match self.kind {
                AggregateKind::Average => total_groups::<true>(argument, result),
                AggregateKind::Sum | AggregateKind::Extreme => {
                    total_groups::<false>(argument, result)
                }
            };
        }
        if self.kind != AggregateKind::Extreme {
            return self.inner.create_groups_accumulator(args);
        }
        Ok(match (argument, self.greatest()) {
            (DataType::Float32, true) => {
                Box::new(Extremes::<Float32Type, true>::new(f32::NEG_INFINITY))
            }
            (DataType::Float32, false) => Box::new(Extremes::<Float32Type, false>::new(f32::NAN)),
            (DataType::Float64, true) => {
                Box::new(Extremes::<Float64Type, true>::new(f64::NEG_INFINITY))
            }
            (DataType::Float64, false) => Box::new(Extremes::<Float64Type, false>::new(f64::NAN)),
            _ => return self.inner.create_groups_accumulator(args),
        })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_udf()
    }

    fn is_descending(&self) -> Option<bool> {
        self.inner.is_descending()
    }

    fn value_from_stats(&self, args: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        match self.kind {
            AggregateKind::Extreme => self.inner.value_from_stats(args),
            AggregateKind::Sum | AggregateKind::Average => None,
        }
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }
}
