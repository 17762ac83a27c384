//! MySQL's: the source's UUID, from 8.3 on an optional tag, and a number.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{NotAGtid, number};

/// Who numbers transactions: a server, under a tag or none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid {
    /// The `server_uuid` where the transaction was first committed.
    pub uuid: [u8; 16],
    /// 1 to [`TAG_MAX_BYTES`] of `a-z 0-9 _`.
    pub tag: Option<Arc<str>>,
}

/// From the manual, "GTID Format and Storage".
const TAG_MAX_BYTES: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MySqlGtid {
    pub sid: Sid,
    /// From 1 to 2^63 - 2.
    pub number: u64,
}

/// Numbers from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub first: u64,
    pub last: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MySqlGtids(BTreeMap<Sid, Vec<Interval>>);

impl MySqlGtids {
    pub fn contains(&self, gtid: &MySqlGtid) -> bool {
        self.covers(&gtid.sid, Interval { first: gtid.number, last: gtid.number })
    }

    pub fn contains_all(&self, other: &Self) -> bool {
        other.iter().all(|(sid, intervals)| intervals.iter().all(|interval| self.covers(sid, *interval)))
    }

    fn covers(&self, sid: &Sid, wanted: Interval) -> bool {
        let Some(intervals) = self.0.get(sid) else { return false };
        let at = intervals.partition_point(|interval| interval.last < wanted.last);
        intervals.get(at).is_some_and(|interval| interval.first <= wanted.first)
    }

    pub fn insert(&mut self, gtid: &MySqlGtid) {
        self.insert_interval(&gtid.sid, Interval { first: gtid.number, last: gtid.number });
    }

    /// Adds all numbers of an interval; one that is empty (last before first) adds nothing.
    pub fn insert_interval(&mut self, sid: &Sid, new: Interval) {
        if new.last < new.first {
            return;
        }
        let Some(intervals) = self.0.get_mut(sid) else {
            self.0.insert(sid.clone(), vec![new]);
            return;
        };
        // The common case: the next number of a source.
        if let Some(last) = intervals.last_mut()
            && last.first <= new.first
            && new.first <= last.last.saturating_add(1)
        {
            last.last = last.last.max(new.last);
            return;
        }
        let start = intervals.partition_point(|interval| interval.last.saturating_add(1) < new.first);
        let end = intervals.partition_point(|interval| interval.first <= new.last.saturating_add(1));
        let first = intervals.get(start).filter(|_| start < end).map_or(new.first, |old| old.first.min(new.first));
        let last = if start < end { intervals[end - 1].last.max(new.last) } else { new.last };
        intervals.splice(start..end, [Interval { first, last }]);
    }

    pub fn insert_all(&mut self, other: &Self) {
        for (sid, intervals) in other.iter() {
            intervals.iter().for_each(|interval| self.insert_interval(sid, *interval));
        }
    }

    /// What is in `self` and not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (sid, intervals) in self.iter() {
            let gone = other.0.get(sid).map_or(&[][..], Vec::as_slice);
            for interval in intervals {
                let mut first = interval.first;
                for gone in gone.iter().filter(|gone| gone.last >= interval.first && gone.first <= interval.last) {
                    if gone.first > first {
                        rest.insert_interval(sid, Interval { first, last: gone.first - 1 });
                    }
                    first = gone.last.saturating_add(1);
                }
                rest.insert_interval(sid, Interval { first, last: interval.last });
            }
        }
        rest
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many transactions the set holds.
    pub fn count(&self) -> u64 {
        let counts = self.0.values().flatten().map(|interval| (interval.last - interval.first).saturating_add(1));
        counts.fold(0, u64::saturating_add)
    }

    /// By source and tag, with their intervals in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Sid, &[Interval])> {
        self.0.iter().map(|(sid, intervals)| (sid, intervals.as_slice()))
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid(&self.uuid, f)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))
    }
}

/// In the 8-4-4-4-12 form, in lower case as the server prints it.
fn uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().enumerate().try_for_each(|(index, byte)| {
        let dash = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
        write!(f, "{dash}{byte:02x}")
    })
}

impl FromStr for Sid {
    type Err = NotAGtid;

    /// A UUID without a tag.
    fn from_str(text: &str) -> Result<Self, NotAGtid> {
        let groups: Vec<&str> = text.split('-').collect();
        let dashed = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]);
        let digits = groups.concat();
        if !dashed || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NotAGtid);
        }
        let number = u128::from_str_radix(&digits, 16).map_err(|_| NotAGtid)?;
        Ok(Sid { uuid: number.to_be_bytes(), tag: None })
    }
}

impl fmt::Display for MySqlGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sid, self.number)
    }
}

impl FromStr for MySqlGtid {
    type Err = NotAGtid;

    fn from_str(text: &str) -> Result<Self, NotAGtid> {
        let (sid, number) = text.rsplit_once(':').ok_or(NotAGtid)?;
        let number = super::number(number)?;
        let (uuid, tagged) = sid.split_once(':').map_or((sid, None), |(uuid, tag)| (uuid, Some(tag)));
        let mut sid: Sid = uuid.parse()?;
        sid.tag = tagged.map(tag).transpose()?;
        Ok(MySqlGtid { sid, number })
    }
}

