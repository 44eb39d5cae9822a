//! The check: from a `WITH` list to options that are right, or to everything that is wrong.
//!
//! Each key finds its declaration, each value is turned into the JSON that the declaration wants, then
//! the struct itself reads them. A list with a problem is never read in part.

use std::any::TypeId;
use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::declared::{Declared, OptionType};
use super::fields::{Complaint, Map};
use super::problem::{Fault, Problem, nearest};
use super::{Given, OptionSet, Options, Value};
use crate::shown::HIDDEN;
use crate::{Error, Result};

/// Options without a problem, to be read as the structs that declared them.
#[derive(Clone)]
pub struct Checked {
    values: Vec<(TypeId, Map)>,
}

impl Checked {
    /// The options of `T`. Fails only if `T` was not among the sets that were checked.
    pub fn get<T: Options>(&self) -> Result<T> {
        let wanted = std::any::type_name::<T>();
        let found = self.values.iter().find(|(of, _)| *of == TypeId::of::<T>());
        let (_, values) =
            found.ok_or_else(|| Error::Options(format!("{wanted} was not checked")))?;
        serde_json::from_value(Json::Object(values.clone()))
            .map_err(|error| Error::Options(format!("{wanted}: {error}")))
    }
}

/// Checks `given` against `sets` and reads it. The problems are in the order of the list, missing
/// options last. If two sets declare the same option, it belongs to the first.
pub fn check<S: Clone>(
    connector: &str,
    sets: &[OptionSet],
    given: &[Given<S>],
) -> Result<Checked, Vec<Problem<S>>> {
    let mut check = OptionCheck {
        connector: connector.to_lowercase(),
        options: (0..)
            .zip(sets)
            .flat_map(|(number, set)| (set.declared)().into_iter().map(move |it| (number, it)))
            .collect(),
        given,
        taken: BTreeMap::new(),
        values: vec![Map::new(); sets.len()],
        problems: Vec::new(),
    };
    (0..given.len()).for_each(|at| check.take(at));
    check.find_missing();
    check.verify(sets);
    check.problems.sort_by_key(|(at, _)| *at);
    if check.problems.is_empty() {
        let values = sets.iter().map(|set| set.of).zip(check.values).collect();
        return Ok(Checked { values });
    }
    Err(check
        .problems
        .into_iter()
        .map(|(_, problem)| problem)
        .collect())
}

/// What a key of the list means: a declared option, and the entry if it is a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct DeclaredKey {
    option: usize,
    entry: Option<String>,
}

struct OptionCheck<'a, S> {
    connector: String,
    /// Every declared option, with the number of its set.
    options: Vec<(usize, Declared)>,
    given: &'a [Given<S>],
    /// The key of the list that gives each option.
    taken: BTreeMap<DeclaredKey, usize>,
    values: Vec<Map>,
    /// With the key of the list they belong to.
    problems: Vec<(usize, Problem<S>)>,
}

