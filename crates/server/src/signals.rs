//! The signals that ask the program to end: Ctrl-C (SIGINT), SIGTERM, and SIGHUP of a closed terminal; and
//! the one that a file is longer than allowed, which must not end it.

use std::thread::Builder;

use headwater::Db;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::error::CliError;

/// Catches the signals from its creation on; before that they kill the program.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Must be called within a tokio runtime.
    pub fn listen() -> Result<Self, CliError> {
        let listen = |kind| signal(kind).map_err(CliError::runtime);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal; returns its number. Cancel safe: no signal is lost.
    pub async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
        };
        kind.as_raw_value()
    }
}

/// A runtime for what waits on signals and timers; the engine has its own threads.
pub fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let built = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    built.map_err(|error| {
        CliError::runtime(format!(
            "cannot start: signals cannot be waited for: {error}"
        ))
    })
}

/// The exit code of a program that a signal has ended.
pub fn exit_code(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Keeps SIGXFSZ from ending the program: a write then fails, as on a disk that is full.
pub fn outlive_long_files() -> Result<(), CliError> {
    let runtime = runtime()?;
    let _entered = runtime.enter();
    // The handler stays when its listener goes.
    let listener = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
    listener.map(drop).map_err(CliError::runtime)
}

/// Closes the database and ends the program at SIGTERM and SIGHUP, whatever it waits for.
pub fn close_at_signals(db: &Db) -> Result<(), CliError> {
    let db = db.clone();
    let runtime = runtime()?;
    let wait = move || {
        let ended = runtime.block_on(async {
            let mut signals = Signals::listen()?;
            loop {
                let signal = signals.next().await;
                if signal != SignalKind::interrupt().as_raw_value() {
                    return Ok::<_, CliError>(signal);
                }
            }
        });
        if let Ok(signal) = ended {
            db.cancel_queries();
            db.close();
            std::process::exit(exit_code(signal).into());
        }
    };
    let thread = Builder::new().name("signals".to_owned()).spawn(wait);
    thread.map(drop).map_err(|error| no_thread(&error))
}

/// Runs `work` on a thread of its own. Fails where there is none, and where `work` panics.
pub async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CliError> {
    let (answer, answered) = oneshot::channel();
    let run = move || {
        // Whoever waited may have gone.
        let _ = answer.send(work());
    };
    Builder::new()
        .spawn(run)
        .map_err(|error| no_thread(&error))?;
    answered.await.map_err(CliError::runtime)
}

/// The error of a thread that there is not.
pub fn no_thread(error: &std::io::Error) -> CliError {
    CliError::runtime(format!(
        "there is no further thread ({error}): raise the limit of threads (ulimit -u, pids.max of the \
         cgroup) or of memory (ulimit -v)"
    ))
}
