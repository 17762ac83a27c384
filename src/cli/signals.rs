//! SIGINT, SIGTERM and SIGHUP.
//!
//! Invariants:
//! - The first one asks to stop; everything that stops does so by itself.
//! - The second one ends the process at once, as if it had not been caught: 128 and the signal's number.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Context, Result};

/// Becomes true when the process is asked to stop. Call within the runtime.
pub fn stop() -> Result<watch::Receiver<bool>> {
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut hangup = listen(SignalKind::hangup())?;
    let (sender, receiver) = watch::channel(false);
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
    Ok(receiver)
}

fn listen(kind: SignalKind) -> Result<Signal> {
    signal(kind).config(|| format!("listening for signal {}", kind.as_raw_value()))
}
