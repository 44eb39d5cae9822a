//! Arrow types as text that does not change: what is written to disk and compared with later versions.

use arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};

/// The name of a type, with all its parts. It is part of files: it never changes.
pub(crate) fn type_name(data_type: &DataType) -> String {
    use DataType as T;
    let unit_of = |name: &str, unit: &TimeUnit| format!("{name}({})", time_unit(*unit));
    let item_of = |name: &str, item: &Field| format!("{name}({})", nested(item));
    let decimal =
        |bits: u32, precision: &u8, scale: &i8| format!("Decimal{bits}({precision}, {scale})");
    match data_type {
        T::Timestamp(unit, None) => unit_of("Timestamp", unit),
        T::Timestamp(unit, Some(zone)) => format!("Timestamp({}, {zone:?})", time_unit(*unit)),
        T::Time32(unit) => unit_of("Time32", unit),
        T::Time64(unit) => unit_of("Time64", unit),
        T::Duration(unit) => unit_of("Duration", unit),
        T::Interval(unit) => format!("Interval({})", interval_unit(*unit)),
        T::FixedSizeBinary(bytes) => format!("FixedSizeBinary({bytes})"),
        T::Decimal32(precision, scale) => decimal(32, precision, scale),
        T::Decimal64(precision, scale) => decimal(64, precision, scale),
        T::Decimal128(precision, scale) => decimal(128, precision, scale),
        T::Decimal256(precision, scale) => decimal(256, precision, scale),
        T::List(item) => item_of("List", item),
        T::LargeList(item) => item_of("LargeList", item),
        T::ListView(item) => item_of("ListView", item),
        T::LargeListView(item) => item_of("LargeListView", item),
        T::FixedSizeList(item, length) => format!("FixedSizeList({}, {length})", nested(item)),
        T::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| nested(field)).collect();
            format!("Struct({})", fields.join(", "))
        }
        T::Map(entries, sorted) => format!("Map({}, {sorted})", nested(entries)),
        T::Dictionary(key, value) => {
            format!("Dictionary({}, {})", type_name(key), type_name(value))
        }
        T::RunEndEncoded(ends, values) => {
            format!("RunEndEncoded({}, {})", nested(ends), nested(values))
        }
        T::Union(fields, mode) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(id, field)| format!("{id} {}", nested(field)))
                .collect();
            format!("Union({mode:?}, {})", fields.join(", "))
        }
        plain => plain_name(plain).to_owned(),
    }
}

/// The name of a type without parts.
fn plain_name(data_type: &DataType) -> &'static str {
    use DataType as T;
    match data_type {
        T::Null => "Null",
        T::Boolean => "Boolean",
        T::Int8 => "Int8",
        T::Int16 => "Int16",
        T::Int32 => "Int32",
        T::Int64 => "Int64",
        T::UInt8 => "UInt8",
        T::UInt16 => "UInt16",
        T::UInt32 => "UInt32",
        T::UInt64 => "UInt64",
        T::Float16 => "Float16",
        T::Float32 => "Float32",
        T::Float64 => "Float64",
        T::Date32 => "Date32",
        T::Date64 => "Date64",
        T::Binary => "Binary",
        T::LargeBinary => "LargeBinary",
        T::BinaryView => "BinaryView",
        T::Utf8 => "Utf8",
        T::LargeUtf8 => "LargeUtf8",
        T::Utf8View => "Utf8View",
        // `type_name` has written those with parts.
        _ => "?",
    }
}

fn nested(field: &Field) -> String {
    let null = if field.is_nullable() { "" } else { " NOT NULL" };
    format!("{:?} {}{null}", field.name(), type_name(field.data_type()))
}

fn time_unit(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

fn interval_unit(unit: IntervalUnit) -> &'static str {
    match unit {
        IntervalUnit::YearMonth => "months",
        IntervalUnit::DayTime => "days, ms",
        IntervalUnit::MonthDayNano => "months, days, ns",
    }
}
