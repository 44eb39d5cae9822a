//! The tokio runtime of a database: connectors, sinks and SELECT run on it.
//!
//! A database has one of its own, so that it works from any thread, within another runtime or without.

use std::sync::Mutex;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::locked::locked;
use crate::sql::{SqlError, sqlstate};

pub(crate) struct IoRuntime {
    pub handle: Handle,
    /// `None` once the database is closed.
    runtime: Mutex<Option<Runtime>>,
    /// Ends the SELECTs that run now.
    selects: Mutex<CancellationToken>,
}

impl IoRuntime {
    pub fn start() -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("headwater-io")
            // SELECT is planned on these threads.
            .thread_stack_size(crate::sql::STACK)
            .enable_all()
            .build()
            .map_err(|error| Error::Start(error.to_string()))?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            selects: Mutex::default(),
        })
    }

    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.handle.spawn(work)
    }

    /// Waits for `work`, from any thread; `None` if it panicked or the database is closed.
    pub fn block_on<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        self.spawn(async move {
            // The receiver waits below.
            let _ = answer.send(work.await);
        });
        answered.recv().ok()
    }

    /// Waits for `work`, or until [`cancel_selects`](Self::cancel_selects). It has a task of its own, so
    /// that the caller returns at once even if `work` computes for long without a pause.
    pub fn run_select<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        let cancellation = locked(&self.selects).clone();
        let answer = self.block_on(async move {
            let mut work = tokio::spawn(work);
            tokio::select! {
                answer = &mut work => answer.map_err(|_| Error::Closed),
                () = cancellation.cancelled() => {
                    work.abort();
                    let message = "the query was cancelled";
                    Err(SqlError::new(sqlstate::QUERY_CANCELED, message).into())
                }
            }
        });
        answer.unwrap_or(Err(Error::Closed))
    }

    /// Ends the SELECTs that run now; later ones run.
    pub fn cancel_selects(&self) {
        std::mem::take(&mut *locked(&self.selects)).cancel();
    }

    /// Ends all tasks, without waiting for them.
    pub fn shut_down(&self) {
        if let Some(runtime) = locked(&self.runtime).take() {
            runtime.shutdown_background();
        }
    }
}
