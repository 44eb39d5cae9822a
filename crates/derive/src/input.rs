//! Reads the struct and its `#[record(...)]` attributes.
//!
//! What cannot be a row is an error at the wrong token, with a message that names what to write
//! instead. All errors of a struct are reported together.

use syn::ext::IdentExt;
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Field, Fields, GenericParam, Generics, Ident, LitStr,
    Path, Result, Token, Type,
};

/// A struct that can be a record.
pub struct Struct {
    pub ident: Ident,
    /// Path of the `headwater` crate in the generated code.
    pub krate: Path,
    /// The fields that are columns; at least one.
    pub columns: Vec<RecordColumn>,
    /// The fields with `#[record(skip)]`.
    pub skipped: Vec<Ident>,
}

/// A field that is a column.
pub struct RecordColumn {
    pub ident: Ident,
    pub ty: Type,
    pub name: String,
    /// Unit of a timestamp column, for an `i64` field with `#[record(timestamp)]`.
    pub timestamp: Option<TimestampUnit>,
    /// Whether the column is the event time of the row.
    pub event_time: bool,
}

/// The unit of a timestamp.
#[derive(Clone, Copy)]
pub enum TimestampUnit {
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
}

impl Struct {
    /// Checks everything that can be checked without knowing the fields' types.
    pub fn read(input: DeriveInput) -> Result<Self> {
        let mut errors = Errors::default();
        errors.keep(no_generics(&input.generics));
        let krate = errors.keep(krate(&input.attrs));
        let (mut columns, mut skipped) = (Vec::new(), Vec::new());
        for field in errors.keep(named_fields(&input)).into_iter().flatten() {
            match errors.keep(RecordColumn::of(field)) {
                Some(Some(column)) => columns.push(column),
                Some(None) => skipped.extend(field.ident.clone()),
                None => {}
            }
        }
        errors.keep(distinct_names(&columns));
        errors.keep(one_event_time(&columns));
        if errors.is_empty() && columns.is_empty() {
            let message = "a record needs at least one field that is a column";
            errors.keep::<()>(Err(Error::new(input.ident.span(), message)));
        }
        errors.check()?;
        Ok(Self {
            ident: input.ident,
            krate: krate.unwrap_or_else(|| syn::parse_quote!(::headwater)),
            columns,
            skipped,
        })
    }
}

/// Errors found so far.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    /// Returns the value, or keeps the error and returns nothing.
    fn keep<T>(&mut self, result: Result<T>) -> Option<T> {
        match (result, &mut self.0) {
            (Ok(value), _) => return Some(value),
            (Err(e), Some(errors)) => errors.combine(e),
            (Err(e), none) => *none = Some(e),
        }
        None
    }

    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn check(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

fn no_generics(generics: &Generics) -> Result<()> {
    let mut errors = Errors::default();
    for param in &generics.params {
        let message = match param {
            GenericParam::Lifetime(_) => {
                "a record is sent to another thread, so it must own its fields: use String, Arc<str> or Symbol<N> \
                 instead of borrowed text"
            }
            _ => {
                "a record has no type parameters, because its columns must be known: derive Record on a struct \
                 for each type"
            }
        };
        errors.keep::<()>(Err(Error::new_spanned(param, message)));
    }
    errors.check()
}

fn named_fields(input: &DeriveInput) -> Result<impl Iterator<Item = &Field>> {
    let name = &input.ident;
    let refuse = |span, what: &str| {
        let message = format!("a record must be a struct with named fields, `{name}` is {what}");
        Err(Error::new(span, message))
    };
    match &input.data {
        Data::Enum(data) => refuse(data.enum_token.span, "an enum"),
        Data::Union(data) => refuse(data.union_token.span, "a union"),
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => Ok(fields.named.iter()),
            Fields::Unnamed(fields) => {
                refuse(fields.span(), "a tuple struct: its columns have no names")
            }
            Fields::Unit => refuse(name.span(), "a unit struct"),
        },
    }
}

fn krate(attrs: &[Attribute]) -> Result<Path> {
    let mut path = RecordAttribute::new("crate");
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("record")) {
        attr.parse_nested_meta(|meta| match meta.path.is_ident("crate") {
            true => path.set(&meta, meta.value()?.parse::<LitStr>()?.parse()?),
            false => Err(unknown(&meta, "a struct", "crate = \"path\"")),
        })?;
    }
    Ok(path.value.unwrap_or_else(|| syn::parse_quote!(::headwater)))
}

impl RecordColumn {
    /// Reads the column of a field; `None` for a skipped one.
    fn of(field: &Field) -> Result<Option<Self>> {
        let attributes = FieldAttributes::read(&field.attrs)?;
        // `named_fields` returns no others.
        let Some(ident) = field.ident.clone() else {
            return Err(Error::new_spanned(field, "a column needs a name"));
        };
        if attributes.skip.value.is_some() {
            attributes.nothing_but_skip()?;
            return Ok(None);
        }
        if let Type::Reference(reference) = &field.ty {
            let message = "a record must own its fields: use String, Arc<str> or Symbol<N> instead of a reference";
            return Err(Error::new_spanned(reference, message));
        }
        let name = attributes.rename.value;
        Ok(Some(Self {
            name: name.unwrap_or_else(|| ident.unraw().to_string()),
            ident,
            ty: field.ty.clone(),
            timestamp: attributes.timestamp.value,
            event_time: attributes.event_time.value.is_some(),
        }))
    }
}

