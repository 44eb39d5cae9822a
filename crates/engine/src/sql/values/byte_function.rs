//! Functions of bytes, as PostgreSQL has them beside those of text.
//!
//! DataFusion has `length` and its like of text only, and would read bytes as if they were text. What is not about
//! bytes is left to its functions, but for `substring(text FROM pattern)`, which it lacks.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, Int32Array, StringBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::bytes::BytesFormat;
use super::of_arrays;
use super::regex_words::first_matches;
use crate::sql::functions::{coerced_by, external, undefined_function};
use crate::sql::{SqlError, sqlstate};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ByteFunctionKind {
    /// Bytes, or characters of a text.
    Length,
    OctetLength,
    BitLength,
    Substring,
    Position,
    Encode,
    Decode,
    GetByte,
    ConvertFrom,
    ConvertTo,
}

/// A function of bytes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::sql) struct ByteFunction {
    kind: ByteFunctionKind,
    name: String,
    /// DataFusion's function, for text.
    inner: Option<Arc<ScalarUDF>>,
    signature: Signature,
}

impl ByteFunction {
    /// The function in the place of DataFusion's, if it is one of these.
    pub fn new(inner: &Arc<ScalarUDF>) -> Option<Self> {
        let kind = match inner.name() {
            "character_length" => ByteFunctionKind::Length,
            "octet_length" => ByteFunctionKind::OctetLength,
            "bit_length" => ByteFunctionKind::BitLength,
            "substr" => ByteFunctionKind::Substring,
            "strpos" => ByteFunctionKind::Position,
            "encode" => ByteFunctionKind::Encode,
            "decode" => ByteFunctionKind::Decode,
            _ => return None,
        };
        Some(Self::of(kind, inner.name(), Some(Arc::clone(inner))))
    }

    /// The functions that DataFusion does not have.
    pub fn others() -> [Self; 3] {
        use ByteFunctionKind::{ConvertFrom, ConvertTo, GetByte};
        [
            Self::of(GetByte, "get_byte", None),
            Self::of(ConvertFrom, "convert_from", None),
            Self::of(ConvertTo, "convert_to", None),
        ]
    }

    fn of(kind: ByteFunctionKind, name: &str, inner: Option<Arc<ScalarUDF>>) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            inner,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    /// The types that the arguments become; `None` if they are left to DataFusion.
    fn own_types(&self, arguments: &[DataType]) -> Option<Vec<DataType>> {
        use ByteFunctionKind as Kind;
        use DataType::{Binary, Int64, Utf8};
        let bytes = |it: &DataType| matches!(it, Binary | DataType::Null);
        let text = |it: &DataType| it.is_string() || it.is_null();
        let number = |it: &DataType| it.is_integer() || it.is_null();
        Some(match (self.kind, arguments) {
            (Kind::Length | Kind::OctetLength | Kind::BitLength, [Binary]) => vec![Binary],
            (Kind::Substring, [Binary, from]) if number(from) => vec![Binary, Int64],
            (Kind::Substring, [Binary, from, count]) if number(from) && number(count) => {
                vec![Binary, Int64, Int64]
            }
            (Kind::Substring, [of, pattern]) if text(of) && pattern.is_string() => vec![Utf8, Utf8],
            (Kind::Position, [Binary, part]) if bytes(part) => vec![Binary, Binary],
            (Kind::Encode, [of, format]) if bytes(of) && text(format) => vec![Binary, Utf8],
            (Kind::Encode | Kind::Decode | Kind::ConvertTo, [of, format])
                if text(of) && text(format) =>
            {
                vec![Utf8, Utf8]
            }
            (Kind::GetByte, [of, at]) if bytes(of) && number(at) => vec![Binary, Int64],
            (Kind::ConvertFrom, [of, format]) if bytes(of) && text(format) => vec![Binary, Utf8],
            _ => return None,
        })
    }

