//! What a struct of options declares, read from its JSON schema.
//!
//! Every property becomes a [`Declared`]: a name, the [`OptionType`] of its values, a default, a doc
//! text. This is the only file that knows how schemars describes a struct.

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use super::Options;

/// An option, as declared.
#[derive(Debug, Clone)]
pub(super) struct Declared {
    pub name: String,
    pub kind: OptionType,
    pub required: bool,
    pub default: Option<String>,
    pub doc: String,
}

/// What values an option takes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum OptionType {
    Text,
    Bool,
    /// A number; whole numbers only if `whole`.
    Number {
        whole: bool,
        min: Option<f64>,
        max: Option<f64>,
    },
    /// One of these words.
    Choice(Vec<String>),
    List(Box<OptionType>),
    /// Any number of options `name.ENTRY`.
    Map(Box<OptionType>),
    /// Text that the option's own type parses; the name of the type and a text that it accepts.
    Custom {
        name: String,
        example: Option<String>,
    },
    /// No value of a `WITH` list can become it.
    Unwritable,
}

/// One line of the table of options, for docs and help.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name; a map has `.*` at the end.
    pub name: String,
    /// What it takes, e.g. `duration` or `'text' | 'binary'`.
    pub kind: String,
    /// Its default, as it would be written; `None` if there is none.
    pub default: Option<String>,
    /// Whether it must be given.
    pub required: bool,
    /// What it is for: one or more sentences.
    pub doc: String,
}

impl Row {
    /// Whether a key of a `WITH` list, in lower case, is this option or an entry of this map.
    pub(crate) fn is_for(&self, key: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(group) => key.starts_with(group),
            None => self.name == key,
        }
    }

    /// Whether its values are never shown.
    pub(crate) fn is_secret(&self) -> bool {
        self.kind.ends_with("secret")
    }
}

pub(super) fn of<T: Options>() -> Vec<Declared> {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Json::as_array)
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    let properties = schema
        .get("properties")
        .and_then(Json::as_object)
        .into_iter()
        .flatten();
    properties
        .map(|(name, property)| Declared {
            name: name.clone(),
            kind: kind(property),
            required: required.contains(&name.as_str()),
            default: property.get("default").and_then(shown),
            doc: text(property, "description")
                .unwrap_or_default()
                .replace('\n', " "),
        })
        .collect()
}

pub(super) fn rows(declared: Vec<Declared>) -> Vec<Row> {
    let row = |option: Declared| {
        let entries = match option.kind {
            OptionType::Map(_) => ".*",
            _ => "",
        };
        Row {
            name: format!("{}{entries}", option.name),
            kind: option.kind.short(),
            default: option.default,
            required: option.required,
            doc: option.doc,
        }
    };
    let mut rows: Vec<Row> = declared.into_iter().map(row).collect();
    rows.sort_by(|a, b| (b.required, &a.name).cmp(&(a.required, &b.name)));
    rows
}

impl Declared {
    /// What breaks a rule, as a clause that names the option.
    pub fn lint(&self) -> Option<String> {
        let name = &self.name;
        if self.doc.is_empty() {
            return Some(format!("option {name:?} has no doc comment"));
        }
        if *name != name.to_lowercase() {
            return Some(format!("the name of option {name:?} is not in lower case"));
        }
        (!self.kind.is_writable())
            .then(|| format!("option {name:?} is of a type that no value can become"))
    }
}

impl OptionType {
    fn is_writable(&self) -> bool {
        match self {
            Self::Unwritable => false,
            Self::List(of) | Self::Map(of) => of.is_writable(),
            _ => true,
        }
    }