impl<S: Clone> OptionCheck<'_, S> {
    /// Takes one key of the list.
    fn take(&mut self, at: usize) {
        let given = &self.given[at];
        let target = match self.find(&given.key) {
            Ok(target) => target,
            Err(fault) => return self.report(at, fault),
        };
        if let Some(&first) = self.taken.get(&target) {
            let other = self.given[first].key.clone();
            return self.report(at, Fault::Duplicate { other });
        }
        self.taken.insert(target.clone(), at);
        let (set, option) = &self.options[target.option];
        let json = match coerce(&option.kind, &given.value) {
            Ok(json) => json,
            Err(fault) => return self.report(at, fault),
        };
        let name = option.name.clone();
        let values = &mut self.values[*set];
        match target.entry {
            None => {
                values.insert(name, json);
            }
            Some(entry) => {
                let map = values
                    .entry(name)
                    .or_insert_with(|| Json::Object(Map::new()));
                map.as_object_mut().and_then(|map| map.insert(entry, json));
            }
        }
    }

    /// The option that a key means: its own name, with the connector's name before it or not.
    fn find(&self, key: &str) -> Result<DeclaredKey, Fault> {
        let prefix = format!("{}.", self.connector);
        let bare = key
            .get(..prefix.len())
            .filter(|start| start.eq_ignore_ascii_case(&prefix));
        let bare = bare.map(|_| &key[prefix.len()..]);
        let target = self
            .find_name(key)
            .or_else(|| bare.and_then(|bare| self.find_name(bare)));
        let target = target.ok_or_else(|| Fault::Unknown {
            nearest: nearest(
                bare.unwrap_or(key),
                self.options.iter().map(|(_, option)| option.name.as_str()),
            ),
        })?;
        let (_, option) = &self.options[target.option];
        match option.kind {
            OptionType::Map(_) if target.entry.is_none() => Err(Fault::NeedsEntry {
                map: option.name.clone(),
            }),
            _ => Ok(target),
        }
    }

    fn find_name(&self, name: &str) -> Option<DeclaredKey> {
        let exact = self.position(|option| option.name.eq_ignore_ascii_case(name));
        if let Some(option) = exact {
            let entry = None;
            return Some(DeclaredKey { option, entry });
        }
        let entry = |option: &Declared| {
            let OptionType::Map(_) = option.kind else {
                return None;
            };
            let start = name.get(..option.name.len())?;
            let entry = name[option.name.len()..].strip_prefix('.')?;
            (start.eq_ignore_ascii_case(&option.name) && !entry.is_empty()).then_some(entry)
        };
        let option = self.position(|option| entry(option).is_some())?;
        let entry = entry(&self.options[option].1).map(str::to_owned);
        Some(DeclaredKey { option, entry })
    }

    fn position(&self, is: impl Fn(&Declared) -> bool) -> Option<usize> {
        self.options.iter().position(|(_, option)| is(option))
    }

    fn find_missing(&mut self) {
        for (option, (_, declared)) in self.options.iter().enumerate() {
            let entry = None;
            let is_given = self.taken.contains_key(&DeclaredKey { option, entry });
            let first = self.position(|other| other.name == declared.name);
            if declared.required && !is_given && first == Some(option) {
                let fault = Fault::Missing {
                    wanted: declared.kind.wanted(),
                    doc: declared.doc.clone(),
                };
                let problem = Problem::unplaced(declared.name.clone(), fault);
                self.problems.push((usize::MAX, problem));
            }
        }
    }

    /// Lets the structs read their values, and reports what they refuse.
    fn verify(&mut self, sets: &[OptionSet]) {
        for (set, verify) in sets.iter().map(|set| set.verify).enumerate() {
            for complaint in verify(&self.values[set]) {
                self.complain(set, complaint);
            }
        }
    }

    fn complain(&mut self, set: usize, complaint: Complaint) {
        match complaint {
            Complaint::Invalid { option, reason } => {
                let at = self.given_as(set, &option).unwrap_or(0);
                self.report(at, Fault::Invalid { reason });
            }
            Complaint::Objection(objection) => {
                let mut given: Vec<usize> = objection
                    .options
                    .iter()
                    .filter_map(|option| self.given_as(set, option))
                    .collect();
                let reason = objection.reason;
                if given.is_empty() {
                    let name = objection.options.first().copied().unwrap_or_default();
                    let problem = Problem::unplaced(name.to_owned(), Fault::Invalid { reason });
                    self.problems.push((usize::MAX, problem));
                } else {
                    let at = given.remove(0);
                    let key = |at: usize| self.given[at].key.clone();
                    let others = given.into_iter().map(key).collect();
                    self.report(at, Fault::Contradiction { others, reason });
                }
            }
        }
    }

    /// The key of the list that gave this option.
    fn given_as(&self, set: usize, name: &str) -> Option<usize> {
        let is = |target: &DeclaredKey| {
            let (of, option) = &self.options[target.option];
            *of == set && option.name == name
        };
        let mut taken = self.taken.iter();
        taken.find(|(target, _)| is(target)).map(|(_, &at)| at)
    }

    fn report(&mut self, at: usize, fault: Fault) {
        let given = &self.given[at];
        let problem = Problem {
            key: given.key.clone(),
            span: Some(given.span.clone()),
            fault,
        };
        self.problems.push((at, problem));
    }
}

