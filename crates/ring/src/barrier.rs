//! An asymmetric fence: nearly free on the side that runs often, expensive on the side that is about to sleep.
//!
//! A sleeper and a waker each write one flag and then read the other's (Dekker's protocol); without a full fence
//! between the write and the read on *both* sides, both may read the old value and a wake-up is lost. A full fence
//! on every push would cost more than the push. So the pushing side calls [`light`], which only keeps the compiler
//! from reordering, and the sleeping side calls [`heavy`], which makes the kernel run a full fence on every core that
//! runs a thread of this process (`membarrier(2)`, private expedited, Linux 4.14 and later).
//!
//! Where the system call is absent or refused, and under loom and miri, both are `fence(SeqCst)`.
//! In proofs both count as one `SeqCst` fence; that is how loom sees them.

/// Decides once per process which fence is used. `Bell::new` calls it.
pub(crate) fn init() {
    imp::asymmetric();
}

/// The fence of the side that runs often. Pairs with [`heavy`].
#[inline(always)]
pub(crate) fn light() {
    imp::light();
}

/// The fence of the side that runs rarely. Pairs with [`light`]; costs about a microsecond.
pub(crate) fn heavy() {
    imp::heavy();
}

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(loom, miri))
))]
mod imp {
    use std::ffi::{c_int, c_long};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering, compiler_fence, fence};

    const SYS_MEMBARRIER: c_long = if cfg!(target_arch = "x86_64") {
        324
    } else {
        283
    };
    const PRIVATE_EXPEDITED: c_int = 1 << 3;
    const REGISTER_PRIVATE_EXPEDITED: c_int = 1 << 4;

    /// The answer for [`heavy`], which must know for certain whether some thread may rely on it.
    static DECIDED: OnceLock<bool> = OnceLock::new();
    /// The same answer for [`light`]; a stale `false` only makes it fence when it need not.
    static ASYMMETRIC: AtomicBool = AtomicBool::new(false);

    unsafe extern "C" {
        fn syscall(number: c_long, ...) -> c_long;
    }

    fn membarrier(command: c_int) -> bool {
        // SAFETY: membarrier takes a command, flags and a cpu number, all plain integers, and touches no memory of
        // ours.
        unsafe { syscall(SYS_MEMBARRIER, command, 0 as c_int, 0 as c_int) == 0 }
    }

    pub(super) fn asymmetric() -> bool {
        *DECIDED.get_or_init(|| {
            let refused = std::env::var_os("HEADWATER_NO_MEMBARRIER").is_some();
            let registered =
                !refused && membarrier(REGISTER_PRIVATE_EXPEDITED) && membarrier(PRIVATE_EXPEDITED);
            // Relaxed: nothing else is published with it; see the field.
            ASYMMETRIC.store(registered, Ordering::Relaxed);
            registered
        })
    }

    #[inline(always)]
    pub(super) fn light() {
        // Relaxed: see `ASYMMETRIC`.
        if ASYMMETRIC.load(Ordering::Relaxed) {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    pub(super) fn heavy() {
        // SeqCst: pairs with the fence of `light` where the kernel has no asymmetric one.
        fence(Ordering::SeqCst);
        // Once registered, the call fails only when the kernel is out of memory or in a forked child: register and
        // retry.
        while asymmetric() && !membarrier(PRIVATE_EXPEDITED) {
            membarrier(REGISTER_PRIVATE_EXPEDITED);
            std::thread::yield_now();
        }
        // SeqCst: keeps what follows behind the system call.
        fence(Ordering::SeqCst);
    }
}

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64"),
    not(any(loom, miri))
)))]
mod imp {
    #[cfg(loom)]
    use loom::sync::atomic::{Ordering, fence};
    #[cfg(not(loom))]
    use std::sync::atomic::{Ordering, fence};

    pub(super) fn asymmetric() -> bool {
        false
    }

    pub(super) fn light() {
        // SeqCst: pairs with the same fence in `heavy`.
        fence(Ordering::SeqCst);
    }

    pub(super) fn heavy() {
        // SeqCst: pairs with the same fence in `light`.
        fence(Ordering::SeqCst);
    }
}
