//! What the next object is expected to look like.
//!
//! One entry per key, in order: the bytes between two values, which are the same in every object that
//! one program writes (`,"price":`), and where the value goes. Up to 16 bytes are compared as two
//! words under a mask, longer ones as a slice. See `object.rs` for how it is used.

use super::scan::Scan;

/// Objects with more keys are guessed up to here.
const ENTRIES_MAX: usize = 256;
/// A longer key is not guessed.
const TEXT_MAX: usize = 256;
/// Objects in a row that may differ before the template is learnt anew; doubles each time.
const PATIENCE: u32 = 16;
const PATIENCE_MAX: u32 = 1 << 14;

/// Where the value of a key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// To no column.
    Skip,
    /// To the column of this name.
    Exact(usize),
    /// To the only column of this name but for its case, unless the exact name comes as well.
    Folded(usize),
    /// The same, and in the object that the template was learnt from the exact name did not come.
    Alone(usize),
}

#[derive(Default)]
pub(super) struct Template {
    entries: Vec<Entry>,
    /// Objects in a row that differed.
    misses: u32,
    /// How many may.
    patience: u32,
}

struct Entry {
    /// The first 16 bytes of `text`, filled with zeros, and which of them count.
    words: [u64; 2],
    mask: [u64; 2],
    text: Box<[u8]>,
    key: Box<[u8]>,
    slot: Slot,
}

/// The keys of one object, while it is being read.
#[derive(Default)]
pub(super) struct Lesson<'a> {
    keys: Vec<(&'a [u8], Vec<u8>, Slot)>,
}

impl Template {
    /// Whether there is something to guess with.
    #[inline(always)]
    pub(super) fn is_learnt(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Moves past entry `at` if it comes next in `scan`, and tells where its value goes.
    #[inline(always)]
    pub(super) fn take(&self, at: usize, scan: &mut Scan<'_>) -> Option<Slot> {
        let entry = self.entries.get(at)?;
        let length = entry.text.len();
        let same = match scan.matches(entry.words, entry.mask) {
            Some(same) if length <= 16 => same && scan.holds(length),
            Some(false) => false,
            _ => scan.starts_with(&entry.text),
        };
        same.then(|| {
            scan.at += length;
            entry.slot
        })
    }

    /// Which entry has this key: the first from `from` on, else the first of all.
    pub(super) fn find(&self, from: usize, key: &[u8]) -> Option<usize> {
        let (before, after) = self.entries.split_at(from.min(self.entries.len()));
        let is = |entry: &Entry| *entry.key == *key;
        after
            .iter()
            .position(is)
            .map(|at| at + before.len())
            .or_else(|| before.iter().position(is))
    }

    /// Notes whether an object differed; forgets everything when too many did.
    #[inline(always)]
    pub(super) fn judge(&mut self, missed: bool) {
        if !missed {
            self.misses = 0;
            return;
        }
        self.misses += 1;
        if self.misses >= self.patience {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
            self.misses = 0;
            self.entries.clear();
        }
    }

    /// Makes the template of an object, if there is none.
    pub(super) fn learn(&mut self, lesson: Lesson<'_>) {
        if self.is_learnt() {
            return;
        }
        self.patience = self.patience.max(PATIENCE);
        let exact = |column| {
            lesson
                .keys
                .iter()
                .any(|(_, _, slot)| *slot == Slot::Exact(column))
        };
        let short = |key: &&(&[u8], Vec<u8>, Slot)| key.0.len() <= TEXT_MAX;
        let entries =
            lesson
                .keys
                .iter()
                .filter(short)
                .take(ENTRIES_MAX)
                .map(|(text, key, slot)| {
                    let slot = match *slot {
                        Slot::Folded(column) if !exact(column) => Slot::Alone(column),
                        slot => slot,
                    };
                    Entry::new(text, key, slot)
                });
        self.entries = entries.collect();
    }
}

impl Entry {
    fn new(text: &[u8], key: &[u8], slot: Slot) -> Self {
        let count = text.len().min(16);
        let (mut bytes, mut mask) = ([0; 16], [0; 16]);
        bytes[..count].copy_from_slice(&text[..count]);
        mask[..count].fill(0xff);
        Self {
            words: words(bytes),
            mask: words(mask),
            text: text.into(),
            key: key.into(),
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
