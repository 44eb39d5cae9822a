//! The channels under test, and a limit on the time a test may take: a lost wake-up ends in a sentence rather than in a
//! test run that hangs.

#![allow(dead_code)]

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use headwater_ring::{Backpressure, ChannelConfig, Consumer, Producer, WaitStrategy, channel};

pub fn channel_of<T: Send>(
    capacity: usize,
    backpressure: Backpressure,
    wait: WaitStrategy,
) -> (Producer<T>, Consumer<T>) {
    let config = ChannelConfig {
        capacity,
        backpressure,
        wait,
    };
    channel(config).unwrap()
}

/// Longer than any of these tests takes on a slow machine under a memory checker.
const PATIENCE: Duration = Duration::from_secs(600);

/// Dropped at the end of the test that it watches.
pub struct Watchdog(Option<(Sender<()>, JoinHandle<()>)>);

/// Ends the process with the sentence `missing` unless the watchdog is dropped within [`PATIENCE`].
pub fn watch(missing: &'static str) -> Watchdog {
    let (done, ended) = mpsc::channel();
    let watching = std::thread::spawn(move || {
        if ended.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            // Not `eprintln`, which the test harness captures and loses when the process ends.
            let _ = writeln!(std::io::stderr(), "after {PATIENCE:?} {missing}");
            std::process::exit(101);
        }
    });
    Watchdog(Some((done, watching)))
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let (done, watching) = self.0.take().expect("dropped once");
        drop(done);
        watching.join().expect("the watchdog does not panic");
    }
}
