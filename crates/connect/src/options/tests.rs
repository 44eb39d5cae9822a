//! Lists right and wrong, checked against a connector that exists only here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
struct Kettle {
    /// Where to find the kettle.
    url: String,
    /// Try again when the water is lost.
    #[serde(default = "yes")]
    reconnect: bool,
    /// The first wait, in milliseconds.
    #[serde(rename = "reconnect.delay.ms", default = "thousand")]
    delay: u64,
    /// How many cups it boils.
    #[serde(default)]
    #[schemars(range(min = 1, max = 12))]
    cups: Option<u8>,
    /// How hot, in parts of boiling.
    #[serde(default)]
    heat: Option<f64>,
    /// How long it may take.
    #[serde(default = "minute")]
    patience: Duration,
    /// How much it holds.
    #[serde(default)]
    size: Option<ByteSize>,
    /// The tune that it whistles.
    #[serde(default)]
    tune: Tune,
    /// Who may drink of it.
    #[serde(default)]
    guests: Vec<String>,
    /// What is written on it.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// The word that makes it start.
    #[serde(default)]
    password: Option<Secret>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Tune {
    /// Hardly to be heard.
    #[default]
    Low,
    /// It wakes the neighbours.
    VeryHigh,
}

fn yes() -> bool {
    true
}

fn thousand() -> u64 {
    1_000
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Options for Kettle {
    fn objections(&self) -> Vec<Objection> {
        let mut objections = Vec::new();
        if !self.reconnect && self.cups.is_some() {
            objections.push(Objection {
                options: vec!["cups", "reconnect"],
                reason: "without reconnect there is one cup".into(),
            });
        }
        objections
    }
}

/// What every source has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Common {
    /// Slots of the lane.
    #[serde(default)]
    buffer_size: Option<u32>,
}

impl Options for Common {}

const SETS: [OptionSet; 2] = [OptionSet::of::<Kettle>(), OptionSet::of::<Common>()];

/// The span of each entry is its place in the list.
fn given(list: &[(&str, Value)]) -> Vec<Given<usize>> {
    let entry = |(span, (key, value)): (usize, &(&str, Value))| Given {
        key: (*key).to_owned(),
        value: value.clone(),
        span,
    };
    list.iter().enumerate().map(entry).collect()
}

fn right(list: &[(&str, Value)]) -> Kettle {
    match check("kettle", &SETS, &given(list)) {
        Ok(checked) => checked.get().unwrap(),
        Err(problems) => panic!("{}", joined(&problems)),
    }
}

/// Each problem with its place and hint.
fn wrong(list: &[(&str, Value)]) -> Vec<String> {
    let Err(problems) = check("kettle", &SETS, &given(list)) else {
        panic!("it is right")
    };
    let show = |problem: &Problem<usize>| {
        let place = problem.span.map_or("-".to_owned(), |span| span.to_string());
        let hint = problem
            .hint()
            .map(|hint| format!(" | {hint}"))
            .unwrap_or_default();
        format!("{place} {problem}{hint}")
    };
    problems.iter().map(show).collect()
}

fn url() -> (&'static str, Value) {
    ("url", "tea://here".into())
}

#[test]
fn what_is_not_given_has_its_default() {
    let kettle = right(&[url()]);
    assert_eq!(kettle.url, "tea://here");
    assert!(kettle.reconnect);
    assert_eq!(
        (kettle.delay, kettle.patience),
        (1_000, Duration::from_secs(60))
    );
    assert_eq!((kettle.cups, kettle.tune), (None, Tune::Low));
}

#[test]
fn keys_with_and_without_the_connectors_name_in_any_case() {
    let kettle = right(&[
        ("Kettle.URL", "tea://there".into()),
        ("kettle.reconnect.delay.ms", 5.into()),
        ("labels.From-Where", "Ceylon".into()),
        ("KETTLE.Labels.x.Y", "1".into()),
    ]);
    assert_eq!((kettle.url.as_str(), kettle.delay), ("tea://there", 5));
    let labels: Vec<_> = kettle
        .labels
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(labels, [("From-Where", "Ceylon"), ("x.Y", "1")]);
}

#[test]
fn values_of_every_kind() {
    let kettle = right(&[
        url(),
        ("reconnect", "TRUE".into()),
        ("reconnect.delay.ms", "250".into()),
        ("cups", 12.into()),
        ("heat", Value::Number(0.5)),
        ("patience", "1 min 30 s".into()),
        ("size", "64MiB".into()),
        ("tune", "Very_High".into()),
        ("guests", Value::List(vec!["Ann".into(), "Bob".into()])),
        ("password", "open sesame".into()),
    ]);
    assert_eq!(
        (kettle.delay, kettle.cups, kettle.heat),
        (250, Some(12), Some(0.5))
    );
    assert_eq!(kettle.patience, Duration::from_secs(90));
    assert_eq!(
        (kettle.size, kettle.tune),
        (Some(ByteSize::mib(64)), Tune::VeryHigh)
    );
    assert_eq!(kettle.guests, ["Ann", "Bob"]);
    assert_eq!(kettle.password.unwrap().expose(), "open sesame");
}

#[test]
fn lists_may_be_json_or_one_thing() {
    assert_eq!(
        right(&[url(), ("guests", r#"["Ann", "Bob"]"#.into())]).guests,
        ["Ann", "Bob"]
    );
    assert_eq!(right(&[url(), ("guests", "Ann".into())]).guests, ["Ann"]);
    assert_eq!(
        right(&[url(), ("guests", "[draft".into())]).guests,
        ["[draft"]
    );
}

#[test]
fn every_problem_is_reported_at_once() {
    let problems = wrong(&[
        ("reconect", true.into()),
        ("cups", 13.into()),
        ("patience", 5.into()),
        ("size", "5 seconds".into()),
        ("reconnect.delay.ms", "1 second".into()),
        ("tune", "lo".into()),
        ("cups", 3.into()),
        ("heat", "hot".into()),
        ("labels", "x".into()),
        ("bufer_size", 5.into()),
        ("zzz", 5.into()),
    ]);
    let expected = [
        r#"0 option "reconect" is unknown | did you mean "reconnect"?"#,
        r#"1 option "cups" must be from 1 to 12, it is 13"#,
        r#"2 option "patience" is wrong: "5" has no unit; the units are us, ms, s, min, h, d, w"#,
        r#"3 option "size" is wrong: "seconds" is not a unit; the units are B, kB, KiB, MB, MiB, GB, GiB, TB, TiB"#,
        r#"4 option "reconnect.delay.ms" must be a whole number, it is '1 second'"#,
        r#"5 option "tune" must be one of 'low', 'very_high', it is 'lo' | did you mean "low"?"#,
        r#"6 option "cups" is given twice"#,
        r#"7 option "heat" must be a number, it is 'hot'"#,
        r#"8 option "labels" holds several values | write one option for each entry: "labels.NAME" = 'value'"#,
        r#"9 option "bufer_size" is unknown | did you mean "buffer_size"?"#,
        r#"10 option "zzz" is unknown"#,
        r#"- option "url" is missing: it must be text | Where to find the kettle."#,
    ];
    assert_eq!(problems, expected);
}

#[test]
fn options_that_contradict_each_other() {
    let list = [
        ("kettle.cups", 2.into()),
        url(),
        ("Reconnect", false.into()),
    ];
    assert_eq!(
        wrong(&list),
        [r#"0 option "kettle.cups" contradicts "Reconnect": without reconnect there is one cup"#]
    );
}

#[test]
fn one_option_under_two_names() {
    let problems = wrong(&[url(), ("kettle.url", "b".into())]);
    assert_eq!(
        problems,
        [r#"1 option "kettle.url" is given twice, before as "url""#]
    );
}

#[test]
fn numbers_beyond_their_type() {
    let problems = wrong(&[url(), ("reconnect.delay.ms", (-1).into())]);
    assert_eq!(
        problems,
        [r#"1 option "reconnect.delay.ms" must be at least 0, it is -1"#]
    );
    let problems = wrong(&[url(), ("buffer_size", (1 << 40).into())]);
    assert!(
        problems[0].contains("must be") || problems[0].contains("is wrong"),
        "{problems:?}"
    );
}

#[test]
fn text_is_not_made_of_numbers() {
    assert_eq!(
        wrong(&[("url", 5.into())]),
        [r#"0 option "url" must be text, it is 5"#]
    );
}

#[test]
fn a_secret_is_never_shown() {
    let kettle = right(&[url(), ("password", "open sesame".into())]);
    assert!(!format!("{kettle:?}").contains("sesame"));
    let secret = kettle.password.unwrap();
    assert_eq!(secret.to_string(), "***");
    assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
    let problems = wrong(&[url(), ("password", Value::List(vec!["open sesame".into()]))]);
    assert_eq!(
        problems,
        [r#"1 option "password" must be a secret, it is ***"#]
    );
}

#[test]
fn the_sets_are_read_each_as_its_own_struct() {
    let checked = check(
        "kettle",
        &SETS,
        &given(&[url(), ("buffer_size", 64.into())]),
    )
    .ok()
    .unwrap();
    assert_eq!(checked.get::<Common>().unwrap().buffer_size, Some(64));
    let only_common = check("kettle", &SETS[1..], &given(&[])).ok().unwrap();
    assert!(only_common.get::<Kettle>().is_err());
}

#[test]
fn the_table_of_options() {
    let rows = OptionSet::of::<Kettle>().rows();
    let show = |row: &Row| {
        let default = row.default.as_deref().unwrap_or("-");
        format!("{} {} {} {}", row.name, row.kind, default, row.required)
    };
    let expected = [
        "url text - true",
        "cups integer - false",
        "guests list of text - false",
        "heat number - false",
        "labels.* text - false",
        "password secret - false",
        "patience duration '1 min' false",
        "reconnect bool true false",
        "reconnect.delay.ms integer 1000 false",
        "size byte size - false",
        "tune 'low' | 'very_high' 'low' false",
    ];
    assert_eq!(rows.iter().map(show).collect::<Vec<_>>(), expected);
    assert_eq!(rows[0].doc, "Where to find the kettle.");
}

#[test]
fn read_reports_everything_in_one_message() {
    let list = [Given::new("cups", 13), Given::new("tume", "low")];
    let error = read::<Kettle>("kettle", &list).unwrap_err().to_string();
    for part in ["\"cups\"", "did you mean \"tune\"?", "\"url\" is missing"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_careless_declaration_is_found() {
    #[derive(Deserialize, JsonSchema)]
    struct Careless {
        #[allow(dead_code)]
        silent: bool,
    }
    impl Options for Careless {}
    #[derive(Deserialize, JsonSchema)]
    struct Nested {
        /// A value that has parts.
        #[allow(dead_code)]
        part: (u8, u8),
    }
    impl Options for Nested {}
    assert!(
        OptionSet::of::<Careless>()
            .lint()
            .unwrap()
            .contains("no doc comment")
    );
    assert!(
        OptionSet::of::<Nested>()
            .lint()
            .unwrap()
            .contains("no value can become")
    );
    assert_eq!(OptionSet::of::<Kettle>().lint(), None);
}
