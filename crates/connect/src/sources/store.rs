//! Where a factory keeps the cursors of its sources: a trait, in memory, and files in a folder.
//!
//! A file is written under a temporary name, synced and renamed, and the folder is synced as well: after
//! a crash there is the old cursor or the new one, whole. The file's name is the id, with every byte
//! that is not a letter, a digit, `-` or `_` written as `%` and two digits.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Cursor;
use crate::locked::locked;

/// Why a cursor could not be saved or loaded.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// The longest file name, its extension included, bytes.
const NAME_MAX: usize = 255;

/// Keeps the last cursor of each source. Shared between threads.
#[async_trait]
pub trait CursorStore: Send + Sync + 'static {
    /// Replaces the cursor of this id. When this returns, the cursor is as durable as the store makes it.
    async fn save(&self, id: &str, cursor: &Cursor) -> Result<(), StoreError>;
    /// The cursor that was saved last for this id; `None` if there is none.
    async fn load(&self, id: &str) -> Result<Option<Cursor>, StoreError>;
}

#[async_trait]
impl<S: CursorStore + ?Sized> CursorStore for Arc<S> {
    async fn save(&self, id: &str, cursor: &Cursor) -> Result<(), StoreError> {
        self.as_ref().save(id, cursor).await
    }

    async fn load(&self, id: &str) -> Result<Option<Cursor>, StoreError> {
        self.as_ref().load(id).await
    }
}

/// Keeps cursors in memory, until it is dropped.
#[derive(Debug, Default)]
pub struct MemoryCursors(Mutex<HashMap<String, Cursor>>);

#[async_trait]
impl CursorStore for MemoryCursors {
    async fn save(&self, id: &str, cursor: &Cursor) -> Result<(), StoreError> {
        locked(&self.0).insert(id.to_owned(), cursor.clone());
        Ok(())
    }

    async fn load(&self, id: &str) -> Result<Option<Cursor>, StoreError> {
        Ok(locked(&self.0).get(id).cloned())
    }
}

/// Keeps each cursor in a file of its own.
#[derive(Debug)]
pub struct FolderCursors {
    folder: PathBuf,
    /// Held while a file is written: one at a time.
    writing: Arc<Mutex<()>>,
}

#[derive(Serialize, Deserialize)]
struct StoredCursor {
    source: String,
    cursor: Cursor,
}

impl FolderCursors {
    /// A store in this folder, which is created if it does not exist. Blocks briefly. Only one program at a
    /// time may use the folder.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            writing: Arc::default(),
        })
    }

    fn path(&self, id: &str) -> Result<PathBuf, StoreError> {
        let mut name = String::new();
        for byte in id.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(byte.into()),
                other => write!(name, "%{other:02X}")?,
            }
        }
        name += ".json";
        match name.len() {
            length if length > NAME_MAX => Err(format!(
                "its file name would have {length} bytes, the limit is {NAME_MAX}"
            )
            .into()),
            _ => Ok(self.folder.join(name)),
        }
    }
}

#[async_trait]
impl CursorStore for FolderCursors {
    async fn save(&self, id: &str, cursor: &Cursor) -> Result<(), StoreError> {
        let (path, folder) = (self.path(id)?, self.folder.clone());
        let kept = StoredCursor {
            source: id.to_owned(),
            cursor: cursor.clone(),
        };
        let bytes = serde_json::to_vec_pretty(&kept)?;
        let writing = self.writing.clone();
        let written = tokio::task::spawn_blocking(move || {
            let _turn = locked(&writing);
            replace(&folder, &path, &bytes).map_err(|error| format!("{}: {error}", path.display()))
        });
        Ok(written.await??)
    }

    async fn load(&self, id: &str) -> Result<Option<Cursor>, StoreError> {
        let path = self.path(id)?;
        let bytes = match tokio::fs::read(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(|error| format!("{}: {error}", path.display()))?,
        };
        let kept = serde_json::from_slice::<StoredCursor>(&bytes);
        let kept = kept.map_err(|error| format!("{}: {error}", path.display()))?;
        if kept.source != id {
            return Err(format!(
                "{}: it holds the cursor of {:?}",
                path.display(),
                kept.source
            )
            .into());
        }
        Ok(Some(kept.cursor))
    }
}

/// Replaces a file atomically: after a crash it is the old one or the new one.
fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    // The file name of an id has no dot before its extension.
    let beside = folder.join("being.written");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut how = File::options();
    // A new file: what somebody else has put there, a link perhaps, is not written.
    let mut file = how.write(true).create_new(true).mode(0o640).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn cursors_are_kept_over_a_restart_whatever_the_id() {
        let folder = tempfile::tempdir().unwrap();
        let ids = [
            "a",
            "A",
            "../../etc/passwd",
            "a b",
            "ä",
            ".",
            "",
            "a%2Eb",
            "a.b",
        ];
        let store = FolderCursors::open(folder.path().join("new")).unwrap();
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(store.load(id).await.unwrap(), None, "{id:?}");
            store.save(id, &Cursor(json!("before"))).await.unwrap();
            store.save(id, &Cursor(json!({ "at": at }))).await.unwrap();
        }
        let store = FolderCursors::open(folder.path().join("new")).unwrap();
        for (at, id) in ids.iter().enumerate() {
            let cursor = store.load(id).await.unwrap();
            assert_eq!(cursor, Some(Cursor(json!({ "at": at }))), "{id:?}");
        }
        let files = fs::read_dir(folder.path().join("new")).unwrap().count();
        assert_eq!(files, ids.len(), "nothing is left beside them");
    }

    #[tokio::test]
    async fn what_cannot_be_saved_or_loaded_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderCursors::open(folder.path().join("cursors")).unwrap();
        let cursor = Cursor(json!(1));
        let long = "x".repeat(251);
        let error = store.save(&long, &cursor).await.unwrap_err().to_string();
        assert!(
            error.contains("would have 256 bytes, the limit is 255"),
            "{error}"
        );
        store.save(&long[1..], &cursor).await.unwrap();
        fs::write(folder.path().join("cursors/torn.json"), "{\"source\": \"to").unwrap();
        let error = store.load("torn").await.unwrap_err().to_string();
        assert!(error.contains("torn.json: EOF while parsing"), "{error}");
        store.save("mine", &cursor).await.unwrap();
        let (mine, other) = ("cursors/mine.json", "cursors/other.json");
        fs::rename(folder.path().join(mine), folder.path().join(other)).unwrap();
        let error = store.load("other").await.unwrap_err().to_string();
        assert!(
            error.ends_with("it holds the cursor of \"mine\""),
            "{error}"
        );
        fs::remove_dir_all(folder.path().join("cursors")).unwrap();
        let error = store.save("mine", &cursor).await.unwrap_err().to_string();
        assert!(error.contains("mine.json: No such file"), "{error}");
    }

    #[test]
    fn a_crash_while_writing_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        replace(folder.path(), &path, b"old").unwrap();
        // A crash after half of it was written.
        fs::write(folder.path().join("being.written"), "ne").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace(folder.path(), &path, b"newer").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newer");
    }

    #[test]
    fn a_link_at_the_temporary_name_is_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let [victim, path] = ["victim", "a.json"].map(|name| folder.path().join(name));
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("being.written")).unwrap();
        replace(folder.path(), &path, b"new").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
}
