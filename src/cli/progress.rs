//! The progress line of a terminal: how far the snapshot is, then how fast the stream runs.
//!
//! Invariants:
//! - It reads [`Progress`] four times a second and touches nothing else.
//! - It is drawn on stderr, only when that is a terminal and no records go to the same one. Log lines go above it.

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::flow::{Phase, Progress};

/// Fast enough to look alive, slow enough to be read.
const INTERVAL: Duration = Duration::from_millis(250);
/// Rates are over the last two seconds: 8 readings.
const WINDOW: usize = 8;

/// The line that is drawn now, for log lines to go above.
static DRAWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Runs `print` while the progress line is out of the way.
pub fn above(print: impl FnOnce()) {
    let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match drawn {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// The drawn line; it goes away by Drop.
pub struct Line {
    task: tokio::task::JoinHandle<()>,
}

impl Line {
    /// None when it would not be seen or would be in the way. `on_stdout`: whether records go there.
    pub fn draw(progress: Arc<Progress>, on_stdout: bool) -> Option<Line> {
        if !io::stderr().is_terminal() || (on_stdout && io::stdout().is_terminal()) {
            return None;
        }
        progress.watch();
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
        *DRAWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(INTERVAL);
            let mut readings = Readings::default();
            loop {
                ticks.tick().await;
                readings.push(Reading::of(&progress));
                bar.set_message(readings.line());
            }
        });
        Some(Line { task })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
        let drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bar) = drawn {
            bar.finish_and_clear();
        }
    }
}

/// The numbers of one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    phase: Phase,
    tables: u64,
    tables_done: u64,
    rows: u64,
    rows_estimate: u64,
    events: u64,
    lag_bytes: u64,
    /// Microseconds between the commit read last and now, by two clocks.
    age_micros: Option<i64>,
}

impl Reading {
    fn of(progress: &Progress) -> Self {
        let now = jiff::Timestamp::now().as_microsecond();
        Reading {
            at: Instant::now(),
            phase: progress.phase(),
            tables: progress.snapshot_tables.get(),
            tables_done: progress.snapshot_tables_done.get(),
            rows: progress.snapshot_rows.get(),
            rows_estimate: progress.snapshot_rows_estimate.get(),
            events: progress.events.get(),
            lag_bytes: progress.lag_bytes(),
            age_micros: progress.last_commit_unix_micros().map(|commit| now.saturating_sub(commit).max(0)),
        }
    }
}

#[derive(Default)]
struct Readings {
    last: VecDeque<Reading>,
    /// When the first row of the snapshot had been read, and how many there were.
    snapshot_start: Option<(Instant, u64)>,
}

impl Readings {
    fn push(&mut self, reading: Reading) {
        if reading.rows > 0 && self.snapshot_start.is_none() {
            self.snapshot_start = Some((reading.at, reading.rows));
        }
        if self.last.len() > WINDOW {
            self.last.pop_front();
        }
        self.last.push_back(reading);
    }

    /// By the second, over the window.
    fn rate(&self, count: impl Fn(&Reading) -> u64) -> f64 {
        let (Some(first), Some(last)) = (self.last.front(), self.last.back()) else { return 0.0 };
        per_second(count(last).saturating_sub(count(first)), last.at - first.at)
    }

    fn line(&self) -> String {
        let Some(now) = self.last.back() else { return String::new() };
        match now.phase {
            Phase::Starting => "connecting".to_owned(),
            Phase::Snapshot => self.snapshot_line(now),
            Phase::Stream => {
                let (events, rate) = (grouped(now.events), grouped(self.rate(|reading| reading.events) as u64));
                let lag = match (now.lag_bytes, now.age_micros) {
                    (0, _) | (_, None) => bytes(now.lag_bytes),
                    (lag, Some(age)) => format!("{}, {:.1} s", bytes(lag), age as f64 / 1e6),
                };
                format!("stream: {events} events, {rate}/s, lag {lag}")
            }
            Phase::Draining => "stopping: delivering and storing what was read".to_owned(),
        }
    }

    fn snapshot_line(&self, now: &Reading) -> String {
        let rate = grouped(self.rate(|reading| reading.rows) as u64);
        let mut line = format!("snapshot: {} of {} tables, {} rows", now.tables_done, now.tables, grouped(now.rows));
        // An estimate that is passed already says nothing.
        let left = now.rows_estimate.saturating_sub(now.rows);
        if left > 0 {
            line += &format!(" of about {} ({} %)", grouped(now.rows_estimate), now.rows * 100 / now.rows_estimate);
        }
        line += &format!(", {rate}/s");
        if let (true, Some((start, at_start))) = (left > 0, self.snapshot_start) {
            let average = per_second(now.rows.saturating_sub(at_start), now.at - start);
            if average > 0.0 {
                line += &format!(", {} left", clock((left as f64 / average) as u64));
            }
        }
        line
    }
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

/// `0:07`, `1:02:03`.
fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at: Instant, rows: u64, events: u64) -> Reading {
        Reading {
            at,
            phase: Phase::Snapshot,
            tables: 3,
            tables_done: 1,
            rows,
            rows_estimate: 1_000_000,
            events,
            lag_bytes: 0,
            age_micros: None,
        }
    }

    #[test]
    fn lines_say_how_far_how_fast_and_how_long() {
        let start = Instant::now();
        let mut readings = Readings::default();
        readings.push(reading(start, 1, 0));
        readings.push(reading(start + Duration::from_secs(1), 250_001, 0));
        assert_eq!(
            readings.line(),
            "snapshot: 1 of 3 tables, 250,001 rows of about 1,000,000 (25 %), 250,000/s, 0:02 left"
        );
        readings.push(reading(start + Duration::from_secs(2), 1_200_000, 0));
        assert_eq!(readings.line(), "snapshot: 1 of 3 tables, 1,200,000 rows, 599,999/s");
        let mut stream = Readings::default();
        let mut last = reading(start, 0, 0);
        last.phase = Phase::Stream;
        stream.push(last);
        (last.at, last.events, last.lag_bytes, last.age_micros) =
            (start + Duration::from_millis(500), 1500, 3 << 20, Some(1_250_000));
        stream.push(last);
        assert_eq!(stream.line(), "stream: 1,500 events, 3,000/s, lag 3.0 MiB, 1.2 s");
    }

    #[test]
    fn numbers_are_grouped_and_times_are_clocks() {
        assert_eq!(
            ["0", "999", "1,000", "12,345,678"],
            [0, 999, 1000, 12_345_678].map(grouped).each_ref().map(|s| s.as_str())
        );
        assert_eq!(["0:07", "1:02:03"], [7, 3723].map(clock).each_ref().map(|s| s.as_str()));
    }
}
