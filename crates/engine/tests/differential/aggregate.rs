//! Random aggregate calls whose result does not depend on the order of rows.

use datafusion::arrow::datatypes::DataType;
use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use crate::data::{Care, Column};
use crate::expression::{Class, Expressions, class_of};

fn is_exact_number(column: &Column) -> bool {
    column.care == Care::None && class_of(&column.data_type) == Some(Class::Number)
}

fn is_integer(column: &Column) -> bool {
    column.data_type.is_integer()
}

/// Sums of these are exact, in any order. A result that changes has all sums on the way to the last, so
/// one of them must not be outside of the type: that of 64 bits.
fn can_be_summed(column: &Column) -> bool {
    let is_widest = matches!(column.data_type, DataType::Int64 | DataType::UInt64);
    is_exact_number(column) || is_integer(column) && !is_widest
}

impl Expressions<'_> {
    /// A call, and with some luck a FILTER.
    pub fn aggregate(&mut self) -> String {
        let call = self.call().unwrap_or_else(|| "COUNT(*)".into());
        let filterable = !call.starts_with("CASE");
        match filterable && self.rng.random_bool(0.25) {
            true => format!("{call} FILTER (WHERE {})", self.truth(1)),
            false => call,
        }
    }

    fn call(&mut self) -> Option<String> {
        Some(match self.rng.random_range(0..30) {
            0 | 1 => "COUNT(*)".into(),
            2 => format!("COUNT({})", self.any(1)),
            3 => format!("COUNT(DISTINCT {})", self.steady()?),
            4..=6 => format!("SUM({})", self.column(can_be_summed)?.name),
            7 => format!("SUM({} * {})", self.exact()?, self.exact()?),
            8 => format!("SUM(DISTINCT {})", self.column(can_be_summed)?.name),
            9 | 10 => format!("AVG({})", self.exact()?),
            11..=13 => format!("MIN({})", self.comparable()?),
            14..=16 => format!("MAX({})", self.comparable()?),
            17 => self.spread()?,
            18 => self.pair()?,
            19 => self.correlation()?,
            20 => format!("MEDIAN({})", self.exact()?),
            21 => format!("APPROX_DISTINCT({})", self.steady()?),
            22 => {
                let function = *["BIT_AND", "BIT_OR", "BIT_XOR"].choose(self.rng)?;
                format!("{function}({})", self.column(is_integer)?.name)
            }
            23 => {
                let function = *["BOOL_AND", "BOOL_OR"].choose(self.rng)?;
                format!("{function}({})", self.of(Class::Bool, 1))
            }
            24 => format!("ARRAY_AGG({})", self.steady()?),
            25 => format!("ARRAY_AGG(DISTINCT {})", self.steady()?),
            26 => format!("FIRST_VALUE({} ORDER BY id)", self.with_id()?),
            27 => format!("LAST_VALUE({} ORDER BY id DESC)", self.with_id()?),
            28 => format!("STRING_AGG({}, ',' ORDER BY id)", self.with_id()?),
            _ => format!("SUM(CASE WHEN {} THEN 1 ELSE 0 END)", self.truth(1)),
        })
    }

    fn exact(&mut self) -> Option<String> {
        self.column(is_exact_number).map(|it| it.name)
    }

    fn steady(&mut self) -> Option<String> {
        self.column(|it| it.care != Care::Noisy && class_of(&it.data_type).is_some())
            .map(|it| it.name)
    }

    fn comparable(&mut self) -> Option<String> {
        let column = self.column(|it| class_of(&it.data_type).is_some())?;
        Some(column.name)
    }

    fn with_id(&mut self) -> Option<String> {
        self.column(|it| it.name == "id")?;
        self.steady()
    }

    fn spread(&mut self) -> Option<String> {
        let functions = ["STDDEV", "STDDEV_POP", "VAR_SAMP", "VAR_POP"];
        let function = *functions.choose(self.rng)?;
        Some(format!("{function}({})", self.exact()?))
    }

    fn pair(&mut self) -> Option<String> {
        let function = *["COVAR_SAMP", "COVAR_POP"].choose(self.rng)?;
        Some(format!("{function}({}, {})", self.exact()?, self.exact()?))
    }

    /// Of a constant the correlation is noise, so it is left out.
    fn correlation(&mut self) -> Option<String> {
        let (x, y) = (self.exact()?, self.exact()?);
        let both = format!("FILTER (WHERE {x} IS NOT NULL AND {y} IS NOT NULL)");
        Some(format!(
            "CASE WHEN MIN({x}) {both} = MAX({x}) {both} OR MIN({y}) {both} = MAX({y}) {both} \
             THEN NULL ELSE CORR({x}, {y}) {both} END"
        ))
    }

    /// What HAVING may ask: exact in any order.
    pub fn having(&mut self) -> String {
        let count = *[0, 1, 2, 5].choose(self.rng).expect("some");
        let summed = self.column(|it| is_integer(it) && can_be_summed(it));
        match (self.rng.random_range(0..3), summed) {
            (0, Some(column)) => format!("SUM({}) > {count}", column.name),
            (1, Some(column)) => format!("MAX({}) IS NOT NULL AND COUNT(*) > {count}", column.name),
            _ => format!("COUNT(*) > {count}"),
        }
    }

    /// A group key.
    pub fn key(&mut self) -> String {
        if self.rng.random_bool(0.6)
            && let Some(column) = self.steady_key()
        {
            return column;
        }
        self.any(1)
    }

    fn steady_key(&mut self) -> Option<String> {
        let fits = |it: &Column| it.care != Care::Noisy && it.name != "id" && it.name != "ts";
        self.column(|it| fits(it) && class_of(&it.data_type).is_some())
            .map(|it| it.name)
    }
}

/// What may be done with the result of an aggregate.
pub fn care_of(data_type: &DataType) -> Care {
    match data_type.is_floating() {
        true => Care::Noisy,
        false => Care::Wild,
    }
}
