//! The atomics, locks and cells of this crate: the standard ones, or loom's when it checks every interleaving.
//!
//! All state that two threads share is of these types, so `RUSTFLAGS="--cfg loom"` swaps all of it at once.
//! [`CachePadded`] keeps what one side writes off the cache lines that the other side writes.
//!
//! The wait strategies, which decide when to call [`spin`] or [`yield_now`], are in `bell`.

use std::ops::Deref;
use std::sync::PoisonError;
use std::time::Instant;

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
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until `condvar` is notified, or returns spuriously; `None` once `deadline` has passed (`None`: no limit).
pub(crate) fn wait_notified<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<Instant>,
) -> Option<MutexGuard<'a, T>> {
    let Some(deadline) = deadline else {
        return Some(condvar.wait(guard).unwrap_or_else(PoisonError::into_inner));
    };
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return None;
    }
    let waited = condvar.wait_timeout(guard, left);
    Some(waited.unwrap_or_else(PoisonError::into_inner).0)
}

/// Gives a value cache lines of its own: 128 bytes, because x86 fetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CachePadded<T>(pub(crate) T);

impl<T> Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
