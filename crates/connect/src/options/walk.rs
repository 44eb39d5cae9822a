//! The walker: from a `WITH` list to options that are right, or to everything that is wrong.
//!
//! Each key finds its declaration, each value is turned into the JSON that the declaration wants, then
//! the struct itself reads them. A list with a problem is never read in part.

use std::any::TypeId;
use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::declared::{Declared, Kind};
use super::fields::{Complaint, Map};
use super::problem::{Fault, Problem, nearest};
use super::secret::HIDDEN;
use super::{Given, OptionSet, Options, Value};
use crate::{Error, Result};

/// Options that were found right, to be read as the structs that declared them.
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
    let mut walk = Walk {
        connector: connector.to_lowercase(),
        declared: sets.iter().map(|set| (set.declared)()).collect(),
        given,
        taken: BTreeMap::new(),
        values: vec![Map::new(); sets.len()],
        problems: Vec::new(),
    };
    (0..given.len()).for_each(|at| walk.take(at));
    walk.find_missing();
    walk.verify(sets);
    walk.problems.sort_by_key(|(at, _)| *at);
    if walk.problems.is_empty() {
        let values = sets.iter().map(|set| set.of).zip(walk.values).collect();
        return Ok(Checked { values });
    }
    Err(walk
        .problems
        .into_iter()
        .map(|(_, problem)| problem)
        .collect())
}

/// Where an option is declared, and the entry if it is a map.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    set: usize,
    option: usize,
    entry: Option<String>,
}

struct Walk<'a, S> {
    connector: String,
    declared: Vec<Vec<Declared>>,
    given: &'a [Given<S>],
    /// Which key of the list gave which option.
    taken: BTreeMap<Place, usize>,
    values: Vec<Map>,
    /// With the key of the list they belong to.
    problems: Vec<(usize, Problem<S>)>,
}

