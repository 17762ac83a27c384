//! `tail` and `run`: a pipeline from its first connection to its last stored position.

use std::sync::Arc;

use super::plan::Stream;
use super::{build, progress, signals};
use crate::error::{Error, Result};
use crate::flow::Progress;
use crate::pipeline::Outcome;
use crate::sink::reader_went_away;

pub async fn run(stream: Stream) -> Result<()> {
    let stop = signals::stop()?;
    let progress = Arc::new(Progress::default());
    let pipeline = build::pipeline(&stream, progress.clone(), stop)?;
    let on_stdout = stream.config.sinks.iter().any(|sink| sink.type_name == "stdout");
    let line = if stream.shows_progress { progress::Line::draw(progress.clone(), on_stdout) } else { None };
    let ended = pipeline.run().await;
    drop(line);
    let delivered = progress.delivered.get();
    match ended {
        Ok(outcome) => {
            let how = match outcome {
                Outcome::Reached => "everything asked for is delivered",
                Outcome::LimitReached => "the limit is reached",
                Outcome::Stopped => "stopped as asked",
            };
            tracing::info!(delivered, "{how}");
            Ok(())
        }
        // `walbrook tail … | head` has what it wanted. A process that runs for good has lost its sink.
        Err(error) if reader_went_away(&error) => {
            if stream.wait_for_server {
                return Err(Error::data("the reader of stdout went away").because(error));
            }
            tracing::info!(delivered, "the reader of stdout went away");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
