//! The pages of `docs/connectors`, `docs/formats.md` and `docs/errors.md` are what the code declares.
//!
//! When they are not, the test rewrites them and fails: run it again, and commit them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use headwater_connect::{Connectors, docs};

#[test]
fn pages_are_fresh() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let pages = pages(&docs);
    let mut stale = Vec::new();
    for (path, text) in &pages {
        if fs::read_to_string(path).ok().as_ref() != Some(text) {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            stale.push(path.display().to_string());
        }
    }
    for entry in fs::read_dir(docs.join("connectors")).unwrap() {
        let path = entry.unwrap().path();
        if !pages.contains_key(&path) {
            stale.push(format!(
                "{} (no connector of this name: remove it)",
                path.display()
            ));
        }
    }
    assert!(
        stale.is_empty(),
        "stale and rewritten, run this test again: {stale:#?}"
    );
}

fn pages(docs: &Path) -> BTreeMap<PathBuf, String> {
    let connectors = Connectors::builtin();
    let page = |name| {
        let page = docs::connector(connectors.get(name).unwrap());
        (docs.join(format!("connectors/{name}.md")), page)
    };
    let formats = (docs.join("formats.md"), docs::formats());
    let errors = (docs.join("errors.md"), docs::errors());
    let others = [formats, errors];
    connectors.names().map(page).chain(others).collect()
}
