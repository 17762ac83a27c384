//! `grpc.health.v1`: whether the stream can be had, asked at every call anew.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// Says whether it is so now.
pub type Ask = Arc<dyn Fn() -> bool + Send + Sync>;

/// What the states are made of.
#[derive(Clone)]
pub struct States {
    /// Whether the process is ready, as `/readyz` says it.
    pub ready: Ask,
    /// Whether changes can be subscribed to.
    pub serving: Ask,
}

/// How often a watched state is looked at.
const WATCH: Duration = Duration::from_secs(1);

pub struct Health(pub States);

/// The administration answers in any state.
fn state(states: &States, name: &str) -> ServingStatus {
    let serves = match name {
        "walbrook.v1.Admin" => true,
        "walbrook.v1.ChangeStream" => (states.serving)(),
        "" => (states.ready)(),
        _ => return ServingStatus::ServiceUnknown,
    };
    if serves { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[tonic::async_trait]
impl tonic_health::pb::health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        match state(&self.0, &name) {
            ServingStatus::ServiceUnknown => Err(Status::not_found(format!("there is no service {name:?}"))),
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    /// The state, and then every change of it.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (states, name) = (self.0.clone(), request.into_inner().service);
        let changes = stream::unfold(None, move |told| {
            let (states, name) = (states.clone(), name.clone());
            async move {
                loop {
                    let now = state(&states, &name);
                    if told != Some(now) {
                        return Some((Ok(HealthCheckResponse { status: now.into() }), Some(now)));
                    }
                    tokio::time::sleep(WATCH).await;
                }
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::StreamExt;
    use tonic_health::pb::health_server::Health as _;

    use super::*;

    #[tokio::test]
    async fn the_state_is_that_of_the_moment() {
        let serving = Arc::new(AtomicBool::new(false));
        let shared = serving.clone();
        let asked = move || shared.load(Ordering::SeqCst);
        let health = Health(States { ready: Arc::new(|| false), serving: Arc::new(asked) });
        let ask = |service: &str| Request::new(HealthCheckRequest { service: service.to_owned() });
        let status = |answer: HealthCheckResponse| answer.status();
        let stream = "walbrook.v1.ChangeStream";
        assert_eq!(status(health.check(ask(stream)).await.unwrap().into_inner()), ServingStatus::NotServing);
        assert_eq!(status(health.check(ask("walbrook.v1.Admin")).await.unwrap().into_inner()), ServingStatus::Serving);
        assert_eq!(health.check(ask("other")).await.unwrap_err().code(), tonic::Code::NotFound);
        let mut watched = health.watch(ask(stream)).await.unwrap().into_inner();
        assert_eq!(status(watched.next().await.unwrap().unwrap()), ServingStatus::NotServing);
        serving.store(true, Ordering::SeqCst);
        assert_eq!(status(watched.next().await.unwrap().unwrap()), ServingStatus::Serving);
        assert_eq!(status(health.check(ask(stream)).await.unwrap().into_inner()), ServingStatus::Serving);
        assert_eq!(status(health.check(ask("")).await.unwrap().into_inner()), ServingStatus::NotServing, "not ready");
    }
}
