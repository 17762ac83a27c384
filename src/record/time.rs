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

/// The date so many days behind 1970-01-01.
#[inline]
fn civil_from_days(days: i64) -> Date {
    // To days since 0000-03-01.
    let shifted = days + 719_468;
    match u32::try_from(shifted) {
        Ok(shifted) if shifted < ERA_DAYS * 100 => civil(shifted),
        // Beyond 40,000 years, and before the year 0: shifted by whole eras.
        _ => {
            let (era, day_of_era) = (shifted.div_euclid(ERA_DAYS.into()), shifted.rem_euclid(ERA_DAYS.into()));
            let date = civil(day_of_era as u32);
            Date { year: (i64::from(date.year) + era * 400) as i32, ..date }
        }
    }
}

/// Days in 400 years.
const ERA_DAYS: u32 = 146_097;

/// The date so many days behind 0000-03-01, below 2^29 or so.
///
/// The method of Neri and Schneider (Euclidean affine functions and their application to calendar algorithms, 2022): a
/// century, a year and a month are each a line with a rational slope, rounded down; its inverse gives quotient and rest
/// by one multiplication.
#[inline]
fn civil(days: u32) -> Date {
    let quarters = 4 * days + 3;
    let (century, day_of_century) = (quarters / ERA_DAYS, quarters % ERA_DAYS / 4);
    // 2^32 / 1461 and a bit: the year is the high half, the day the low one.
    let line = 2_939_745 * u64::from(4 * day_of_century + 3);
    let (year_of_century, day_of_year) = ((line >> 32) as u32, line as u32 / 2_939_745 / 4);
    // Months from March have 2^16 / 2141, 30.6 days on average.
    let line = 2_141 * day_of_year + 197_913;
    let (month, day) = (line >> 16, (line & 0xFFFF) / 2_141 + 1);
    let after_december = day_of_year >= 306;
    Date {
        year: (100 * century + year_of_century + u32::from(after_december)) as i32,
        month: if after_december { month - 12 } else { month } as u8,
        day: day as u8,
    }
}

/// The time of day, of a count of seconds below a day.
#[inline]
fn clock(seconds: u32, micros: u32) -> Time {
    Time { hour: (seconds / 3_600) as u8, minute: (seconds / 60 % 60) as u8, second: (seconds % 60) as u8, micros }
}

impl DateTime {
    /// The civil time, in UTC, of a count of microseconds since 1970-01-01.
    pub fn from_unix_micros(unix_micros: i64) -> Self {
        let (seconds, micros) = (unix_micros.div_euclid(1_000_000), unix_micros.rem_euclid(1_000_000));
        Self::from_unix_seconds(seconds, micros as u32)
    }

    /// The civil time, in UTC, of a count of seconds since 1970-01-01, and microseconds below a second behind it.
    #[inline]
    pub fn from_unix_seconds(unix_seconds: i64, micros: u32) -> Self {
        const DAY_SECONDS: u32 = 86_400;
        let (days, seconds) = match u32::try_from(unix_seconds) {
            Ok(seconds) => (i64::from(seconds / DAY_SECONDS), seconds % DAY_SECONDS),
            Err(_) => {
                let day = i64::from(DAY_SECONDS);
                (unix_seconds.div_euclid(day), unix_seconds.rem_euclid(day) as u32)
            }
        };
        DateTime { date: civil_from_days(days), time: clock(seconds, micros) }
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
