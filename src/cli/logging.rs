//! Logs: to stderr, as text or JSON.
//!
//! Invariants:
//! - A line is written in one piece, above the progress line where there is one.
//! - Nothing is logged to stdout: that is where records go.

use std::io::{self, IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use super::args::LogArgs;
use super::progress;
use crate::config::{LogFormat, RawLog};
use crate::error::{Context, Result};

/// What the command line says, where it says something, else what the configuration says.
pub fn choose(args: &LogArgs, config: Option<&RawLog>) -> RawLog {
    let configured = config.cloned().unwrap_or_default();
    let level = match (args.verbose, args.quiet) {
        (0, 0) => args.log_level.clone().unwrap_or(configured.level),
        (0, 1) => "warn".to_owned(),
        (0, _) => "error".to_owned(),
        (1, _) => "debug".to_owned(),
        _ => "trace".to_owned(),
    };
    RawLog { format: args.log_format.unwrap_or(configured.format), level }
}

/// Errors: `Config` when the level cannot be read. Call once.
pub fn start(log: &RawLog) -> Result<()> {
    let filter = EnvFilter::builder().parse(&log.level).config(|| {
        format!("reading the log level {:?}: a level (error, warn, info, debug, trace) or directives", log.level)
    })?;
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Stderr).with_ansi(colours);
    let started = match log.format {
        LogFormat::Text => builder.with_target(false).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.config(|| "starting the log".to_owned())
}

struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Line;
    fn make_writer(&'a self) -> Line {
        Line
    }
}

/// One log line; the subscriber writes it at once.
struct Line;

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Nobody reads the log any more: no reason to end the stream.
        progress::above(|| drop(io::stderr().write_all(bytes)));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins() {
        let args = |verbose, quiet, level: Option<&str>| LogArgs {
            log_format: None,
            log_level: level.map(str::to_owned),
            verbose,
            quiet,
        };
        let config = RawLog { format: LogFormat::Json, level: "error".to_owned() };
        assert_eq!(choose(&args(0, 0, None), None).level, "info");
        assert_eq!(choose(&args(0, 0, None), Some(&config)).level, "error");
        assert_eq!(choose(&args(0, 0, Some("trace")), Some(&config)).level, "trace");
        assert_eq!(choose(&args(1, 0, None), Some(&config)).level, "debug");
        assert_eq!(choose(&args(0, 2, None), None).level, "error");
        assert_eq!(choose(&args(0, 0, None), Some(&config)).format, LogFormat::Json);
    }
}
