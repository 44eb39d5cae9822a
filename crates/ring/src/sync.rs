//! The atomics, locks and cells of this crate: the standard ones, or loom's when it checks every interleaving.
//!
//! Everything that two threads share is taken from here, so that `RUSTFLAGS="--cfg loom"` swaps all of it at once.
//! Also here, because it is about how memory is shared: [`CachePadded`], which keeps what one side writes away
//! from what the other side writes.
//!
//! The wait strategies, which decide when to call [`spin`] or [`yield_now`], are in `bell`.

use std::ops::Deref;

#[cfg(not(loom))]
mod real {
    pub(crate) use std::hint::spin_loop as spin;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicUsize};
    pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread::yield_now;
}

#[cfg(loom)]
mod real {
    pub(crate) use loom::hint::spin_loop as spin;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize};
    pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
    pub(crate) use loom::thread::yield_now;
}

pub(crate) use real::*;

/// Locks `mutex`, also after a thread panicked while it held it.
///
/// Every critical section of this crate leaves its data whole at each point where it could unwind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Puts a value alone on its cache lines; 128 bytes, because x86 fetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);

impl<T> Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
