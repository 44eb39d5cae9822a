//! Key groups: which worker has which keys.
//!
//! Keys fall into [`KEY_GROUPS`] groups by their hash, and each worker has a range of the groups
//! ([`owner`]). Rows are routed by the same function as saved state, so they meet their state, also
//! after a restart with another number of workers.
//!
//! The hash is DataFusion's, whose seeds are fixed, so it is the same in every process of one build.
//! Nothing depends on that between builds: a restore computes the groups of saved rows again.

use arrow::array::ArrayRef;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::error::Result;

/// The number of key groups. A power of two.
pub const KEY_GROUPS: usize = 256;

/// The worker of each row, by its keys; without keys, the first.
pub(super) fn owners(
    keys: &[ArrayRef],
    rows: usize,
    peers: usize,
) -> Result<impl Iterator<Item = usize>> {
    let mut hashes = vec![0; rows];
    if !keys.is_empty() {
        create_hashes(keys, &RandomState::default(), &mut hashes)?;
    }
    Ok(hashes
        .into_iter()
        .map(move |hash| owner(key_group(hash), peers)))
}

/// The key group of a hash. Not its lowest or highest bits: hash maps place keys by those, and the keys
/// of one worker would collide in a part of each map.
fn key_group(hash: u64) -> usize {
    (hash >> 40) as usize % KEY_GROUPS
}

/// The worker that has this key group, of `peers`. If there are more workers than groups, some have none.
pub fn owner(key_group: usize, peers: usize) -> usize {
    key_group * peers / KEY_GROUPS
}
