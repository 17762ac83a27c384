//! Civil dates and times: what databases print and consumers read, without a calendar in between.

/// A date of the proleptic Gregorian calendar. Year 0 is 1 BC, as in ISO 8601; month and day are 0 where a source
/// has partial dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date {
    pub year: i32,
    pub month: u8,
    pub day: u8,
}

/// A time of day; `hour` is 24 only for 24:00:00.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub micros: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime {
    pub date: Date,
    pub time: Time,
}

/// Days from 1970-01-01 to the date, for any year an `i32` holds.
///
/// A year is counted from March, so that the leap day ends it; 400 years are one era of 146,097 days.
pub fn days_from_civil(date: Date) -> i64 {
    let year = i64::from(date.year) - i64::from(date.month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (i64::from(date.month) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(date.day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl DateTime {
    /// The civil time, in UTC, of a count of microseconds since 1970-01-01.
    pub fn from_unix_micros(unix_micros: i64) -> Self {
        const DAY_MICROS: i64 = 86_400_000_000;
        let (days, micros) = (unix_micros.div_euclid(DAY_MICROS), unix_micros.rem_euclid(DAY_MICROS));
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let seconds = micros / 1_000_000;
        DateTime {
            date: Date {
                year: (year_of_era + era * 400 + i64::from(month <= 2)) as i32,
                month: month as u8,
                day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u8,
            },
            time: Time {
                hour: (seconds / 3_600) as u8,
                minute: (seconds / 60 % 60) as u8,
                second: (seconds % 60) as u8,
                micros: (micros % 1_000_000) as u32,
            },
        }
    }

    /// Microseconds since 1970-01-01; `None` where an `i64` does not hold them.
    pub fn to_unix_micros(self) -> Option<i64> {
        let Time { hour, minute, second, micros } = self.time;
        let seconds = i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second);
        days_from_civil(self.date).checked_mul(86_400_000_000)?.checked_add(seconds * 1_000_000 + i64::from(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_days() {
        let day = |year, month, day| days_from_civil(Date { year, month, day });
        assert_eq!(day(1970, 1, 1), 0);
        assert_eq!(day(2000, 3, 1), 11_017);
        assert_eq!(day(1969, 12, 31), -1);
        assert_eq!(day(-4712, 1, 1) - day(-4713, 12, 31), 1);
    }

    proptest! {
        #[test]
        fn micros_survive_the_civil_form(micros in any::<i64>()) {
            prop_assert_eq!(DateTime::from_unix_micros(micros).to_unix_micros(), Some(micros));
        }

        #[test]
        fn agrees_with_a_calendar_library(seconds in -377_705_023_201i64..253_402_207_200) {
            let expected = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            let DateTime { date, time } = DateTime::from_unix_micros(seconds * 1_000_000);
            prop_assert_eq!(
                (date.year, date.month, date.day, time.hour, time.minute, time.second),
                (i32::from(expected.year()), expected.month() as u8, expected.day() as u8,
                 expected.hour() as u8, expected.minute() as u8, expected.second() as u8)
            );
        }
    }
}
