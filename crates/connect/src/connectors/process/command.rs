//! Turns the option `command` into a program that can be started.
//!
//! Without a shell the words are the arguments. A single text is split as a shell would split it, by
//! blanks outside quotes, and nothing else of a shell applies: no variables, no globs, no pipes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::options::Secret;
use crate::{Error, Result};

/// The environment variable from which a command learns its cursor.
const CURSOR: &str = "HEADWATER_CURSOR";

/// The command line, and the environment and folder that it runs in.
#[derive(Debug, Clone)]
pub(super) struct ProcessCommand {
    /// The program and its arguments; never empty.
    words: Vec<String>,
    env: BTreeMap<String, Secret>,
    clear_env: bool,
    cwd: Option<PathBuf>,
}

/// The program and its arguments, of which the program may be a shell, or a clause that says what is wrong
/// with them.
pub(super) fn words(given: &[String], shell: bool) -> Result<Vec<String>, String> {
    let words = match (given, shell) {
        ([script], true) => vec!["/bin/sh".to_owned(), "-c".to_owned(), script.clone()],
        (_, true) => return Err("a shell takes one text, not a list".to_owned()),
        ([line], false) => split(line)?,
        (list, false) => list.to_vec(),
    };
    match words.first() {
        Some(program) if !program.is_empty() => Ok(words),
        _ => Err("it names no program".to_owned()),
    }
}

/// Splits a line into words as a POSIX shell does.
fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                quoted(&mut letters, word, '\'', "")?;
            }
            '"' => {
                let word = word.get_or_insert_default();
                quoted(&mut letters, word, '"', "\"\\$`")?;
            }
            '\\' => {
                let next = letters.next().ok_or("it ends with a backslash")?;
                word.get_or_insert_default().push(next);
            }
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Appends what precedes the closing `quote`. A backslash is literal unless an `escapable` follows it.
fn quoted(
    letters: &mut std::str::Chars<'_>,
    word: &mut String,
    quote: char,
    escapable: &str,
) -> Result<(), String> {
    while let Some(letter) = letters.next() {
        if letter == quote {
            return Ok(());
        }
        let mut ahead = letters.clone();
        match ahead.next() {
            Some(next) if letter == '\\' && escapable.contains(next) => {
                word.push(next);
                *letters = ahead;
            }
            _ => word.push(letter),
        }
    }
    Err(format!("the quote {quote} is not closed"))
}

impl ProcessCommand {
    pub(super) fn new(
        words: Vec<String>,
        env: BTreeMap<String, Secret>,
        clear_env: bool,
        cwd: Option<PathBuf>,
    ) -> Self {
        debug_assert!(!words.is_empty());
        Self {
            words,
            env,
            clear_env,
            cwd,
        }
    }

    /// The command line as text, for messages.
    pub(super) fn shown(&self) -> String {
        self.words.join(" ")
    }

    /// A command that is not started yet, in a process group of its own, without input, which continues
    /// after `cursor`.
    pub(super) fn process(&self, cursor: Option<&str>) -> Command {
        let mut process = Command::new(&self.words[0]);
        process.args(&self.words[1..]);
        if self.clear_env {
            process.env_clear();
        }
        process.env_remove(CURSOR);
        process.envs(self.env.iter().map(|(name, value)| (name, value.expose())));
        process.envs(cursor.map(|cursor| (CURSOR, cursor)));
        if let Some(cwd) = &self.cwd {
            process.current_dir(cwd);
        }
        process
            .stdin(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        process
    }

    /// Fails if the folder or the program does not exist, or the program may not be executed.
    pub(super) fn find(&self) -> Result<()> {
        if let Some(cwd) = self.cwd.as_deref().filter(|cwd| !cwd.is_dir()) {
            return Err(self.refused(format!("there is no folder {}", cwd.display())));
        }
        let program = &self.words[0];
        if program.contains('/') {
            let path = self.cwd.as_deref().unwrap_or(Path::new("")).join(program);
            return match runnable(&path) {
                true => Ok(()),
                false if path.exists() => Err(self.refused(format!("{program} may not be run"))),
                false => Err(self.refused(format!("there is no file {program}"))),
            };
        }
        let path = self.path().unwrap_or_else(|| "/bin:/usr/bin".into());
        match std::env::split_paths(&path).any(|folder| runnable(&folder.join(program))) {
            true => Ok(()),
            false => Err(self.refused(format!("there is no program {program} in PATH"))),
        }
    }

    fn path(&self) -> Option<std::ffi::OsString> {
        let own = self
            .env
            .get("PATH")
            .map(|path| OsStr::new(path.expose()).to_owned());
        own.or_else(|| std::env::var_os("PATH").filter(|_| !self.clear_env))
    }

    /// The error for a command that the system did not start.
    pub(super) fn not_started(&self, source: std::io::Error) -> Error {
        let fatal = self.find().err();
        fatal.unwrap_or_else(|| Error::Io {
            what: format!("cannot run {}", self.shown()),
            source,
        })
    }

    fn refused(&self, reason: String) -> Error {
        Error::NotRunnable {
            command: self.shown(),
            reason,
        }
    }
}

fn runnable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Vec<String>, String> {
        words(&[text.to_owned()], false)
    }