impl fmt::Display for MySqlGtids {
    /// `uuid:1-3:5:tag:1-2,uuid:7`: a source's tags stand behind its untagged intervals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut previous = None;
        for (sid, intervals) in self.iter() {
            if previous != Some(sid.uuid) {
                f.write_str(if previous.is_some() { "," } else { "" })?;
                uuid(&sid.uuid, f)?;
                previous = Some(sid.uuid);
            }
            sid.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
            for Interval { first, last } in intervals {
                write!(f, ":{first}")?;
                if last > first {
                    write!(f, "-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl FromStr for MySqlGtids {
    type Err = NotAGtid;

    /// From the manual, "GTID Sets":
    ///
    /// ```text
    /// set       [source {"," source}]                 white space, line breaks and empty parts between
    /// source    uuid {":" (interval | tag)}           a tag holds for the intervals behind it
    /// interval  number ["-" number]
    /// ```
    fn from_str(text: &str) -> Result<Self, NotAGtid> {
        let mut set = Self::default();
        for source in text.split(',').map(str::trim).filter(|source| !source.is_empty()) {
            let mut parts = source.split(':').map(str::trim);
            let mut sid: Sid = parts.next().ok_or(NotAGtid)?.parse()?;
            for part in parts {
                if part.starts_with(|first: char| first.is_ascii_digit()) {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    let (first, last) = (number(first.trim())?, number(last.trim())?);
                    if first == 0 || last < first {
                        return Err(NotAGtid);
                    }
                    set.insert_interval(&sid, Interval { first, last });
                } else {
                    sid.tag = Some(tag(part)?);
                }
            }
        }
        Ok(set)
    }
}

fn tag(text: &str) -> Result<Arc<str>, NotAGtid> {
    let text = text.to_ascii_lowercase();
    let valid = (1..=TAG_MAX_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    valid.then(|| text.into()).ok_or(NotAGtid)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "00000000-0000-0000-0000-000000000001";

    fn set(text: &str) -> MySqlGtids {
        text.parse().unwrap()
    }

    #[test]
    fn reads_what_it_prints() {
        for text in ["", &format!("{A}:1"), &format!("{B}:1-3:5,{A}:1-9223372036854775806:tag_1:1-2:4:x:7")] {
            assert_eq!(set(text).to_string(), text);
        }
        let spaced = format!(" {}:1-3 : 4-5 ,\n{B}:2:1:\tTAG:1,", A.to_uppercase());
        assert_eq!(set(&spaced).to_string(), format!("{B}:1-2:tag:1,{A}:1-5"));
        for wrong in ["x", "3e11fa47:1", &format!("{A}:0"), &format!("{A}:5-4"), &format!("{A}:1-"), &format!("{A}:+1")]
        {
            assert!(wrong.parse::<MySqlGtids>().is_err(), "{wrong:?}");
        }
        let long = format!("{A}:{}:1", "t".repeat(33));
        assert!(long.parse::<MySqlGtids>().is_err() && format!("{A}:é:1").parse::<MySqlGtids>().is_err());
    }

    #[test]
    fn a_tag_is_another_source() {
        let tagged = set(&format!("{A}:t:1-5"));
        assert!(!tagged.contains_all(&set(&format!("{A}:1"))));
        assert!(!set(&format!("{A}:1-5")).contains_all(&tagged));
    }

    type Model = BTreeSet<(bool, u64)>;

    fn built(model: &[(bool, u64, u64)]) -> (MySqlGtids, Model) {
        let (mut set, mut numbers) = (MySqlGtids::default(), Model::new());
        for &(tagged, first, more) in model {
            let sid = Sid { uuid: [7; 16], tag: tagged.then(|| "t".into()) };
            set.insert_interval(&sid, Interval { first, last: first + more });
            numbers.extend((first..=first + more).map(|number| (tagged, number)));
        }
        (set, numbers)
    }

    fn numbers(set: &MySqlGtids) -> Model {
        let of = |(sid, intervals): (&Sid, &[Interval])| {
            let tagged = sid.tag.is_some();
            intervals.iter().flat_map(move |i| (i.first..=i.last).map(move |n| (tagged, n))).collect::<Vec<_>>()
        };
        set.iter().flat_map(of).collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(
            a in proptest::collection::vec((any::<bool>(), 1..60u64, 0..9u64), 0..12),
            b in proptest::collection::vec((any::<bool>(), 1..60u64, 0..9u64), 0..12),
        ) {
            let ((a, a_model), (b, b_model)) = (built(&a), built(&b));
            prop_assert_eq!(&numbers(&a), &a_model);
            for intervals in a.0.values() {
                prop_assert!(intervals.windows(2).all(|pair| pair[0].last + 1 < pair[1].first));
            }
            prop_assert_eq!(a.contains_all(&b), a_model.is_superset(&b_model));
            prop_assert_eq!(numbers(&a.without(&b)), &a_model - &b_model);
            let mut both = a.clone();
            both.insert_all(&b);
            prop_assert_eq!(numbers(&both), &a_model | &b_model);
            prop_assert_eq!(a.count(), a_model.len() as u64);
            prop_assert_eq!(set(&a.to_string()), a);
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<MySqlGtids>();
        }
    }
}
