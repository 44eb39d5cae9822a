//! Random damages to the data folder: each is reported, or makes no difference.
//!
//! A folder with several generations of checkpoints and logs is damaged in one place and opened. Either the
//! opening fails with the name of what is wrong, or a query does, or the views hold what the first rows of each
//! log give, at least those that were durable. `HEADWATER_DAMAGES=1000` sets the number of damages,
//! `HEADWATER_DAMAGES_SEED` the seed of the first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headwater::{Db, Error};
use headwater_log::Disk;
use headwater_log::lying::LyingDisk;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::script::{open, push, source, truth, views};
use crate::setting;

/// Damages by default.
const DAMAGES: u64 = 60;

const SOURCES: [(&str, i64); 2] = [("trades", 20), ("ticks", 20)];

/// Generations of checkpoints.
const GENERATIONS: i64 = 6;

/// A folder as it was after each checkpoint, and at last as a killed process leaves it.
struct Generations {
    disks: Vec<LyingDisk>,
    /// The durable rows of each source at the end.
    rows: i64,
}

fn generations() -> Generations {
    let disk = LyingDisk::new(11);
    let db = open(&disk, 1).unwrap();
    for (name, _) in SOURCES {
        db.execute(&source(name, "")).unwrap();
    }
    let mut disks = Vec::new();
    let mut rows = 0;
    for generation in 0..=GENERATIONS {
        for (name, count) in SOURCES {
            push(&db, name, rows..rows + count);
        }
        rows += SOURCES[0].1;
        db.flush().unwrap();
        if generation < GENERATIONS {
            db.checkpoint().unwrap();
        }
        disks.push(disk.fork());
    }
    Generations { disks, rows }
}

/// Changes one file; returns what was done.
fn damage(to: &LyingDisk, all: &Generations, random: &mut StdRng) -> String {
    let mut paths = to.paths();
    paths.retain(|path| !path.ends_with("LOCK"));
    let path = paths[random.random_range(0..paths.len())].clone();
    let mut bytes = to.contents(&path).unwrap();
    let length = bytes.len();
    let shown = path.display().to_string();
    let at = random.random_range(0..length.max(1));
    let what = match random.random_range(0..8) {
        0 if length > 0 => {
            bytes[at] ^= 1 << random.random_range(0..8);
            format!("flip a bit of byte {at}")
        }
        1 => {
            bytes.truncate(at);
            format!("cut at byte {at}")
        }
        2 if length > 0 => {
            let end = random.random_range(at..length);
            bytes[at..=end].fill(0);
            format!("zero bytes {at} to {end}")
        }
        3 => {
            to.remove(&path).unwrap();
            return format!("delete {shown}");
        }
        4 => {
            let more = random.random_range(1..200);
            bytes.extend((0..more).map(|_| random.random::<u8>()));
            format!("append {more} bytes")
        }
        5 => {
            let alike = alike(&paths, &path);
            let other = alike[random.random_range(0..alike.len())];
            let theirs = to.contents(other).unwrap();
            to.plant(other, &bytes);
            to.plant(&path, &theirs);
            return format!("exchange {shown} with {}", other.display());
        }
        6 => {
            let alike = alike(&paths, &path);
            let other = alike[random.random_range(0..alike.len())];
            bytes = to.contents(other).unwrap();
            format!("copy {} over it", other.display())
        }
        _ => return restore(to, all, random),
    };
    to.plant(&path, &bytes);
    format!("{what} of {shown}")
}

/// The files that have the same ending or, of those without, the same name.
fn alike<'a>(paths: &'a [PathBuf], path: &Path) -> Vec<&'a PathBuf> {
    let kind = |path: &Path| match path.extension() {
        Some(ending) => ending.to_owned(),
        None => path.file_name().unwrap_or_default().to_owned(),
    };
    paths
        .iter()
        .filter(|other| kind(other) == kind(path))
        .collect()
}

/// Puts a file back as it was in an earlier generation, also over the newest of its kind.
fn restore(to: &LyingDisk, all: &Generations, random: &mut StdRng) -> String {
    let generation = random.random_range(0..all.disks.len() - 1);
    let old = &all.disks[generation];
    let mut paths = old.paths();
    paths.retain(|path| !path.ends_with("LOCK") && old.contents(path) != to.contents(path));
    let path = &paths[random.random_range(0..paths.len())];
    let newest = to.paths();
    let newest = alike(&newest, path);
    let over = match newest.last() {
        Some(newest) if random.random_bool(0.5) => (*newest).clone(),
        _ => path.clone(),
    };
    to.plant(&over, &old.contents(path).unwrap());
    let (path, over) = (path.display(), over.display());
    format!("restore {path} of generation {generation} as {over}")
}

/// What became of a damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Harmless,
    Refused,
    Reported,
}

/// What a source holds is what its first rows give, at least the durable ones; `None` if a query fails.
fn is_right(db: &Db, name: &str, durable: i64) -> Option<bool> {
    let count = |sql: &str| -> Option<i64> {
        db.query(sql).ok()?;
        crate::script::numbers(db, sql)[0]
    };
    let there = count(&format!(
        "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) FROM {name}_totals"
    ))?;
    db.query(&format!("SELECT * FROM {name}_minutes")).ok()?;
    let logged = count(&format!("SELECT COUNT(*) FROM {name}"))?;
    Some(there >= durable && logged == there && views(db, name) == truth(there))
}

fn fate(disk: &LyingDisk, all: &Generations, what: &str) -> Fate {
    let db = match open(disk, 1) {
        Ok(db) => db,
        Err(Error::Data(why)) => {
            let named = ["/data/", ".json", ".data"];
            assert!(named.iter().any(|part| why.contains(part)), "{what}: {why}");
            return Fate::Refused;
        }
        Err(other) => panic!("{what}: {other}"),
    };
    let right = SOURCES.map(|(name, _)| is_right(&db, name, all.rows));
    let reported = crate::script::numbers(&db, "SELECT COUNT(*) FROM system.errors")[0] != Some(0);
    match right {
        [Some(true), Some(true)] => Fate::Harmless,
        _ if reported || right.contains(&None) => Fate::Reported,
        _ => panic!("silently wrong: {what}: {right:?}"),
    }
}

#[test]
fn no_damage_is_silently_wrong() {
    let all = generations();
    let last = all.disks.last().unwrap();
    assert_eq!(fate(&last.fork(), &all, "nothing"), Fate::Harmless);
    let count = match setting("HEADWATER_DAMAGES") {
        0 => DAMAGES,
        count => count,
    };
    let first = setting("HEADWATER_DAMAGES_SEED");
    let mut fates = BTreeMap::new();
    for seed in first..first + count {
        let disk = last.fork();
        let what = damage(&disk, &all, &mut StdRng::seed_from_u64(seed));
        let what = format!("seed {seed}: {what}");
        *fates.entry(fate(&disk, &all, &what)).or_insert(0) += 1;
    }
    println!("{count} damages: {fates:?}");
}
