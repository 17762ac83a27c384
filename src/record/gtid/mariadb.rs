//! MariaDB's: domain, server and sequence number.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{NotAGtid, number};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MariaDbGtid {
    pub domain: u32,
    pub server: u32,
    pub sequence: u64,
}

impl fmt::Display for MariaDbGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl FromStr for MariaDbGtid {
    type Err = NotAGtid;

    fn from_str(text: &str) -> Result<Self, NotAGtid> {
        let mut parts = text.trim().split('-').map(number);
        let mut part = || parts.next().unwrap_or(Err(NotAGtid));
        let (domain, server, sequence) = (part()?, part()?, part()?);
        match (u32::try_from(domain), u32::try_from(server), parts.next()) {
            (Ok(domain), Ok(server), None) => Ok(MariaDbGtid { domain, server, sequence }),
            _ => Err(NotAGtid),
        }
    }
}

/// The last transaction of each domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MariaDbGtids(BTreeMap<u32, (u32, u64)>);

impl MariaDbGtids {
    pub fn contains(&self, gtid: &MariaDbGtid) -> bool {
        self.0.get(&gtid.domain).is_some_and(|&(_, last)| gtid.sequence <= last)
    }

    pub fn contains_all(&self, other: &Self) -> bool {
        other.iter().all(|gtid| self.contains(&gtid))
    }

    /// Becomes the last of its domain, also where its number is lower than what was there: in a domain that is not
    /// strict the server goes by what came last.
    pub fn insert(&mut self, gtid: MariaDbGtid) {
        self.0.insert(gtid.domain, (gtid.server, gtid.sequence));
    }

    /// The earlier position of every domain that is in both.
    pub fn shared(&self, other: &Self) -> Self {
        let earlier = self.iter().filter_map(|here| {
            let there = other.last_of(here.domain)?;
            Some(if there.sequence < here.sequence { there } else { here })
        });
        let mut shared = Self::default();
        earlier.for_each(|gtid| shared.insert(gtid));
        shared
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last of each domain, by domain.
    pub fn iter(&self) -> impl Iterator<Item = MariaDbGtid> + '_ {
        self.0.iter().map(|(&domain, &(server, sequence))| MariaDbGtid { domain, server, sequence })
    }

    pub fn last_of(&self, domain: u32) -> Option<MariaDbGtid> {
        self.0.get(&domain).map(|&(server, sequence)| MariaDbGtid { domain, server, sequence })
    }
}

impl fmt::Display for MariaDbGtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().enumerate().try_for_each(|(index, gtid)| {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{gtid}")
        })
    }
}

impl FromStr for MariaDbGtids {
    type Err = NotAGtid;

    /// A domain may be named more than once (`gtid_binlog_state` has one entry a server): its highest number counts.
    fn from_str(text: &str) -> Result<Self, NotAGtid> {
        let mut set = Self::default();
        for part in text.split(',').filter(|_| !text.trim().is_empty()) {
            let gtid: MariaDbGtid = part.parse()?;
            if !set.contains(&gtid) {
                set.insert(gtid);
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["", "0-1-5", "0-1-5,1-4294967295-18446744073709551615"] {
            assert_eq!(text.parse::<MariaDbGtids>().unwrap().to_string(), text);
        }
        assert_eq!("0-1-5,0-2-7,0-3-6".parse::<MariaDbGtids>().unwrap().to_string(), "0-2-7");
        for wrong in ["0", "0-1", "0-1-", "0-1-5,", ",", "0-1-5-6", "-0-1", "4294967296-1-1", "0-1-+5", "a-b-c"] {
            assert!(wrong.parse::<MariaDbGtids>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_domain_is_held_up_to_its_last() {
        let mut set: MariaDbGtids = "0-1-5,2-1-9".parse().unwrap();
        let gtid = |text: &str| text.parse::<MariaDbGtid>().unwrap();
        assert!(set.contains(&gtid("0-7-5")) && set.contains(&gtid("0-1-1")));
        assert!(!set.contains(&gtid("0-1-6")) && !set.contains(&gtid("1-1-1")));
        assert!(set.contains_all(&"2-3-4".parse().unwrap()) && !set.contains_all(&"2-3-4,1-1-1".parse().unwrap()));
        set.insert(gtid("0-2-3"));
        assert_eq!(set.last_of(0), Some(gtid("0-2-3")));
    }
}
