//! Where TUMBLE and HOP windows begin and end.
//!
//! A **slot** is where a window or a pane begins: an instant, in units of the event time column. With a time
//! zone it is the number of a day by the calendar there, so the stage computes with slots as if every window
//! had the same length, and only here they become instants.

use super::local_days::LocalDays;

/// Windows of `size` slots, of which one begins every `slide` slots.
#[derive(Debug, Clone, Copy)]
pub struct WindowSlots {
    /// Length of a window; a multiple of `slide`.
    pub size: i64,
    /// Distance between the starts of two windows.
    pub slide: i64,
    /// The slot at which one window begins, from 0 to `slide`.
    pub offset: i64,
    /// The days that the slots count; `None` if a slot is an instant.
    pub days: Option<LocalDays>,
}

/// The instants that share a pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PaneTimes {
    /// Where the pane begins.
    pub slot: i64,
    first: i64,
    last: i64,
}

impl PaneTimes {
    /// The pane that holds `time`, of panes of `length` that begin at `offset` and every `length` from there.
    #[inline]
    pub fn of_length(length: i64, offset: i64, time: i64) -> Self {
        let since = since_start(length, offset, time);
        let first = time.saturating_sub(since);
        Self {
            slot: first,
            first,
            last: time.saturating_add(length - 1 - since),
        }
    }

    #[inline]
    pub fn holds(&self, time: i64) -> bool {
        time.wrapping_sub(self.first) as u64 <= self.last.wrapping_sub(self.first) as u64
    }
}

/// How far `place` is behind the last multiple of `length` from `offset` on, which is from 0 to `length`.
fn since_start(length: i64, offset: i64, place: i64) -> i64 {
    let since = place.rem_euclid(length) - offset;
    // A second division would double the cost of rows that change between panes.
    match since < 0 {
        true => since + length,
        false => since,
    }
}

impl WindowSlots {
    /// Windows with one pane each.
    pub(super) fn are_panes(&self) -> bool {
        self.size == self.slide
    }

    /// The pane that holds an instant.
    #[inline]
    pub(super) fn pane_at(&self, time: i64) -> PaneTimes {
        match &self.days {
            None => PaneTimes::of_length(self.slide, self.offset, time),
            Some(days) => self.pane_of_days(days, time),
        }
    }

    #[inline(never)]
    fn pane_of_days(&self, days: &LocalDays, time: i64) -> PaneTimes {
        let day = days.day_of(time);
        let slot = day - since_start(self.slide, self.offset, day);
        PaneTimes {
            slot,
            first: days.start_of(slot),
            last: days.start_of(slot + self.slide).saturating_sub(1),
        }
    }

    /// The instant at which a slot begins.
    pub(super) fn instant(&self, slot: i64) -> i64 {
        self.days.map_or(slot, |days| days.start_of(slot))
    }

    /// The last slot that begins at or before an instant; behind the last instant all slots.
    pub(super) fn reached(&self, time: i64) -> i64 {
        match &self.days {
            Some(days) if time < i64::MAX => days.day_of(time),
            _ => time,
        }
    }

    /// The end of the window that begins at `start`.
    pub(super) fn end(&self, start: i64) -> i64 {
        start.saturating_add(self.size)
    }

    /// The last pane of the window that begins at `start`.
    pub(super) fn last_pane(&self, start: i64) -> i64 {
        start.saturating_add(self.size - self.slide)
    }

    /// The start of the first window that contains a pane.
    pub(super) fn first_window(&self, pane: i64) -> i64 {
        pane.saturating_sub(self.size - self.slide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(size: i64, slide: i64, offset: i64) -> WindowSlots {
        WindowSlots {
            size,
            slide,
            offset,
            days: None,
        }
    }

    #[test]
    fn a_pane_holds_what_is_in_it() {
        for (length, offset) in [(60, 0), (60, 15), (60, 59), (1, 0), (i64::MAX, 0)] {
            for time in [-121, -61, -60, -46, -45, -1, 0, 14, 15, 59, 60, 75, 119] {
                let pane = slots(length, length, offset).pane_at(time);
                assert!(pane.holds(time));
                assert_eq!((pane.slot - offset) % length, 0, "{length} {offset} {time}");
                assert!(pane.slot <= time && time - pane.slot < length);
                assert!(!pane.holds(pane.slot - 1) && pane.holds(pane.slot));
                let end = pane.slot.saturating_add(length);
                assert!(end == i64::MAX || pane.holds(end - 1) && !pane.holds(end));
            }
        }
    }

    #[test]
    fn the_ends_of_time_are_in_a_pane() {
        for offset in [0, 1, 59] {
            let first = slots(60, 60, offset).pane_at(i64::MIN);
            assert_eq!(first.slot, i64::MIN);
            assert!(first.holds(i64::MIN) && !first.holds(i64::MIN + 60) && !first.holds(i64::MAX));
            let last = slots(60, 60, offset).pane_at(i64::MAX);
            assert!(last.holds(i64::MAX) && !last.holds(i64::MAX - 60) && !last.holds(i64::MIN));
        }
    }
}
