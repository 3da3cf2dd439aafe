//! The wall clock in parts, UTC.

use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) epoch: i64,
    pub(super) year: i64,
    /// From 0.
    pub(super) month: i64,
    /// From 1.
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    /// Sunday is 0.
    pub(super) weekday: i64,
}

pub(super) fn now() -> Civil {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    civil(i64::try_from(since.as_secs()).unwrap_or(0))
}

/// Days to a date by the algorithm of Howard Hinnant (`civil_from_days`): years that begin in March make the leap day
/// the last day of a year.
fn civil(epoch: i64) -> Civil {
    let (days, seconds) = (epoch.div_euclid(86_400), epoch.rem_euclid(86_400));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    Civil {
        epoch,
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month: month - 1,
        day: day_of_year - (153 * march_month + 2) / 5 + 1,
        hour: seconds / 3600,
        minute: seconds / 60 % 60,
        second: seconds % 60,
        weekday: (days + 4).rem_euclid(7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let date = |epoch| {
            let civil = civil(epoch);
            (civil.year, civil.month + 1, civil.day, civil.weekday)
        };
        assert_eq!(date(0), (1970, 1, 1, 4));
        assert_eq!(date(951_782_400), (2000, 2, 29, 2));
        assert_eq!(date(1_732_255_200), (2024, 11, 22, 5));
        assert_eq!((civil(86_399).hour, civil(86_399).minute, civil(86_399).second), (23, 59, 59));
    }
}
