//! Days counted from 1970-01-01 and what they are called in the Gregorian calendar, before it was in use too.
//!
//! The year 0 is 1 BC. The arithmetic is Howard Hinnant's, "chrono-Compatible Low-Level Date
//! Algorithms"; it is exact for every day whose year fits 32 bits.

/// Seconds of a day.
pub const DAY_SECONDS: i64 = 86_400;

/// The days from 1970-01-01 to this date. A `day` beyond the month counts on into the next.
pub const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day counted from 1970-01-01.
pub const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + (month <= 2) as i64;
    (year, month, day)
}

/// How many days the month has.
pub const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Whether the year has 366 days.
pub const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// The day of the week, 0 for Monday.
pub const fn weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7)
}

/// The Monday of an ISO week: week 1 is the one with January 4.
pub const fn iso_week_start(year: i64, week: i64) -> i64 {
    let fourth = days_from_civil(year, 1, 4);
    fourth - weekday(fourth) + (week - 1) * 7
}

/// The ISO year of a day and the first day of that year.
pub const fn iso_year(days: i64) -> (i64, i64) {
    // The year of the Thursday of its week.
    let (year, ..) = civil_from_days(days - weekday(days) + 3);
    (year, iso_week_start(year, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_a_thousand_years_comes_after_the_one_before() {
        let mut last = (-401, 12, 31);
        for days in days_from_civil(-400, 1, 1)..days_from_civil(601, 1, 1) {
            let (year, month, day) = civil_from_days(days);
            let (before_year, before_month, before_day) = last;
            let next = match before_day < days_in_month(before_year, before_month) {
                true => (before_year, before_month, before_day + 1),
                false if before_month < 12 => (before_year, before_month + 1, 1),
                false => (before_year + 1, 1, 1),
            };
            assert_eq!((year, month, day), next);
            assert_eq!(days_from_civil(year, month, day), days);
            last = next;
        }
    }

    #[test]
    fn weeks_begin_on_monday_and_belong_to_the_year_of_their_thursday() {
        assert_eq!(weekday(0), 3);
        assert_eq!(weekday(-1), 2);
        for (date, year, week) in [
            ((2005, 1, 1), 2004, 53),
            ((2008, 12, 29), 2009, 1),
            ((2010, 1, 3), 2009, 53),
            ((2024, 12, 30), 2025, 1),
        ] {
            let days = days_from_civil(date.0, date.1, date.2);
            let (found, first) = iso_year(days);
            assert_eq!((found, (days - first) / 7 + 1), (year, week), "{date:?}");
        }
    }
}
