//! What the next object is expected to look like.
//!
//! For every key, in order: the bytes between two values, which are the same in every object that
//! one program writes (`,"price":`), and where the value goes. Up to 16 bytes are compared as two
//! words under a mask, longer ones as a slice. See `object.rs` for how it is used.

use super::scanner::JsonScanner;

/// Keys of a template; the others of an object are always read.
const KEYS_MAX: usize = 256;
/// Length of a key of a template, bytes; a longer one is always read.
const TEXT_MAX: usize = 256;
/// Objects in a row that differ before another one is learnt; doubles each time.
const MISSES: u32 = 16;
const MISSES_MAX: u32 = 1 << 14;

/// Where the value of a key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// There is no column for it.
    Skip,
    /// To the column of this name.
    Exact(usize),
    /// To the only column of this name but for its case, unless the exact name comes as well.
    Folded(usize),
    /// As `Folded`, and the object that the template was learnt from did not have the exact name.
    Alone(usize),
}

#[derive(Default)]
pub(super) struct Template {
    keys: Vec<TemplateKey>,
    /// Objects in a row that differed, fewer than `misses_max`.
    misses: u32,
    misses_max: u32,
}

struct TemplateKey {
    /// The first 16 bytes of `text`, filled with zeros, and which of them count.
    words: [u64; 2],
    mask: [u64; 2],
    text: Box<[u8]>,
    name: Box<[u8]>,
    slot: Slot,
}

/// The keys of one object, while it is being read.
#[derive(Default)]
pub(super) struct Lesson<'a> {
    keys: Vec<(&'a [u8], Vec<u8>, Slot)>,
}

impl Template {
    #[inline(always)]
    pub(super) fn is_learnt(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Moves past key `at` if it comes next in `scan`, and returns where its value goes.
    #[inline(always)]
    pub(super) fn take(&self, at: usize, scan: &mut JsonScanner<'_>) -> Option<Slot> {
        let key = self.keys.get(at)?;
        let length = key.text.len();
        let same = match scan.matches(key.words, key.mask) {
            Some(same) if length <= 16 => same && scan.holds(length),
            Some(false) => false,
            _ => scan.starts_with(&key.text),
        };
        same.then(|| {
            scan.at += length;
            key.slot
        })
    }

    /// The position of a key: the first from `from` on, else the first of all.
    pub(super) fn find(&self, from: usize, name: &[u8]) -> Option<usize> {
        let (before, after) = self.keys.split_at(from.min(self.keys.len()));
        let is = |key: &TemplateKey| *key.name == *name;
        after
            .iter()
            .position(is)
            .map(|at| at + before.len())
            .or_else(|| before.iter().position(is))
    }

    /// Counts the objects that differed; forgets all keys after too many in a row.
    #[inline(always)]
    pub(super) fn judge(&mut self, missed: bool) {
        if !missed {
            self.misses = 0;
            return;
        }
        self.misses += 1;
        if self.misses >= self.misses_max {
            self.misses_max = (self.misses_max * 2).min(MISSES_MAX);
            self.misses = 0;
            self.keys.clear();
        }
    }

    /// Makes the template of an object, if there is none.
    pub(super) fn learn(&mut self, lesson: Lesson<'_>) {
        if self.is_learnt() {
            return;
        }
        self.misses_max = self.misses_max.max(MISSES);
        let exact = |column| {
            lesson
                .keys
                .iter()
                .any(|(_, _, slot)| *slot == Slot::Exact(column))
        };
        let short = |key: &&(&[u8], Vec<u8>, Slot)| key.0.len() <= TEXT_MAX;
        let keys = lesson
            .keys
            .iter()
            .filter(short)
            .take(KEYS_MAX)
            .map(|(text, key, slot)| {
                let slot = match *slot {
                    Slot::Folded(column) if !exact(column) => Slot::Alone(column),
                    slot => slot,
                };
                TemplateKey::new(text, key, slot)
            });
        self.keys = keys.collect();
    }
}

impl TemplateKey {
    fn new(text: &[u8], name: &[u8], slot: Slot) -> Self {
        let count = text.len().min(16);
        let (mut bytes, mut mask) = ([0; 16], [0; 16]);
        bytes[..count].copy_from_slice(&text[..count]);
        mask[..count].fill(0xff);
        Self {
            words: words(bytes),
            mask: words(mask),
            text: text.into(),
            name: name.into(),
            slot,
        }
    }
}

fn words(bytes: [u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(bytes);
    [both as u64, (both >> 64) as u64]
}

impl<'a> Lesson<'a> {
    /// Notes a key: the bytes from the value before to its own, the key itself, and its slot.
    pub(super) fn add(&mut self, text: &'a [u8], key: &[u8], slot: Slot) {
        self.keys.push((text, key.to_vec(), slot));
    }
}