    #[test]
    fn a_line_is_split_as_a_shell_splits_it() {
        for (text, expected) in [
            ("cat /proc/loadavg", vec!["cat", "/proc/loadavg"]),
            ("  a\tb\nc  ", vec!["a", "b", "c"]),
            (r#"a 'b c' "d e" f\ g"#, vec!["a", "b c", "d e", "f g"]),
            (r#"a"b"'c'd"#, vec!["abcd"]),
            (r#"a '' "" b"#, vec!["a", "", "", "b"]),
            (
                r#"'a\b' "a\b" "a\"b" "a\\b" "\$x""#,
                vec![r"a\b", r"a\b", "a\"b", r"a\b", "$x"],
            ),
            ("a $HOME *.txt | b", vec!["a", "$HOME", "*.txt", "|", "b"]),
        ] {
            assert_eq!(line(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn an_invalid_command_is_refused_with_the_reason() {
        assert_eq!(line("a 'b").unwrap_err(), "the quote ' is not closed");
        assert_eq!(line("a \"b").unwrap_err(), "the quote \" is not closed");
        assert_eq!(line("a \\").unwrap_err(), "it ends with a backslash");
        assert_eq!(line("  ").unwrap_err(), "it names no program");
        assert_eq!(line("'' a").unwrap_err(), "it names no program");
        assert_eq!(words(&[], false).unwrap_err(), "it names no program");
        let two = ["a".to_owned(), "b".to_owned()];
        assert_eq!(
            words(&two, true).unwrap_err(),
            "a shell takes one text, not a list"
        );
        assert_eq!(words(&two, false).unwrap(), two);
    }

    fn find(program: &str, env: &[(&str, &str)], cwd: Option<&str>) -> Result<(), String> {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Secret::from(*value)));
        let words = vec![program.to_owned(), "-x".to_owned()];
        let command = ProcessCommand::new(words, env.collect(), false, cwd.map(PathBuf::from));
        command.find().map_err(|error| error.to_string())
    }

    #[test]
    fn a_program_is_found_before_it_is_started() {
        assert_eq!(find("sh", &[], None), Ok(()));
        assert_eq!(find("/bin/sh", &[], None), Ok(()));
        assert_eq!(find("./sh", &[], Some("/bin")), Ok(()));
        assert_eq!(
            find("no-such-program", &[], None).unwrap_err(),
            "cannot run no-such-program -x: there is no program no-such-program in PATH"
        );
        assert_eq!(
            find("sh", &[("PATH", "/nowhere")], None).unwrap_err(),
            "cannot run sh -x: there is no program sh in PATH"
        );
        assert_eq!(
            find("/etc/passwd", &[], None).unwrap_err(),
            "cannot run /etc/passwd -x: /etc/passwd may not be run"
        );
        assert_eq!(
            find("./x", &[], Some("/bin")).unwrap_err(),
            "cannot run ./x -x: there is no file ./x"
        );
        assert_eq!(
            find("sh", &[], Some("/nowhere")).unwrap_err(),
            "cannot run sh -x: there is no folder /nowhere"
        );
    }
}
