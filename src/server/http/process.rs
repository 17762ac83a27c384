//! What the system says of this process: memory, processor, files, start. Linux's `/proc`; elsewhere nothing is said.

use std::fs;

/// Of one moment; what cannot be read is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<f64>,
    pub virtual_bytes: Option<f64>,
    pub open_fds: Option<f64>,
    pub max_fds: Option<f64>,
    /// Seconds since 1970-01-01 UTC.
    pub start_unix_s: Option<f64>,
}

/// The unit of times in `/proc`, USER_HZ: 100 on every architecture that we build for.
const TICKS_A_SECOND: f64 = 100.0;

pub fn figures() -> Figures {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (stat, status, limits, system) =
        (read("/proc/self/stat"), read("/proc/self/status"), read("/proc/self/limits"), read("/proc/stat"));
    // The one that reads the folder is open meanwhile.
    let open_fds = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64);
    Figures { open_fds, ..of(&stat, &status, &limits, &system) }
}

fn of(stat: &str, status: &str, limits: &str, system: &str) -> Figures {
    // pid (name) state …: the name may hold anything, also parentheses. Behind it the third field is the first.
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let ticks = |field: usize| fields.get(field - 3)?.trim().parse::<f64>().ok();
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
    };
    let booted = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    Figures {
        cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, kernel)| (user + kernel) / TICKS_A_SECOND),
        resident_bytes: kib("VmRSS:"),
        virtual_bytes: kib("VmSize:"),
        open_fds: None,
        max_fds: files.and_then(|line| line.split_whitespace().next()?.parse().ok()),
        start_unix_s: booted.zip(ticks(22)).map(|(booted, since)| booted + since / TICKS_A_SECOND),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 4 0 12345 1000000 500 18446744073709551615\n";
        let status = "Name:\tx\nVmSize:\t    1000 kB\nVmRSS:\t     12 kB\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n";
        let figures = of(stat, status, limits, "cpu  1 2 3\nbtime 1700000000\n");
        let expected = Figures {
            cpu_seconds: Some(3.0),
            resident_bytes: Some(12288.0),
            virtual_bytes: Some(1_024_000.0),
            open_fds: None,
            max_fds: Some(1024.0),
            start_unix_s: Some(1_700_000_123.45),
        };
        assert_eq!(figures, expected);
        assert_eq!(of("", "", "", ""), Figures::default());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_figures() {
        let figures = figures();
        assert!(figures.resident_bytes.is_some_and(|bytes| bytes > 100_000.0));
        assert!(figures.open_fds.is_some_and(|open| open >= 3.0) && figures.max_fds >= figures.open_fds);
        assert!(figures.start_unix_s.is_some_and(|start| start > 1.6e9) && figures.cpu_seconds.is_some());
    }
}
