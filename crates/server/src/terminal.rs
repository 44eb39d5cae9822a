//! What the terminal is: whether there is one, how large, and whether it shows colors.

use std::io::{IsTerminal, Stdout};
use std::os::fd::AsFd;

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters in a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// Whether text written here may be colored: on a terminal that is not dumb, unless `NO_COLOR` is set.
pub fn colors(out: &impl IsTerminal) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    out.is_terminal() && !set("NO_COLOR") && !is_dumb()
}

/// Whether the standard output is a terminal on which lines can be drawn over.
pub fn draws_over(out: &Stdout) -> bool {
    out.is_terminal() && !is_dumb()
}

fn is_dumb() -> bool {
    std::env::var("TERM").is_ok_and(|term| term == "dumb")
}

/// How large the terminal is; 80 by 24 if it does not say.
pub fn size(out: &impl AsFd) -> Size {
    let known = rustix::termios::tcgetwinsize(out).ok();
    let known = known.filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(
        Size {
            columns: 80,
            rows: 24,
        },
        |size| Size {
            columns: size.ws_col.into(),
            rows: size.ws_row.into(),
        },
    )
}
