//! The terminal: whether there is one, its size, and whether it shows colors.

use std::io::{IsTerminal, Stdout};
use std::os::fd::AsFd;

/// The size of the terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    pub columns: usize,
    pub rows: usize,
}

/// Whether text written here may be colored: on a terminal that is not dumb, unless `NO_COLOR` is set.
pub fn colors(out: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    out.is_terminal() && !set("NO_COLOR") && !is_dumb()
}

/// Whether the standard output is a terminal on which lines can be redrawn in place.
pub fn redraws(out: &Stdout) -> bool {
    out.is_terminal() && !is_dumb()
}

fn is_dumb() -> bool {
    std::env::var("TERM").is_ok_and(|term| term == "dumb")
}

/// The size of the terminal; 80 by 24 if it is unknown.
pub fn size(out: &impl AsFd) -> TerminalSize {
    let known = rustix::termios::tcgetwinsize(out).ok();
    let known = known.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    let (columns, rows) = known.map_or((80, 24), |size| (size.ws_col, size.ws_row));
    TerminalSize {
        columns: columns.into(),
        rows: rows.into(),
    }
}