/// The value as the JSON that `kind` wants.
fn coerce(kind: &OptionType, value: &Value) -> Result<Json, Fault> {
    let json = match (kind, value) {
        (OptionType::Map(of), value) => return coerce(of, value),
        (OptionType::List(of), value) => return list(of, value),
        (OptionType::Text | OptionType::Custom { .. }, Value::Text(text)) => {
            Some(text.as_str().into())
        }
        (OptionType::Custom { .. }, Value::Integer(number)) => Some(number.to_string().into()),
        (OptionType::Custom { .. }, Value::Number(number)) => Some(number.to_string().into()),
        (OptionType::Bool, Value::Bool(truth)) => Some((*truth).into()),
        (OptionType::Bool, Value::Text(text)) => {
            text.to_lowercase().parse::<bool>().ok().map(Json::from)
        }
        (OptionType::Number { whole, min, max }, value) => {
            return number(*whole, *min, *max, value).unwrap_or_else(|| Err(wrong(kind, value)));
        }
        (OptionType::Choice(words), Value::Text(text)) => {
            let mut words = words.iter();
            words
                .find(|word| word.eq_ignore_ascii_case(text))
                .map(|word| word.as_str().into())
        }
        _ => None,
    };
    json.ok_or_else(|| wrong(kind, value))
}

/// A list as it is, as a JSON array in a text, or as its only element.
fn list(of: &OptionType, value: &Value) -> Result<Json, Fault> {
    let parsed = match value {
        Value::Text(text) if text.trim_start().starts_with('[') => from_json(text),
        _ => None,
    };
    let items = match parsed.as_ref().unwrap_or(value) {
        Value::List(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    items.iter().map(|item| coerce(of, item)).collect()
}

fn from_json(text: &str) -> Option<Value> {
    let list: Vec<Json> = serde_json::from_str(text).ok()?;
    let item = |json: Json| match json {
        Json::String(text) => Some(Value::Text(text)),
        Json::Bool(truth) => Some(Value::Bool(truth)),
        Json::Number(number) => number
            .as_i64()
            .map(Value::Integer)
            .or_else(|| number.as_f64().map(Value::Number)),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    };
    list.into_iter()
        .map(item)
        .collect::<Option<_>>()
        .map(Value::List)
}

/// A number within its range; `None` if it is not a number.
fn number(
    whole: bool,
    min: Option<f64>,
    max: Option<f64>,
    value: &Value,
) -> Option<Result<Json, Fault>> {
    let json: Json = match value {
        Value::Integer(number) => (*number).into(),
        Value::Number(number) if !whole => (*number).into(),
        Value::Text(text) => match text.trim().parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) if whole => return None,
            Err(_) => text.trim().parse::<f64>().ok()?.into(),
        },
        _ => return None,
    };
    let number = json.as_f64()?;
    let fits = min.is_none_or(|min| number >= min) && max.is_none_or(|max| number <= max);
    let text = |limit: Option<f64>| limit.map(|limit| limit.to_string());
    Some(if fits {
        Ok(json)
    } else {
        Err(Fault::OutOfRange {
            found: json.to_string(),
            min: text(min),
            max: text(max),
        })
    })
}

fn wrong(kind: &OptionType, value: &Value) -> Fault {
    let secret = kind.short().ends_with("secret");
    let near = match (kind, value) {
        (OptionType::Choice(words), Value::Text(text)) => {
            nearest(text, words.iter().map(String::as_str))
        }
        _ => None,
    };
    let found = if secret {
        HIDDEN.to_owned()
    } else {
        describe(value)
    };
    Fault::WrongType {
        wanted: kind.wanted(),
        found,
        nearest: near,
    }
}

/// The value, cut to a length that fits a message.
fn describe(value: &Value) -> String {
    match value {
        Value::Text(text) if text.chars().count() > 60 => {
            format!("'{}...'", text.chars().take(57).collect::<String>())
        }
        Value::Text(text) => format!("'{text}'"),
        Value::Integer(number) => number.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::List(items) => format!("a list of {}", items.len()),
    }
}
