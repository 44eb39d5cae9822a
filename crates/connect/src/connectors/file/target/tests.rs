//! What a sink refuses to write, and what it does not. Files of other users can be made by root only: elsewhere
//! those parts are left out.

use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::Retry;

/// A user who is neither root nor us.
const STRANGER: u32 = 12_345;

fn folder_with_mode(mode: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
    folder
}

/// What a sink says of this path when it is created; it says the same when it opens it.
fn said(path: &Path) -> String {
    let error = refusal(path).unwrap_err();
    assert_eq!(error.to_string(), open(path, true).unwrap_err().to_string());
    assert_eq!(error.retry(), Retry::Fatal);
    assert!(error.hint().is_some_and(|hint| hint.ends_with('.')));
    let said = error.to_string();
    let before = format!("cannot write {}: ", path.display());
    said.strip_prefix(&before).unwrap().to_owned()
}

#[test]
fn what_is_no_regular_file_is_refused_without_being_opened() {
    let folder = folder_with_mode(0o755);
    let at = |name: &str| folder.path().join(name);
    // Opening a pipe for writing would wait for a reader.
    mknodat(
        CWD,
        at("pipe"),
        FileType::Fifo,
        Mode::from_raw_mode(0o666),
        0,
    )
    .unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    symlink("pipe", at("link")).unwrap();
    for (path, kind) in [
        (at("pipe"), "a pipe"),
        (at("link"), "a pipe"),
        (at("socket"), "a socket"),
        (folder.path().to_owned(), "a folder"),
        ("/dev/null".into(), "a device"),
    ] {
        let expected = format!("it is {kind}, and a sink writes regular files only");
        assert_eq!(said(&path), expected);
    }
}

#[test]
fn a_new_file_is_for_the_user_and_the_group() {
    let folder = folder_with_mode(0o755);
    let path = folder.path().join("out");
    refusal(&path).unwrap();
    assert!(!path.exists(), "looking makes nothing");
    assert_eq!(open(&path, false).unwrap_err().name(), "io");
    open(&path, true).unwrap();
    let mode = fs::metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    open(&path, true).unwrap();
    let mode = fs::metadata(&path).unwrap().mode();
    assert_eq!(mode & 0o777, 0o644, "an existing file keeps its mode");
}

#[test]
fn a_link_is_followed_where_nobody_else_can_put_another() {
    for (mode, allowed) in [(0o755, true), (0o1777, true), (0o777, false)] {
        let outside = folder_with_mode(0o755);
        let folder = folder_with_mode(mode);
        let [file, link, second] = ["file", "link", "second"].map(|name| folder.path().join(name));
        symlink(outside.path().join("made"), &link).unwrap();
        symlink("link", &second).unwrap();
        for path in [&link, &second] {
            match allowed {
                true => drop(open(path, true).unwrap()),
                false => assert_eq!(
                    said(path),
                    "it is a link in a folder where others may replace it"
                ),
            }
        }
        assert_eq!(outside.path().join("made").exists(), allowed, "{mode:o}");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        open(&file, true).unwrap();
        open(&file, true).unwrap();
        fs::hard_link(&file, folder.path().join("third")).unwrap();
        match mode {
            0o755 => drop(open(&file, true).unwrap()),
            _ => assert_eq!(
                said(&file),
                "it has another name as well, in a folder where others may write"
            ),
        }
    }
}

#[test]
fn what_another_user_has_prepared_is_refused() {
    let folder = folder_with_mode(0o1777);
    let [victim, link, file] = ["victim", "link", "file"].map(|name| folder.path().join(name));
    fs::write(&victim, "mine").unwrap();
    symlink(&victim, &link).unwrap();
    fs::write(&file, "").unwrap();
    if lchown(&link, Some(STRANGER), None).is_err() {
        return;
    }
    chown(&file, Some(STRANGER), None).unwrap();
    assert_eq!(said(&link), "it is a link of another user");
    let expected = "it belongs to another user, in a folder where others may write";
    assert_eq!(said(&file), expected);
    assert_eq!(fs::read(&victim).unwrap(), b"mine");
    // In a folder of ours it is there because we put it there.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    open(&file, true).unwrap();
    // A folder of another user is his to change, whatever its mode.
    chown(folder.path(), Some(STRANGER), None).unwrap();
    assert_eq!(said(&file), expected);
    lchown(&link, Some(geteuid().as_raw()), None).unwrap();
    assert_eq!(
        said(&link),
        "it is a link in a folder where others may replace it"
    );
}

#[test]
fn a_folder_that_the_group_may_write_is_shared_unless_the_group_is_ours() {
    let folder = folder_with_mode(0o775);
    let link = folder.path().join("link");
    symlink("file", &link).unwrap();
    open(&link, true).unwrap();
    if chown(folder.path(), None, Some(STRANGER)).is_ok() {
        assert_eq!(
            said(&link),
            "it is a link in a folder where others may replace it"
        );
    }
}

#[test]
fn links_in_a_circle_end() {
    let folder = folder_with_mode(0o755);
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    symlink(&a, &b).unwrap();
    symlink(&b, &a).unwrap();
    let error = open(&a, true).unwrap_err().to_string();
    assert!(error.starts_with("too many links at "), "{error}");
}