    fn compute(&self, arguments: &[ArrayRef]) -> Result<ArrayRef> {
        use ByteFunctionKind as Kind;
        let first = &arguments[0];
        Ok(match self.kind {
            Kind::Length | Kind::OctetLength => counted(first.as_binary(), 1),
            Kind::BitLength => counted(first.as_binary(), 8),
            Kind::Substring if first.data_type().is_string() => {
                first_matches(first.as_string(), arguments[1].as_string())?
            }
            Kind::Substring => part_of(arguments)?,
            Kind::Position => {
                let (of, part) = (first.as_binary::<i32>(), arguments[1].as_binary::<i32>());
                let places = of
                    .iter()
                    .zip(part)
                    .map(|(of, part)| Some(place(of?, part?)));
                Arc::new(places.collect::<Int32Array>())
            }
            Kind::Encode => encoded(first, &arguments[1])?,
            Kind::Decode => decoded(first, &arguments[1])?,
            Kind::GetByte => bytes_at(first, &arguments[1])?,
            Kind::ConvertFrom => text_of(first, &arguments[1])?,
            Kind::ConvertTo => {
                arguments[1]
                    .as_string::<i32>()
                    .iter()
                    .flatten()
                    .try_for_each(only_utf8)?;
                let texts = first.as_string::<i32>().iter();
                Arc::new(
                    texts
                        .map(|it| it.map(str::as_bytes))
                        .collect::<BinaryArray>(),
                )
            }
        })
    }
}

fn counted(bytes: &BinaryArray, bits: usize) -> ArrayRef {
    let counts = bytes.iter().map(|it| it.map(|it| (it.len() * bits) as i32));
    Arc::new(counts.collect::<Int32Array>())
}

/// The number of the first byte of `part` in `of`, from 1; 0 if it is not there.
fn place(of: &[u8], part: &[u8]) -> i32 {
    match part.len() {
        0 => 1,
        length => {
            let found = of.windows(length).position(|it| it == part);
            found.map_or(0, |at| at as i32 + 1)
        }
    }
}

fn part_of(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let bytes = arguments[0].as_binary::<i32>();
    let from = arguments[1].as_primitive::<Int64Type>();
    let count = arguments.get(2).map(|it| it.as_primitive::<Int64Type>());
    let mut parts = BinaryBuilder::new();
    for (row, of) in bytes.iter().enumerate() {
        let counted = count.is_none_or(|it| it.is_valid(row));
        let Some(of) = of.filter(|_| from.is_valid(row) && counted) else {
            parts.append_null();
            continue;
        };
        let start = from.value(row).saturating_sub(1);
        let end = match count.map(|it| it.value(row)) {
            Some(..0) => {
                let message = "negative substring length not allowed";
                return Err(external(SqlError::new(sqlstate::SUBSTRING_ERROR, message)));
            }
            Some(count) => start.saturating_add(count),
            None => i64::MAX,
        };
        let within = |place: i64| place.clamp(0, of.len() as i64) as usize;
        parts.append_value(&of[within(start)..within(end).max(within(start))]);
    }
    Ok(Arc::new(parts.finish()))
}

fn encoded(values: &ArrayRef, formats: &ArrayRef) -> Result<ArrayRef> {
    let mut texts = StringBuilder::new();
    let mut text = String::new();
    for row in 0..values.len() {
        if values.is_null(row) || formats.is_null(row) {
            texts.append_null();
            continue;
        }
        let format = BytesFormat::named(formats.as_string::<i32>().value(row)).map_err(external)?;
        let bytes = match values.as_string_opt::<i32>() {
            Some(texts) => texts.value(row).as_bytes(),
            None => values.as_binary::<i32>().value(row),
        };
        text.clear();
        format.write(bytes, &mut text);
        texts.append_value(&text);
    }
    Ok(Arc::new(texts.finish()))
}

fn decoded(texts: &ArrayRef, formats: &ArrayRef) -> Result<ArrayRef> {
    let rows = texts
        .as_string::<i32>()
        .iter()
        .zip(formats.as_string::<i32>());
    let rows = rows.map(|(text, format)| match (text, format) {
        (Some(text), Some(format)) => BytesFormat::named(format)?.read(text).map(Some),
        _ => Ok(None),
    });
    let bytes: BinaryArray = rows.collect::<Result<_, SqlError>>().map_err(external)?;
    Ok(Arc::new(bytes))
}

