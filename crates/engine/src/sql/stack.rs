//! Room for trees.
//!
//! Reading a tree, walking it, planning from it: all of it descends once per level, and a level can
//! take 70 KB of stack in a debug build. What [`measure`](super::script::measure) lets through fits
//! in [`STACK`] with room to spare, and in no ordinary thread. So whoever descends does it in
//! [`deep`].

/// The stack in which every statement that is accepted can be planned, in bytes; its pages are only
/// taken when they are touched.
pub(crate) const STACK: usize = 64 << 20;

/// How much must be left, in bytes, for work to go on where it is.
const ENOUGH: usize = 48 << 20;

/// Runs `work` on a stack deep enough for every statement that is accepted.
///
/// It runs on the same thread, and at once if enough stack is left, as when calls are nested.
/// Planning a query, dropping and cloning it should be done within this as well.
pub fn deep<T>(work: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(ENOUGH, STACK, work)
}
