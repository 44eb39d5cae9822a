//! Where the rows of each key are: a hash table that grows a little at a time.
//!
//! Entries are spread over shards by linear hashing. Each time the shards hold [`SHARD_ROWS`] on average, the
//! next one in turn is split in two; so no insertion waits until a large table has been copied.

use hashbrown::HashTable;

/// Entries of a shard, on average at most.
const SHARD_ROWS: usize = 256;

/// The place of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPlace {
    /// The slot of its page.
    pub slot: u32,
    pub row: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct IndexEntry {
    hash: u32,
    place: RowPlace,
}

impl IndexEntry {
    /// The entries of a shard have the low bits of their hashes in common; these spread them.
    fn spread(hash: u32) -> u64 {
        let spread = u64::from(hash).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        spread.rotate_left(32)
    }

    fn spread_hash(&self) -> u64 {
        Self::spread(self.hash)
    }
}

pub(super) struct KeyIndex {
    /// By number; there is at least one.
    shards: Vec<HashTable<IndexEntry>>,
    len: usize,
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self {
            shards: vec![HashTable::new()],
            len: 0,
        }
    }
}

impl KeyIndex {
    /// The rows whose keys have this hash; of other keys, too, if those have the same.
    pub fn candidates(&self, hash: u32) -> impl Iterator<Item = RowPlace> {
        let shard = &self.shards[shard_of(hash, self.shards.len())];
        let entries = shard.iter_hash(IndexEntry::spread(hash));
        let entries = entries.filter(move |entry| entry.hash == hash);
        entries.map(|entry| entry.place)
    }

    pub fn insert(&mut self, hash: u32, place: RowPlace) {
        self.len += 1;
        if self.len > SHARD_ROWS * self.shards.len() {
            self.split();
        }
        let entry = IndexEntry { hash, place };
        let shard = self.shard(hash);
        shard.insert_unique(entry.spread_hash(), entry, IndexEntry::spread_hash);
    }

    /// The row moves to another place.
    pub fn replace(&mut self, hash: u32, place: RowPlace, by: RowPlace) {
        let known = IndexEntry { hash, place };
        let shard = self.shard(hash);
        match shard.find_mut(known.spread_hash(), |entry| *entry == known) {
            Some(entry) => entry.place = by,
            None => debug_assert!(false, "a row that is alive is in the index"),
        }
    }

    pub fn remove(&mut self, hash: u32, place: RowPlace) {
        let known = IndexEntry { hash, place };
        let shard = self.shard(hash);
        if let Ok(entry) = shard.find_entry(known.spread_hash(), |entry| *entry == known) {
            entry.remove();
            if shard.capacity() > SHARD_ROWS && shard.len() * 8 < shard.capacity() {
                shard.shrink_to_fit(IndexEntry::spread_hash);
            }
            self.len -= 1;
        }
    }

    fn shard(&mut self, hash: u32) -> &mut HashTable<IndexEntry> {
        let number = shard_of(hash, self.shards.len());
        &mut self.shards[number]
    }

    /// Adds a shard, to which about half of another's entries move.
    fn split(&mut self) {
        let added = self.shards.len();
        let highest_bit = 1 << added.ilog2();
        let mut moved = HashTable::new();
        let goes = |entry: &mut IndexEntry| shard_of(entry.hash, added + 1) == added;
        for entry in self.shards[added - highest_bit].extract_if(goes) {
            moved.insert_unique(entry.spread_hash(), entry, IndexEntry::spread_hash);
        }
        self.shards.push(moved);
    }
}

/// The shard of a hash: its low bits, of which shards that are not split yet have one less.
fn shard_of(hash: u32, shards: usize) -> usize {
    let mask = shards.next_power_of_two() - 1;
    match hash as usize & mask {
        number if number < shards => number,
        number => number & (mask >> 1),
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    fn place(row: u32) -> RowPlace {
        RowPlace { slot: row % 7, row }
    }

    #[test]
    fn what_was_inserted_is_found_at_its_last_place() {
        let mut random = StdRng::seed_from_u64(5);
        let mut index = KeyIndex::default();
        // Few hashes, so that many keys share one.
        let mut known: Vec<(u32, RowPlace)> = Vec::new();
        for row in 0..60_000 {
            match random.random_range(0..10) {
                0..6 => {
                    let hash = random.random_range(0..20_000_u32).wrapping_mul(0x0100_0193);
                    index.insert(hash, place(row));
                    known.push((hash, place(row)));
                }
                6..8 if !known.is_empty() => {
                    let at = random.random_range(0..known.len());
                    let (hash, old) = known[at];
                    index.replace(hash, old, place(row));
                    known[at].1 = place(row);
                }
                _ if !known.is_empty() => {
                    let (hash, old) = known.swap_remove(random.random_range(0..known.len()));
                    index.remove(hash, old);
                }
                _ => {}
            }
        }
        assert_eq!(index.len, known.len());
        for (hash, place) in &known {
            assert!(index.candidates(*hash).any(|it| it == *place));
        }
        let most = index.shards.iter().map(HashTable::len).max();
        assert!(most.is_some_and(|most| most < 4 * SHARD_ROWS), "{most:?}");
    }
}