impl<S: Clone> Walk<'_, S> {
    /// Takes one key of the list.
    fn take(&mut self, at: usize) {
        let given = &self.given[at];
        let place = match self.find(&given.key) {
            Ok(place) => place,
            Err(fault) => return self.report(at, fault),
        };
        if let Some(&first) = self.taken.get(&place) {
            let other = self.given[first].key.clone();
            return self.report(at, Fault::Duplicate { other });
        }
        self.taken.insert(place.clone(), at);
        let option = &self.declared[place.set][place.option];
        let json = match coerce(&option.kind, &given.value) {
            Ok(json) => json,
            Err(fault) => return self.report(at, fault),
        };
        let name = option.name.clone();
        let values = &mut self.values[place.set];
        match place.entry {
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
    fn find(&self, key: &str) -> Result<Place, Fault> {
        let prefix = format!("{}.", self.connector);
        let bare = key
            .get(..prefix.len())
            .filter(|start| start.eq_ignore_ascii_case(&prefix));
        let bare = bare.map(|_| &key[prefix.len()..]);
        let place = self
            .find_name(key)
            .or_else(|| bare.and_then(|bare| self.find_name(bare)));
        let place = place.ok_or_else(|| Fault::Unknown {
            nearest: nearest(bare.unwrap_or(key), self.names()),
        })?;
        let option = &self.declared[place.set][place.option];
        match option.kind {
            Kind::Map(_) if place.entry.is_none() => Err(Fault::NeedsEntry {
                map: option.name.clone(),
            }),
            _ => Ok(place),
        }
    }

    fn find_name(&self, name: &str) -> Option<Place> {
        let exact = self.position(|option| option.name.eq_ignore_ascii_case(name));
        if let Some((set, option)) = exact {
            return Some(Place {
                set,
                option,
                entry: None,
            });
        }
        let entry = |option: &Declared| {
            let Kind::Map(_) = option.kind else {
                return None;
            };
            let start = name.get(..option.name.len())?;
            let entry = name[option.name.len()..].strip_prefix('.')?;
            (start.eq_ignore_ascii_case(&option.name) && !entry.is_empty()).then_some(entry)
        };
        let (set, option) = self.position(|option| entry(option).is_some())?;
        let entry = entry(&self.declared[set][option]).map(str::to_owned);
        Some(Place { set, option, entry })
    }

    fn position(&self, is: impl Fn(&Declared) -> bool) -> Option<(usize, usize)> {
        let within = |set: &Vec<Declared>| set.iter().position(&is);
        self.declared
            .iter()
            .enumerate()
            .find_map(|(at, set)| within(set).map(|found| (at, found)))
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.declared
            .iter()
            .flatten()
            .map(|option| option.name.as_str())
    }

    fn find_missing(&mut self) {
        let places = self.declared.iter().enumerate().flat_map(|(set, options)| {
            options
                .iter()
                .enumerate()
                .map(move |(option, declared)| (set, option, declared))
        });
        let missing: Vec<Problem<S>> = places
            .filter(|(set, option, declared)| {
                let place = Place {
                    set: *set,
                    option: *option,
                    entry: None,
                };
                let first = self.position(|other| other.name == declared.name);
                declared.required
                    && !self.taken.contains_key(&place)
                    && first == Some((*set, *option))
            })
            .map(|(_, _, declared)| Problem {
                key: declared.name.clone(),
                span: None,
                fault: Fault::Missing {
                    wanted: declared.kind.wanted(),
                    doc: declared.doc.clone(),
                },
            })
            .collect();
        self.problems
            .extend(missing.into_iter().map(|problem| (usize::MAX, problem)));
    }

    /// Lets the structs read their values, and objects where they object.
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
                let key = |at: usize| self.given[at].key.clone();
                let reason = objection.reason;
                if given.is_empty() {
                    let key = objection
                        .options
                        .first()
                        .copied()
                        .unwrap_or_default()
                        .to_owned();
                    let fault = Fault::Invalid { reason };
                    self.problems.push((
                        usize::MAX,
                        Problem {
                            key,
                            span: None,
                            fault,
                        },
                    ));
                } else {
                    let at = given.remove(0);
                    let others = given.into_iter().map(key).collect();
                    self.report(at, Fault::Contradiction { others, reason });
                }
            }
        }
    }

    /// Which key of the list gave this option.
    fn given_as(&self, set: usize, name: &str) -> Option<usize> {
        let option = self.declared[set]
            .iter()
            .position(|option| option.name == name)?;
        let mut taken = self.taken.iter();
        taken
            .find(|(place, _)| place.set == set && place.option == option)
            .map(|(_, &at)| at)
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
fn coerce(kind: &Kind, value: &Value) -> Result<Json, Fault> {
    let json = match (kind, value) {
        (Kind::Map(of), value) => return coerce(of, value),
        (Kind::List(of), value) => return list(of, value),
        (Kind::Text | Kind::Custom { .. }, Value::Text(text)) => Some(text.as_str().into()),
        (Kind::Custom { .. }, Value::Integer(number)) => Some(number.to_string().into()),
        (Kind::Custom { .. }, Value::Number(number)) => Some(number.to_string().into()),
        (Kind::Bool, Value::Bool(truth)) => Some((*truth).into()),
        (Kind::Bool, Value::Text(text)) => text.to_lowercase().parse::<bool>().ok().map(Json::from),
        (Kind::Number { whole, min, max }, value) => {
            return number(*whole, *min, *max, value).unwrap_or_else(|| Err(wrong(kind, value)));
        }
        (Kind::Choice(words), Value::Text(text)) => {
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
fn list(of: &Kind, value: &Value) -> Result<Json, Fault> {
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

/// A number within its range; `None` if it is none.
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

fn wrong(kind: &Kind, value: &Value) -> Fault {
    let secret = matches!(kind, Kind::Custom { name, .. } if name == "secret");
    let near = match (kind, value) {
        (Kind::Choice(words), Value::Text(text)) => nearest(text, words.iter().map(String::as_str)),
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
