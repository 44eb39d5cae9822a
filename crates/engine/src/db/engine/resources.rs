//! What a database needs of the machine to start: threads, memory and files. They are asked for before
//! anything is opened, because tokio and timely panic or hang halfway when a thread is missing.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{Builder, JoinHandle};

use super::workers::WORKERS_MAX;
use crate::error::{Error, Result};
use crate::locked::locked;
use crate::sql::STACK;

/// Threads beside the workers, those of tokio included: the log's syncer, checkpoints, signals, a source.
const THREADS: usize = 8;

/// Of these, the threads of tokio, which plan: the runtime's own and two that block.
const DEEP_THREADS: usize = 4;

/// Memory beside the stacks, to plan the first statements in, bytes.
const MEMORY: usize = 64 << 20;

/// Open files beside those that are open: a log, a checkpoint, the lock, what tokio waits with.
const FILES: usize = 24;

/// Checks that the machine gives what a database of `workers` needs.
///
/// # Errors
/// What is missing, and which limit to raise.
pub(crate) fn check_resources(workers: usize) -> Result<()> {
    check_files()?;
    let workers = workers.min(WORKERS_MAX);
    let mut held = Held::default();
    for number in 0..workers + THREADS {
        let stack = match number < DEEP_THREADS {
            true => Some(STACK),
            false => None,
        };
        let thread = held.thread(stack);
        thread.map_err(|error| no_thread(&error, number, workers + THREADS))?;
    }
    let mut memory = Vec::<u8>::new();
    memory
        .try_reserve_exact(MEMORY + STACK)
        .map_err(|_| no_memory())
}

/// Checks that a thread can be had for a source: its connector reads files and names on threads that tokio
/// starts when it needs them, and waits for ever where there is none.
///
/// # Errors
/// What is missing, and which limit to raise.
pub(crate) fn check_thread_for(source: &str) -> Result<()> {
    let thread = Held::default().thread(Some(STACK));
    thread.map_err(|error| Error::no_thread(&format!("source {source:?}"), &error))
}

fn check_files() -> Result<()> {
    let mut files = Vec::with_capacity(FILES);
    for number in 0..FILES {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            // Without it nothing can be counted.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                return Err(Error::Start(format!(
                    "{FILES} more open files are needed, and there can be {number} ({error}): raise the limit \
                     (ulimit -n)"
                )));
            }
        }
    }
    Ok(())
}

fn no_thread(error: &io::Error, has: usize, needed: usize) -> Error {
    // A thread is refused for the lack of either, with the same error.
    if Vec::<u8>::new().try_reserve_exact(2 * STACK).is_err() {
        return no_memory();
    }
    Error::Start(format!(
        "{needed} threads are needed, and there can be {has} ({error}): raise the limit (ulimit -u, pids.max \
         of the cgroup), or start with fewer workers"
    ))
}

fn no_memory() -> Error {
    let needed = (MEMORY + (DEEP_THREADS + 1) * STACK) >> 20;
    Error::Start(format!(
        "{needed} MiB of address space are needed beside the program, and there are less: raise the limit \
         (ulimit -v)"
    ))
}

/// Threads that do nothing until this is dropped.
#[derive(Default)]
struct Held {
    released: Arc<(Mutex<bool>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

impl Held {
    fn thread(&mut self, stack: Option<usize>) -> io::Result<()> {
        let released = Arc::clone(&self.released);
        let builder = match stack {
            Some(bytes) => Builder::new().stack_size(bytes),
            None => Builder::new(),
        };
        // A thread that allocates would reserve memory of its own for that.
        let wait = move || {
            let (released, changed) = &*released;
            let is_held = |released: &mut bool| !*released;
            drop(changed.wait_while(locked(released), is_held));
        };
        self.threads.push(builder.spawn(wait)?);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let (released, changed) = &*self.released;
        *locked(released) = true;
        changed.notify_all();
        for thread in self.threads.drain(..) {
            // It does nothing that could fail.
            let _ = thread.join();
        }
    }
}
