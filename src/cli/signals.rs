//! SIGINT, SIGTERM and SIGHUP.
//!
//! Invariants:
//! - The first one asks to stop; everything that stops does so by itself.
//! - The second one ends the process at once, as if it had not been caught: 128 and the signal's number.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Context, Result};

/// Becomes true when the process is asked to stop, by a signal or by whoever sends true. Call within the runtime.
pub fn stop() -> Result<watch::Sender<bool>> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let sender = watch::Sender::new(false);
    let asked = sender.clone();
    tokio::spawn(async move {
        loop {
            let kind = tokio::select! {
                Some(()) = interrupt.recv() => SignalKind::interrupt(),
                Some(()) = terminate.recv() => SignalKind::terminate(),
                Some(()) = hangup.recv() => SignalKind::hangup(),
                else => return,
            };
            let number = kind.as_raw_value();
            if *sender.borrow() {
                std::process::exit(128 + number);
            }
            tracing::info!(
                signal = number,
                "stopping: what was read is delivered and stored; once more to stop at once"
            );
            sender.send_replace(true);
        }
    });
    Ok(asked)
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).config(|| format!("listening for signal {}", kind.as_raw_value()))
}