    /// For an error: `must be ...`.
    pub fn wanted(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Number { whole: true, .. } => "a whole number".to_owned(),
            Self::Number { whole: false, .. } => "a number".to_owned(),
            Self::Choice(_) => format!("one of {}", self.short().replace(" | ", ", ")),
            Self::List(of) => format!("a list, each {}", of.wanted()),
            Self::Map(of) => of.wanted(),
            Self::Custom {
                name,
                example: Some(example),
            } => format!("a {name} such as {example}"),
            Self::Custom {
                name,
                example: None,
            } => format!("a {name}"),
            Self::Unwritable => "something else".to_owned(),
        }
    }

    /// For a table of options: `duration`, `'text' | 'binary'`.
    pub(super) fn short(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Bool => "bool".to_owned(),
            Self::Number { whole: true, .. } => "integer".to_owned(),
            Self::Number { whole: false, .. } => "number".to_owned(),
            Self::Choice(words) => words
                .iter()
                .map(|word| format!("'{word}'"))
                .collect::<Vec<_>>()
                .join(" | "),
            Self::List(of) => format!("list of {}", of.short()),
            Self::Map(of) => of.short(),
            Self::Custom { name, .. } => name.clone(),
            Self::Unwritable => "none".to_owned(),
        }
    }
}

/// The kind that a property's schema describes.
fn kind(schema: &Json) -> OptionType {
    if let Some(inner) = without_null(schema) {
        return kind(inner);
    }
    if let Some(name) = text(schema, "x-kind") {
        return OptionType::Custom {
            name,
            example: text(schema, "x-example"),
        };
    }
    if let Some(words) = choice(schema) {
        return OptionType::Choice(words);
    }
    let number = |whole| OptionType::Number {
        whole,
        min: schema.get("minimum").and_then(Json::as_f64),
        max: schema.get("maximum").and_then(Json::as_f64),
    };
    match type_of(schema) {
        Some("string") => OptionType::Text,
        Some("boolean") => OptionType::Bool,
        Some("integer") => number(true),
        Some("number") => number(false),
        Some("array") => inner(schema, "items", OptionType::List),
        Some("object") => inner(schema, "additionalProperties", OptionType::Map),
        _ => OptionType::Unwritable,
    }
}

/// A list or a map of the type that `key` describes.
fn inner(schema: &Json, key: &str, of: fn(Box<OptionType>) -> OptionType) -> OptionType {
    match schema.get(key) {
        Some(item @ Json::Object(_)) => of(Box::new(kind(item))),
        _ => OptionType::Unwritable,
    }
}

/// An option that may be absent is written `anyOf [it, null]`.
fn without_null(schema: &Json) -> Option<&Json> {
    let of = schema.get("anyOf")?.as_array()?;
    let mut others = of.iter().filter(|one| type_of(one) != Some("null"));
    others.next().filter(|_| others.next().is_none())
}

/// The type, `null` beside another left out.
fn type_of(schema: &Json) -> Option<&str> {
    match schema.get("type")? {
        Json::String(one) => Some(one),
        Json::Array(several) => several
            .iter()
            .filter_map(Json::as_str)
            .find(|one| *one != "null"),
        _ => None,
    }
}

/// The words of an enum, with documented variants or without.
fn choice(schema: &Json) -> Option<Vec<String>> {
    let word = |json: &Json| json.as_str().map(str::to_owned);
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return Some(words.iter().filter_map(word).collect());
    }
    let variants = schema.get("oneOf")?.as_array()?;
    let words = variants.iter().map(|variant| match variant.get("enum") {
        Some(Json::Array(words)) => words.iter().map(word).collect(),
        _ => variant
            .get("const")
            .map(|one| vec![word(one)])
            .unwrap_or_default()
            .into_iter()
            .collect(),
    });
    let words: Option<Vec<Vec<String>>> = words.collect();
    words
        .map(|words| words.concat())
        .filter(|words| !words.is_empty())
}

fn text(schema: &Json, key: &str) -> Option<String> {
    schema.get(key)?.as_str().map(str::to_owned)
}

/// A default as it would be written; nothing for null and for what is empty.
fn shown(default: &Json) -> Option<String> {
    match default {
        Json::Null => None,
        Json::String(text) => Some(format!("'{text}'")),
        Json::Array(list) if list.is_empty() => None,
        Json::Object(_) => None,
        other => Some(other.to_string()),
    }
}