/// `#[record(...)]` on a field.
struct FieldAttributes {
    rename: RecordAttribute<String>,
    timestamp: RecordAttribute<TimestampUnit>,
    event_time: RecordAttribute<()>,
    skip: RecordAttribute<()>,
}

impl FieldAttributes {
    fn read(attrs: &[Attribute]) -> Result<Self> {
        let mut read = Self {
            rename: RecordAttribute::new("rename"),
            timestamp: RecordAttribute::new("timestamp"),
            event_time: RecordAttribute::new("event_time"),
            skip: RecordAttribute::new("skip"),
        };
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("record")) {
            attr.parse_nested_meta(|meta| read.one(&meta))?;
        }
        Ok(read)
    }

    fn one(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        match meta.path.get_ident().map(Ident::to_string).as_deref() {
            Some("rename") => self.rename.set(meta, column_name(meta)?),
            Some("timestamp") => self.timestamp.set(meta, TimestampUnit::read(meta)?),
            Some("event_time") => self.event_time.set(meta, ()),
            Some("skip") => self.skip.set(meta, ()),
            _ => {
                let known = "rename = \"name\", event_time, timestamp, timestamp = \"ms\" and skip";
                Err(unknown(meta, "a field", known))
            }
        }
    }

    fn nothing_but_skip(&self) -> Result<()> {
        let others = [
            self.rename.path(),
            self.timestamp.path(),
            self.event_time.path(),
        ];
        match others.into_iter().flatten().next() {
            Some(path) => Err(Error::new_spanned(
                path,
                "a skipped field has no column: remove this or `skip`",
            )),
            None => Ok(()),
        }
    }
}

/// An attribute that may be given at most once.
struct RecordAttribute<T> {
    name: &'static str,
    value: Option<T>,
    path: Option<Path>,
}

impl<T> RecordAttribute<T> {
    fn new(name: &'static str) -> Self {
        let (value, path) = (None, None);
        Self { name, value, path }
    }

    fn set(&mut self, meta: &ParseNestedMeta<'_>, value: T) -> Result<()> {
        if self.value.is_some() {
            return Err(meta.error(format!("`{}` is given twice", self.name)));
        }
        self.value = Some(value);
        self.path = Some(meta.path.clone());
        Ok(())
    }

    /// The attribute as it is written, for errors.
    fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }
}

fn column_name(meta: &ParseNestedMeta<'_>) -> Result<String> {
    let name: LitStr = meta.value()?.parse()?;
    match name.value() {
        empty if empty.is_empty() => {
            Err(Error::new(name.span(), "a column name must not be empty"))
        }
        name => Ok(name),
    }
}

impl TimestampUnit {
    fn read(meta: &ParseNestedMeta<'_>) -> Result<Self> {
        if !meta.input.peek(Token![=]) {
            return Ok(Self::Microsecond);
        }
        let unit: LitStr = meta.value()?.parse()?;
        match unit.value().as_str() {
            "s" => Ok(Self::Second),
            "ms" => Ok(Self::Millisecond),
            "us" => Ok(Self::Microsecond),
            "ns" => Ok(Self::Nanosecond),
            other => {
                let message = format!(
                    "{other:?} is not a timestamp unit: use \"s\", \"ms\", \"us\" or \"ns\""
                );
                Err(Error::new(unit.span(), message))
            }
        }
    }
}

fn unknown(meta: &ParseNestedMeta<'_>, place: &str, known: &str) -> Error {
    let name = meta.path.segments.last().map(|s| s.ident.to_string());
    let name = name.unwrap_or_default();
    Error::new_spanned(
        &meta.path,
        format!("`{name}` is unknown: {place} takes {known}"),
    )
}

fn distinct_names(columns: &[RecordColumn]) -> Result<()> {
    let mut errors = Errors::default();
    for (i, column) in columns.iter().enumerate() {
        if columns[..i]
            .iter()
            .any(|earlier| earlier.name == column.name)
        {
            let message = format!("column {:?} is already another field", column.name);
            errors.keep::<()>(Err(Error::new(column.ident.span(), message)));
        }
    }
    errors.check()
}

fn one_event_time(columns: &[RecordColumn]) -> Result<()> {
    let mut marked = columns.iter().filter(|column| column.event_time);
    match (marked.next(), marked.next()) {
        (Some(first), Some(second)) => {
            let message = format!(
                "`{}` is already the event time, a record has only one",
                first.ident
            );
            Err(Error::new(second.ident.span(), message))
        }
        _ => Ok(()),
    }
}
