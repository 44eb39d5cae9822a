//! A checkpoint whose state stays on disk: for a database that runs nothing, and may be repaired where the
//! state does not fit into memory.
//!
//! What it writes is the manifest alone, without what was dropped. The runs of everything else are in the
//! data files that an earlier manifest named, so nothing that was not loaded can be lost.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use headwater_log::Disk;

use super::{Checkpoints, Manifest, OpenedCheckpoints, Result, RunLocation, manifest};
use crate::durable::checkpoint::Checkpoint;
use crate::durable::checkpoint_error::CheckpointError;

impl Checkpoints {
    /// As [`open`](Self::open), but reads every run only to check it, one at a time.
    pub fn open_unloaded(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        has_more: Option<String>,
    ) -> Result<OpenedCheckpoints<RunLocation>> {
        Self::open_with(disk, folder, has_more, Self::check)
    }

    /// Reads the manifest of this number, which becomes the last one.
    fn check(&mut self, number: u64) -> Result<Checkpoint<RunLocation>> {
        let manifest = self.read_manifest(number)?;
        self.check_files(&manifest)?;
        let (format, files) = (manifest.format, manifest.files);
        let mut locations = Vec::new();
        let state = manifest.state.try_map(|location| {
            self.read_run(&location)?;
            locations.push(location);
            Ok::<_, CheckpointError>(location)
        })?;
        (self.id, self.is_current) = (manifest.folder, format == manifest::FORMAT);
        self.definitions.clone_from(&state.definitions);
        (self.locations, self.files) = ((0..).zip(locations).collect(), files);
        self.named.insert(number, self.files());
        Ok(state)
    }

    /// Whether the last manifest has the format of now, so that another can name the same runs.
    pub fn is_current(&self) -> bool {
        self.is_current
    }

    /// Writes a manifest whose runs are all on disk; returns its state again. Durable when this returns.
    pub fn rewrite(&mut self, state: Checkpoint<RunLocation>) -> Result<Checkpoint<RunLocation>> {
        let mut locations = Vec::new();
        let state = state.try_map(|location| {
            locations.push(location);
            Ok::<_, CheckpointError>(location)
        })?;
        let named: BTreeSet<u64> = locations.iter().map(|location| location.file).collect();
        let mut files = self.files.clone();
        files.retain(|file, _| named.contains(file));
        self.number += 1;
        let written = Manifest::new(self.id, self.number, files.clone(), state.clone());
        self.put_manifest(&written)?;
        (self.locations, self.files) = ((0..).zip(locations).collect(), files);
        self.definitions.clone_from(&state.definitions);
        // A source dropped since has no log any more, so the checkpoint before is of no use.
        self.named.clear();
        self.named.insert(self.number, named);
        self.clean();
        Ok(state)
    }
}
