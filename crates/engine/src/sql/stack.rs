//! The stack on which syntax trees are parsed and planned.
//!
//! Parsing a tree, walking it and planning from it each recurse once per level, and a level can take
//! 70 KB of stack in a debug build. Every statement that [`measure`](super::script::measure) accepts
//! fits in [`STACK`], but not in the stack of an ordinary thread. So all code that recurses runs
//! within [`deep`].

/// Stack size in which every accepted statement can be planned, bytes. Pages are allocated when they
/// are touched.
pub(crate) const STACK: usize = 64 << 20;

/// Free stack with which `work` runs on the current stack, bytes.
const ENOUGH: usize = 48 << 20;

/// Runs `work` on the same thread, on a stack deep enough for every accepted statement.
///
/// A nested call uses the stack that is there. Planning a query, dropping and cloning it belong in
/// here as well.
pub fn deep<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(ENOUGH, STACK, work)
}
