//! Fingerprints of stages: by which saved state is found again.
//!
//! ```text
//!   stage -> canonical text: its kind, what it computes, types, and the same of all below it -> hash
//! ```
//!
//! The state of a stage is a function of its own definition and of everything that feeds it. So two stages
//! with the same fingerprint have the same state, in whatever query they are, and a state with another
//! fingerprint is never restored into a stage. What is not part of it: names of results, the position in
//! the plan, the number of workers, anything of this process.
//!
//! The text is ours, not that of DataFusion, where an expression is a column, a literal, an operator, a cast
//! or a function: a new version may print them otherwise. Of any other expression it has the text that
//! remains when the texts of its arguments are taken out. A test has the fingerprints of many queries: if
//! one changes, states on disk are refused after an upgrade.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayData};
use arrow::datatypes::DataType;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::scalar::ScalarValue;
use serde::{Deserialize, Serialize};

use super::plan::{EventTime, Plan, PlanNode};
use super::transform::Transform;
use super::type_name::type_name;
use super::window_slots::WindowSlots;

/// What a stage computes, as a number that is the same in every process. Two are equal if the numbers are.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The stage, for people.
    pub stage: String,
    hash: String,
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.stage, self.hash)
    }
}

impl Plan {
    /// The fingerprints of the stages that a build of this plan has, in their order. `inputs` are the names of
    /// the inputs.
    pub fn fingerprints(&self, inputs: &[&str]) -> Vec<Fingerprint> {
        let mut stages = Stages {
            inputs,
            found: Vec::new(),
        };
        stages.node(&self.root);
        stages.found
    }
}

struct Stages<'a> {
    inputs: &'a [&'a str],
    found: Vec<Fingerprint>,
}

impl Stages<'_> {
    /// The canonical text of a node and all below it. Adds its stages behind those of the nodes below, as the
    /// build does.
    fn node(&mut self, node: &PlanNode) -> FingerprintText {
        let mut text = FingerprintText::default();
        match node {
            PlanNode::Input { input } => {
                text.part("input", self.inputs.get(*input).copied().unwrap_or("?"));
            }
            PlanNode::Empty => text.part("empty", ""),
            PlanNode::Transform { from, steps, .. } => {
                text.nest(&self.node(from));
                steps.iter().for_each(|step| text.transform(step));
            }
            PlanNode::Union { from } => {
                from.iter().for_each(|node| text.nest(&self.node(node)));
                self.add("union", &format!("{} inputs", from.len()), &text);
            }
            PlanNode::Window { from, spec } => {
                text.nest(&self.node(from));
                text.time(&spec.time);
                text.slots(&spec.slots);
                spec.grouping.describe(&mut text);
                self.add("window", &spec.grouping.label(), &text);
            }
            PlanNode::Session { from, spec } => {
                text.nest(&self.node(from));
                text.time(&spec.time);
                text.part("gap", &spec.gap.to_string());
                spec.grouping.describe(&mut text);
                self.add("session", &spec.grouping.label(), &text);
            }
            PlanNode::Keyed { from, spec } => {
                text.nest(&self.node(from));
                spec.grouping.describe(&mut text);
                self.add("delta", &spec.grouping.label(), &text);
                self.add("keyed", &spec.grouping.label(), &text);
            }
        }
        text
    }

    fn add(&mut self, kind: &str, of: &str, text: &FingerprintText) {
        let mut whole = FingerprintText::default();
        whole.part("stage", kind);
        whole.nest(text);
        self.found.push(Fingerprint {
            stage: format!("{kind} of {of}"),
            hash: format!("{:016x}", whole.hash()),
        });
    }
}

/// A text in which every part has its name and its length, so that no two definitions have the same.
#[derive(Default)]
pub(super) struct FingerprintText(Vec<u8>);

impl FingerprintText {
    pub fn part(&mut self, name: &str, value: &str) {
        self.bytes(name, value.as_bytes());
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.0.extend(name.as_bytes());
        self.0.push(b' ');
        self.0.extend((value.len() as u64).to_le_bytes());
        self.0.extend(value);
    }

    fn nest(&mut self, inner: &FingerprintText) {
        self.bytes("(", &inner.0);
    }

    /// FNV-1a of 64 bits.
    fn hash(&self) -> u64 {
        let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        self.0.iter().fold(0xcbf2_9ce4_8422_2325, add)
    }

    fn transform(&mut self, step: &Transform) {
        match step {
            Transform::Filter(predicate) => self.expr("filter", predicate),
            Transform::Project { exprs, schema } => {
                for (expr, field) in exprs.iter().zip(schema.fields()) {
                    self.expr("project", expr);
                    self.part("as", field.name());
                    self.part("type", &type_name(field.data_type()));
                }
            }
        }
    }

    pub fn aggregate(&mut self, function: &AggregateFunctionExpr, types: &[DataType]) {
        self.part("aggregate", function.fun().name());
        self.part("distinct", &function.is_distinct().to_string());
        self.part("ignore nulls", &function.ignore_nulls().to_string());
        for argument in function.expressions() {
            self.expr("argument", &argument);
        }
        for by in function.order_bys() {
            self.expr("order by", &by.expr);
            self.part("descending", &by.options.descending.to_string());
            self.part("nulls first", &by.options.nulls_first.to_string());
        }
        for data_type in types {
            self.part("type", &type_name(data_type));
        }
    }

    fn time(&mut self, time: &EventTime) {
        self.expr("time", &time.expr);
        self.part("type", &type_name(&time.data_type));
        self.part("lag", &time.lag_us.to_string());
    }

    fn slots(&mut self, slots: &WindowSlots) {
        self.part("size", &slots.size.to_string());
        self.part("slide", &slots.slide.to_string());
        self.part("offset", &slots.offset.to_string());
        if let Some(days) = slots.days {
            self.part("days", &days.to_string());
        }
    }

    pub fn expr(&mut self, name: &str, expr: &Arc<dyn PhysicalExpr>) {
        let mut text = FingerprintText::default();
        if let Some(column) = expr.downcast_ref::<Column>() {
            text.part("column", column.name());
        } else if let Some(literal) = expr.downcast_ref::<Literal>() {
            text.literal(literal.value());
        } else {
            text.part("operator", &operator(expr));
            let children = expr.children();
            children
                .iter()
                .for_each(|child| text.expr("argument", child));
        }
        self.bytes(name, &text.0);
    }

    fn literal(&mut self, value: &ScalarValue) {
        self.part("literal", &type_name(&value.data_type()));
        // The layout of Arrow arrays is a standard; how a value is printed is not.
        match value.to_array() {
            Ok(array) if array.is_null(0) => self.part("null", ""),
            Ok(array) => self.data(&array.to_data()),
            Err(_) => self.part("value", &value.to_string()),
        }
    }

    fn data(&mut self, data: &ArrayData) {
        data.buffers()
            .iter()
            .for_each(|buffer| self.bytes("buffer", buffer));
        data.child_data().iter().for_each(|child| self.data(child));
    }
}

/// What an expression does with its arguments.
fn operator(expr: &Arc<dyn PhysicalExpr>) -> String {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        return format!("binary {}", binary.op());
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return format!("cast {}", type_name(cast.cast_type()));
    }
    if let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() {
        return format!("function {}", function.name());
    }
    let mut text = expr.to_string();
    for child in expr.children() {
        text = text.replacen(&child.to_string(), "?", 1);
    }
    text
}
