//! The memory of a lane: a power of two of slots that may or may not hold a value.
//!
//! A slot is addressed by a running index and lies at `index & mask`. The memory starts on a cache line of its own; the
//! system backs a page only once it is written.
//!
//! Only the lane's indices show which slots hold values, so every access here is unsafe. Dropping `Slots` frees the
//! memory and drops no value. Under loom each slot is a cell that reports two threads touching it at once.

#[cfg(not(loom))]
pub(crate) use flat::Slots;
#[cfg(loom)]
pub(crate) use watched::WatchedSlots as Slots;

#[cfg(not(loom))]
mod flat {
    use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
    use std::marker::PhantomData;
    use std::ptr::NonNull;

    pub(crate) struct Slots<T> {
        /// The first of `mask + 1` slots.
        start: NonNull<T>,
        mask: usize,
        /// Drops of `T` may happen through this.
        owns: PhantomData<T>,
    }

    fn layout<T>(capacity: usize) -> Layout {
        Layout::array::<T>(capacity)
            .and_then(|layout| layout.align_to(128))
            .expect("the config was checked: the slots of a lane take less than half of the address space")
    }

    impl<T> Slots<T> {
        /// Room for `capacity` values, a power of two that `ChannelConfig::check` let through.
        pub(crate) fn new(capacity: usize) -> Slots<T> {
            debug_assert!(capacity.is_power_of_two());
            let layout = layout::<T>(capacity);
            let start = match layout.size() {
                0 => NonNull::dangling(),
                // SAFETY: the layout is not of size 0.
                _ => NonNull::new(unsafe { alloc(layout) }.cast())
                    .unwrap_or_else(|| handle_alloc_error(layout)),
            };
            Slots {
                start,
                mask: capacity - 1,
                owns: PhantomData,
            }
        }

        pub(crate) fn capacity(&self) -> usize {
            self.mask + 1
        }

        #[inline(always)]
        fn slot(&self, index: usize) -> *mut T {
            // SAFETY: the masked index is below the capacity, so the slot is inside the allocation.
            unsafe { self.start.as_ptr().add(index & self.mask) }
        }

        /// Puts a value into a slot.
        ///
        /// # Safety
        /// The slot holds no value, and no other thread touches it meanwhile.
        #[inline(always)]
        pub(crate) unsafe fn write(&self, index: usize, value: T) {
            // SAFETY: the pointer is valid for writes and nobody else uses it, by the contract.
            unsafe { self.slot(index).write(value) }
        }

        /// Puts clones of `values` into the slots from `index` on, and calls `written` after each.
        ///
        /// # Safety
        /// As [`write`](Self::write), for each of the slots; there are at most as many values as slots.
        #[inline]
        pub(crate) unsafe fn write_clones(
            &self,
            index: usize,
            values: &[T],
            mut written: impl FnMut(),
        ) where
            T: Clone,
        {
            let (front, back) =
                values.split_at(values.len().min(self.capacity() - (index & self.mask)));
            for (first, part) in [(self.slot(index), front), (self.slot(0), back)] {
                for (offset, value) in part.iter().enumerate() {
                    // SAFETY: the part ends before the memory does, and the slots are free by the contract.
                    unsafe { first.add(offset).write(value.clone()) };
                    written();
                }
            }
        }

        /// Takes the value out of a slot.
        ///
        /// # Safety
        /// The slot holds a value whose writing happened before, and no other thread touches it meanwhile.
        #[inline(always)]
        pub(crate) unsafe fn read(&self, index: usize) -> T {
            // SAFETY: the slot holds a value and nobody else uses it, by the contract; it is not read again.
            unsafe { self.slot(index).read() }
        }

        /// Takes `count` values, from `index` on, and appends them to `into`.
        ///
        /// # Safety
        /// As [`read`](Self::read), for each of the slots; `count` is at most the capacity.
        pub(crate) unsafe fn read_into(&self, index: usize, count: usize, into: &mut Vec<T>) {
            into.reserve(count);
            let before_wrap = count.min(self.capacity() - (index & self.mask));
            let end = into.spare_capacity_mut().as_mut_ptr().cast::<T>();
            // SAFETY: `reserve` made room for `count` values at `end`; the slots hold values by the contract, in two
            // stretches of which the second begins at slot 0; the vector's memory is not ours, so they do not overlap.
            unsafe {
                self.slot(index).copy_to_nonoverlapping(end, before_wrap);
                self.start
                    .as_ptr()
                    .copy_to_nonoverlapping(end.add(before_wrap), count - before_wrap);
                into.set_len(into.len() + count);
            }
        }
    }

    impl<T> Drop for Slots<T> {
        fn drop(&mut self) {
            let layout = layout::<T>(self.capacity());
            if layout.size() > 0 {
                // SAFETY: `new` allocated this memory with the same layout.
                unsafe { dealloc(self.start.as_ptr().cast(), layout) }
            }
        }
    }
}

#[cfg(loom)]
mod watched {
    use loom::cell::UnsafeCell;
    use std::mem::MaybeUninit;

    pub(crate) struct WatchedSlots<T> {
        cells: Box<[UnsafeCell<MaybeUninit<T>>]>,
    }

    impl<T> WatchedSlots<T> {
        pub(crate) fn new(capacity: usize) -> WatchedSlots<T> {
            WatchedSlots {
                cells: (0..capacity)
                    .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                    .collect(),
            }
        }

        pub(crate) fn capacity(&self) -> usize {
            self.cells.len()
        }

        /// # Safety
        /// As in `flat`.
        pub(crate) unsafe fn write(&self, index: usize, value: T) {
            self.cells[index & (self.cells.len() - 1)].with_mut(|slot| {
                // SAFETY: the cell gives a valid pointer, and loom fails the test when another thread holds it.
                unsafe { (*slot).write(value) };
            });
        }

        /// # Safety
        /// As in `flat`.
        pub(crate) unsafe fn write_clones(
            &self,
            index: usize,
            values: &[T],
            mut written: impl FnMut(),
        ) where
            T: Clone,
        {
            for (offset, value) in values.iter().enumerate() {
                // SAFETY: the same contract, slot by slot.
                unsafe { self.write(index.wrapping_add(offset), value.clone()) };
                written();
            }
        }

        /// # Safety
        /// As in `flat`.
        pub(crate) unsafe fn read(&self, index: usize) -> T {
            // Mutably, so that loom also sees two threads that both take the value.
            self.cells[index & (self.cells.len() - 1)].with_mut(|slot| {
                // SAFETY: the slot holds a value by the contract.
                unsafe { (*slot).assume_init_read() }
            })
        }

        /// # Safety
        /// As in `flat`.
        pub(crate) unsafe fn read_into(&self, index: usize, count: usize, into: &mut Vec<T>) {
            for offset in 0..count {
                // SAFETY: the same contract, slot by slot.
                into.push(unsafe { self.read(index.wrapping_add(offset)) });
            }
        }
    }
}
