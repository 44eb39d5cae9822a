//! Collects inotify events. What inotify does not report, polling finds.
//!
//! Folders are watched, not files: so a change of content, a new name and a rename come the same way.
//! Changes are collected here, each path once, until the source takes them. Opening and reading files
//! makes events as well; those are ignored, or the source would wake itself up.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use crate::locked::locked;

/// Watches folders for changes.
pub(super) struct FolderWatcher {
    /// `None` if inotify is not available.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    shared: Arc<PendingChanges>,
}

#[derive(Default)]
struct PendingChanges {
    changed: Mutex<Changed>,
    wake: Notify,
}

/// The number of paths that are collected. What changes beyond that is found by looking at every file, as for
/// events that the system has lost.
const PATHS_MAX: usize = 4_096;

/// What has changed since the last `take`.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// The files whose content may have changed.
    pub files: HashSet<PathBuf>,
    /// Whether files may have appeared, disappeared or been renamed.
    pub names: bool,
}

impl Changed {
    fn is_something(&self) -> bool {
        self.names || !self.files.is_empty()
    }
}

impl FolderWatcher {
    pub(super) fn new() -> Self {
        let shared = Arc::new(PendingChanges::default());
        let noting = shared.clone();
        let watcher = notify::recommended_watcher(move |event| noting.note(event));
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "inotify is not available: files are only polled");
        });
        Self {
            watcher: watcher.ok(),
            watched: BTreeSet::new(),
            shared,
        }
    }

    /// Watches exactly these folders. Blocks briefly.
    pub(super) fn watch(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for folder in self.watched.difference(&folders) {
            // Fails if the folder is gone, and its watch with it.
            let _ = watcher.unwatch(folder);
        }
        let mut watched = BTreeSet::new();
        for folder in folders {
            let watching = match self.watched.contains(&folder) {
                true => Ok(()),
                false => watcher.watch(&folder, RecursiveMode::NonRecursive),
            };
            match watching {
                Ok(()) => {
                    watched.insert(folder);
                }
                Err(error) => {
                    tracing::debug!(folder = %folder.display(), %error, "a folder is only polled");
                }
            }
        }
        self.watched = watched;
    }

    pub(super) fn take(&self) -> Changed {
        std::mem::take(&mut *locked(&self.shared.changed))
    }

    /// Waits until something has changed since the last `take`.
    pub(super) async fn wait(&self) {
        loop {
            let woken = self.shared.wake.notified();
            if locked(&self.shared.changed).is_something() {
                return;
            }
            woken.await;
        }
    }
}

impl PendingChanges {
    fn note(&self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            // Events were lost: anything may have changed.
            locked(&self.changed).names = true;
            return self.wake.notify_one();
        };
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => {}
            EventKind::Access(_) => return,
            _ => {}
        }
        let mut changed = locked(&self.changed);
        let content = matches!(
            event.kind,
            EventKind::Access(_) | EventKind::Modify(notify::event::ModifyKind::Data(_))
        );
        changed.names |= !content || event.need_rescan();
        let room = PATHS_MAX.saturating_sub(changed.files.len());
        changed.names |= event.paths.len() > room;
        changed.files.extend(event.paths.into_iter().take(room));
        drop(changed);
        self.wake.notify_one();
    }
}
