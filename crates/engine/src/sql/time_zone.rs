//! The names of time zones in SQL.

use chrono_tz::Tz;

use super::error::{Result, SqlError, sqlstate};
use super::suggest::nearest;
use crate::time_zone::TimeZone;

/// The zone of this name in the IANA database, in any case.
///
/// # Errors
/// If there is none; the hint has the nearest name, also for a city alone.
pub(super) fn time_zone(name: &str) -> Result<Tz> {
    TimeZone::place(name).ok_or_else(|| unknown(name))
}

/// The error that there is no zone of this name.
pub(super) fn unknown(name: &str) -> SqlError {
    let names: Vec<&str> = TimeZone::names().collect();
    let spelt = name.replace(' ', "_");
    let is_of_city = |zone: &&&str| {
        let city = zone.rsplit_once('/').map(|(_, city)| city);
        let mut spellings = city.into_iter().chain([**zone]);
        spellings.any(|it| it.eq_ignore_ascii_case(&spelt))
    };
    let found = names.iter().find(is_of_city).copied();
    let hint = match found.or_else(|| nearest(&spelt, &names)) {
        Some(zone) => format!("Did you mean '{zone}'?"),
        None if name.starts_with(|first: char| !first.is_ascii_alphabetic()) => {
            "Write the name of a zone, e.g. 'Europe/Berlin'; an offset is an interval: INTERVAL '15 minutes'."
                .to_owned()
        }
        None => "Write a name of the IANA database, e.g. 'Europe/Berlin'.".to_owned(),
    };
    let message = format!("time zone {name:?} is unknown");
    SqlError::new(sqlstate::INVALID_PARAMETER, message).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_in_any_case() {
        for (name, zone) in [
            ("Europe/Berlin", Tz::Europe__Berlin),
            ("europe/berlin", Tz::Europe__Berlin),
            ("AMERICA/SAO_PAULO", Tz::America__Sao_Paulo),
            ("utc", Tz::UTC),
            ("Etc/GMT-14", Tz::Etc__GMTMinus14),
        ] {
            assert_eq!(time_zone(name).unwrap(), zone);
        }
    }

    #[test]
    fn an_unknown_name_gets_the_nearest() {
        for (name, hint) in [
            ("Europe/Berln", "Did you mean 'Europe/Berlin'?"),
            ("berlin", "Did you mean 'Europe/Berlin'?"),
            ("Sao Paulo", "Did you mean 'America/Sao_Paulo'?"),
            ("America/New York", "Did you mean 'America/New_York'?"),
            (
                "+05:45",
                "Write the name of a zone, e.g. 'Europe/Berlin'; an offset is an interval: INTERVAL '15 minutes'.",
            ),
            (
                "",
                "Write a name of the IANA database, e.g. 'Europe/Berlin'.",
            ),
            (
                "Moon/Tranquility",
                "Write a name of the IANA database, e.g. 'Europe/Berlin'.",
            ),
        ] {
            let error = time_zone(name).unwrap_err();
            assert_eq!(error.message, format!("time zone {name:?} is unknown"));
            assert_eq!(error.hint.as_deref(), Some(hint), "{name}");
        }
    }
}