fn bytes_at(values: &ArrayRef, places: &ArrayRef) -> Result<ArrayRef> {
    let rows = values.as_binary::<i32>().iter();
    let rows = rows.zip(places.as_primitive::<Int64Type>());
    let found = rows.map(|(bytes, at)| {
        let (Some(bytes), Some(at)) = (bytes, at) else {
            return Ok(None);
        };
        let byte = usize::try_from(at).ok().and_then(|at| bytes.get(at));
        byte.map(|it| Some(i32::from(*it))).ok_or_else(|| {
            let last = bytes.len() as i64 - 1;
            let message = format!("index {at} out of valid range, 0..{last}");
            external(SqlError::new(sqlstate::ARRAY_SUBSCRIPT_ERROR, message))
        })
    });
    Ok(Arc::new(found.collect::<Result<Int32Array>>()?))
}

fn text_of(values: &ArrayRef, encodings: &ArrayRef) -> Result<ArrayRef> {
    encodings
        .as_string::<i32>()
        .iter()
        .flatten()
        .try_for_each(only_utf8)?;
    let mut texts = StringBuilder::new();
    for (row, bytes) in values.as_binary::<i32>().iter().enumerate() {
        match bytes.filter(|_| encodings.is_valid(row)) {
            Some(bytes) => texts.append_value(utf8(bytes)?),
            None => texts.append_null(),
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// The text that bytes are.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let wrong = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
        let message = format!("invalid byte sequence for encoding \"UTF8\": 0x{wrong:02x}");
        let error = SqlError::new(sqlstate::CHARACTER_NOT_IN_REPERTOIRE, message);
        external(error.hint("encode(bytes, 'hex') writes any bytes as text."))
    })
}

fn only_utf8(encoding: &str) -> Result<()> {
    match encoding.to_ascii_lowercase().as_str() {
        "utf8" | "utf-8" | "unicode" => Ok(()),
        _ => {
            let error = SqlError::not_built(format!("the encoding {encoding:?}"));
            Err(external(error.hint("Text is in UTF8.")))
        }
    }
}

impl ScalarUDFImpl for ByteFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn aliases(&self) -> &[String] {
        self.inner.as_ref().map_or(&[], |inner| inner.aliases())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match (self.own_types(arguments), &self.inner) {
            (Some(types), _) => Ok(types),
            (None, Some(inner)) if !arguments.contains(&DataType::Binary) => {
                coerced_by(inner.as_ref(), arguments)
            }
            (None, _) => Err(external(undefined_function(&self.name, arguments))),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        use ByteFunctionKind as Kind;
        if self.own_types(arguments).is_none()
            && let Some(inner) = &self.inner
        {
            return inner.return_type(arguments);
        }
        Ok(match self.kind {
            Kind::Substring => arguments[0].clone(),
            Kind::Encode | Kind::ConvertFrom => DataType::Utf8,
            Kind::Decode | Kind::ConvertTo => DataType::Binary,
            _ => DataType::Int32,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<_> = args
            .arg_fields
            .iter()
            .map(|it| it.data_type().clone())
            .collect();
        if self.own_types(&types).is_none()
            && let Some(inner) = &self.inner
        {
            return inner.return_field_from_args(args);
        }
        let matched = self.kind == ByteFunctionKind::Substring && types[0].is_string();
        let nullable = matched || args.arg_fields.iter().any(|it| it.is_nullable());
        Ok(Arc::new(Field::new(
            &self.name,
            self.return_type(&types)?,
            nullable,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let types: Vec<_> = args.args.iter().map(ColumnarValue::data_type).collect();
        if self.own_types(&types).is_none()
            && let Some(inner) = &self.inner
        {
            return inner.invoke_with_args(args);
        }
        of_arrays(&args.args, |arguments| self.compute(arguments))
    }
}
