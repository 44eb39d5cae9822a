//! A file source in a folder of its own, and what came out of it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use tokio::sync::mpsc;

use crate::conform::within;
use crate::options::Value;
use crate::scripted::{source_spec, start, stop};
use crate::{Blueprint, Care, Cursor, Item, Lifecycle, SourceHandle, State};

/// A folder and a source that follows files in it.
pub(super) struct Bench {
    pub(super) folder: tempfile::TempDir,
    pub(super) handle: SourceHandle,
    pub(super) items: mpsc::Receiver<Item>,
    pub(super) cursor: Option<Cursor>,
    blueprint: Arc<dyn Blueprint>,
    /// What has come and was not checked yet.
    pub(super) shown: Vec<String>,
}

pub(super) fn spec(
    folder: &Path,
    path: &str,
    more: &[(&str, Value)],
    columns: Option<SchemaRef>,
) -> Result<Arc<dyn Blueprint>, String> {
    let path = format!("{}/{path}", folder.display());
    // Quiet files are waited for only as long as a test can bear.
    let quick = ("partial_timeout", Value::from("300 ms"));
    let quick = Some(quick).filter(|(key, _)| !more.iter().any(|(other, _)| other == key));
    let path = [("path", path.as_str().into())].into_iter().chain(quick);
    let options: Vec<_> = path.chain(more.iter().cloned()).collect();
    source_spec("file", &options, columns).map(|spec| Arc::new(spec) as _)
}

impl Bench {
    pub(super) fn new(path: &str, more: &[(&str, Value)]) -> Self {
        Self::with_columns(path, more, None)
    }

    pub(super) fn with_columns(
        path: &str,
        more: &[(&str, Value)],
        columns: Option<SchemaRef>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blueprint = spec(folder.path(), path, more, columns).unwrap();
        let handle = SourceHandle::new(blueprint.clone(), None, Care::default());
        let (items, cursor) = (mpsc::channel(1).1, None);
        Self {
            folder,
            handle,
            items,
            cursor,
            blueprint,
            shown: Vec::new(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn append(&self, name: &str, text: &str) {
        self.writer(name).write_all(text.as_bytes()).unwrap();
    }

    /// The file as its writer has it open.
    pub(super) fn writer(&self, name: &str) -> File {
        let mut how = OpenOptions::new();
        how.append(true).create(true).open(self.path(name)).unwrap()
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    pub(super) fn start(&mut self) {
        self.items = start(&self.handle);
    }

    /// Takes what comes next; `false` at the end.
    pub(super) async fn take(&mut self) -> bool {
        let what = format!("an item after {:?}", self.shown.last());
        let item = within(&what, self.items.recv()).await;
        item.is_some_and(|item| {
            self.see(item);
            true
        })
    }

    /// Takes items until there are this many to check.
    pub(super) async fn take_until(&mut self, count: usize) {
        while self.shown.len() < count && self.take().await {}
    }

    fn see(&mut self, item: Item) {
        match item {
            Item::Rows(delivery) => {
                let origin = delivery.origin.as_deref().unwrap_or_default();
                let name = origin.rsplit('/').next().unwrap_or_default();
                let bad = delivery.bad.iter().map(|bad| format!("<{}>", bad.reason));
                let rows = cast(delivery.rows.column(0), &DataType::Utf8).unwrap();
                let rows = rows.as_string::<i32>().iter().flatten();
                let rows = rows.map(|line| format!("{name}: {line}"));
                self.shown.extend(bad.chain(rows));
                self.cursor = delivery.cursor.or(self.cursor.take());
            }
            Item::Gap(gap) => self
                .shown
                .push(format!("gap: {}", self.relative(&gap.reason))),
            Item::Lifecycle(Lifecycle::Changed { what }) => self.shown.push(self.relative(&what)),
            Item::Lifecycle(Lifecycle::Warned { what }) => {
                self.shown
                    .push(format!("warning: {}", self.relative(&what)));
            }
            Item::Lifecycle(_) => {}
        }
    }

    fn relative(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.path().display()), "")
    }

    /// The next things that come are these.
    pub(super) async fn expect(&mut self, expected: &[&str]) {
        self.take_until(expected.len()).await;
        assert_eq!(self.shown, expected);
        self.shown.clear();
    }

    /// All that comes until the source ends is this.
    pub(super) async fn expect_all(&mut self, expected: &[&str]) {
        while self.take().await {}
        assert_eq!(self.shown, expected);
        self.shown.clear();
    }

    /// The same, in any order: of one delivery bad rows are shown before the others.
    pub(super) async fn expect_sorted(&mut self, expected: &[&str]) {
        while self.take().await {}
        self.shown.sort();
        assert_eq!(self.shown, expected);
        self.shown.clear();
    }

    pub(super) async fn running(&self) {
        let mut status = self.handle.watch();
        let found =
            status.wait_for(|status| matches!(status.state, State::Running | State::Degraded));
        within("the state running", found).await.unwrap();
    }

    pub(super) async fn stop(&mut self) {
        let rest = stop(&self.handle, &mut self.items).await;
        rest.into_iter().for_each(|item| self.see(item));
        assert_eq!(self.handle.status().state, State::Stopped);
    }

    /// Starts again as after a crash of the whole machine: only the last cursor is left.
    pub(super) fn restart_from_cursor(&mut self) {
        self.handle =
            SourceHandle::new(self.blueprint.clone(), self.cursor.clone(), Care::default());
        self.start();
    }
}
