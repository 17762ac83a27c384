//! `tail` and `run`: a pipeline from its first connection to its last stored position.

use std::sync::Arc;

use tokio::sync::watch;

use super::plan::Stream;
use super::{build, footprint, progress, signals};
use crate::error::{Error, Result};
use crate::flow::Progress;
use crate::pipeline::Outcome;
use crate::server::http::Http;
use crate::sink::reader_went_away;
use crate::source::tables::Added;

pub async fn run(stream: Stream) -> Result<()> {
    let stop = signals::stop()?;
    let progress = Arc::new(Progress::default());
    // First of all, so that it can be asked how the start goes; and until the end.
    let _http = match &stream.config.http {
        Some(http) => match Http::start(&http.listen, progress.clone()).await {
            Ok(http) => Some(http),
            Err(error) if http.asked_for => return Err(error),
            Err(error) => {
                tracing::warn!(?error, "no metrics and no health by HTTP");
                None
            }
        },
        None => None,
    };
    // What cannot listen is found out before anything is made.
    let added = Added::default();
    let grpc = build::grpc(&stream.config, &added, progress.clone(), stop.clone()).await?;
    let pipeline = build::pipeline(&stream, &added, progress.clone(), stop.subscribe())?;
    tokio::spawn(footprint::after_start(progress.clone()));
    let ended = watch::Sender::new(false);
    let (pipeline, serving) = match grpc {
        None => (pipeline, None),
        Some((hub, control, server)) => {
            (pipeline.serving(hub).obeying(control), Some(tokio::spawn(server.serve(ended.subscribe()))))
        }
    };
    let on_stdout = stream.config.sinks.iter().any(|sink| sink.type_name == "stdout");
    let line = if stream.shows_progress { progress::Line::draw(progress.clone(), on_stdout) } else { None };
    let result = pipeline.run().await;
    drop(line);
    ended.send_replace(true);
    if let Some(serving) = serving
        && let Err(error) = serving.await
    {
        tracing::error!(%error, "the gRPC server's task panicked");
    }
    let delivered = progress.delivered.get();
    match result {
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
