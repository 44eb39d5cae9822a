//! `docs/functions.md` lists the functions that the planner knows, by family.
//!
//! When it does not, the test rewrites it and fails: run it again, and commit it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::{Documentation, Volatility};

use super::Planner;

const PAGE: &str = "../../docs/functions.md";

const HEAD: &str = "<!-- A test writes this page: crates/engine/src/sql/plan/function_list.rs -->

# Functions

The functions that a query may call, by family. They give what PostgreSQL's of that name give; [sql.md](sql.md) says where they
differ. Beside them there are the operators and forms of SQL: `CASE`, `CAST`, `EXTRACT`, `LIKE`, `SIMILAR TO`, `AT TIME ZONE`.
";

/// The families of the functions that are not DataFusion's.
const OWN: &[(&str, &str)] = &[
    ("ceiling", MATH),
    ("convert_from", BYTES),
    ("convert_to", BYTES),
    ("div", MATH),
    ("get_byte", BYTES),
    ("mod", MATH),
    ("regexp_split_to_array", REGEX),
    ("regexp_substr", REGEX),
    ("sign", MATH),
    ("timezone", TIME),
    ("width_bucket", MATH),
];

const MATH: &str = "Math Functions";
const BYTES: &str = "Binary String Functions";
const REGEX: &str = "Regular Expression Functions";
const TIME: &str = "Time and Date Functions";
const OTHER: &str = "Other Functions";

#[test]
fn the_page_of_functions_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let text = page(&Planner::new());
    if fs::read_to_string(&path).ok().as_ref() != Some(&text) {
        fs::write(&path, text).unwrap();
        panic!("{PAGE} was stale and is rewritten, run this test again");
    }
}

fn page(planner: &Planner) -> String {
    let families = families();
    let mut by_family: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for name in planner.function_names() {
        let family = families.get(&name).copied().unwrap_or(OTHER);
        by_family.entry(family).or_default().insert(name);
    }
    let mut page = HEAD.to_owned();
    for (family, names) in by_family {
        page += &format!("\n## {family}\n\n{}\n", listed(&names));
    }
    let scalar = planner.state.scalar_functions();
    let varies = |name: &&String| match scalar.get(*name) {
        Some(function) => function.signature().volatility != Volatility::Immutable,
        None => false,
    };
    let names = planner.function_names();
    let varying = names.iter().filter(varies).cloned().collect();
    page += &format!(
        "\n## In a SELECT only\n\nTheir results depend on more than the rows, so a stream or view refuses them:\n\n{}\n",
        listed(&varying)
    );
    page
}

/// Names in lines of a readable length.
fn listed(names: &BTreeSet<String>) -> String {
    const WIDTH: usize = 120;
    let (mut text, mut line) = (String::new(), 0);
    for name in names {
        let name = format!("`{name}`");
        let fits = line + 1 + name.len() <= WIDTH;
        let before = match (line, fits) {
            (0, _) => "",
            (_, true) => " ",
            (_, false) => "\n",
        };
        line = if fits {
            line + 1 + name.len()
        } else {
            name.len()
        };
        text += before;
        text += &name;
    }
    text
}

/// The family of each name, as DataFusion documents its functions.
fn families() -> BTreeMap<String, &'static str> {
    let mut families = BTreeMap::new();
    let mut note = |names: Vec<String>, doc: Option<&Documentation>| {
        let family = doc.map_or(OTHER, |doc| doc.doc_section.label);
        families.extend(names.into_iter().map(|name| (name, family)));
    };
    let names = |name: &str, aliases: &[String]| {
        let mut names = aliases.to_vec();
        names.push(name.to_owned());
        names
    };
    for it in SessionStateDefaults::default_window_functions() {
        note(names(it.name(), it.aliases()), it.documentation());
    }
    for it in SessionStateDefaults::default_aggregate_functions() {
        note(names(it.name(), it.aliases()), it.documentation());
    }
    for it in SessionStateDefaults::default_scalar_functions() {
        note(names(it.name(), it.aliases()), it.documentation());
    }
    families.extend(
        OWN.iter()
            .map(|(name, family)| ((*name).to_owned(), *family)),
    );
    families
}
