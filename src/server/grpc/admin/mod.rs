//! `walbrook.v1.Admin`: how things are, and what an operator may change while the process runs.
//!
//! Invariants:
//! - Nothing is said that is not known: what this process cannot tell is absent.
//! - What cannot be done while it runs is refused with what to do instead.
//! - A position is changed only by somebody who knows what is stored: every change has its guard.

mod show;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::{Request, Response, Status};

use super::status::{invalid, status};
use super::subscribe::{Peers, check_name, from_wire, identity, owner};
use crate::encode::proto::position;
use crate::flow::{Progress, Role};
use crate::pipeline::{ConsumerStatus, Hub};
use crate::proto::v1::{self, admin_server, member};
use crate::record::{Lineage, Position};
use crate::source::tables::{Names, Selection};
use crate::source::{Lanes, Source, Verdict};

/// Asks the process to stop, as SIGTERM does.
pub type Stop = Arc<dyn Fn() + Send + Sync>;

/// What a question to the database may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Each asks the database once; more callers wait for their turn.
const QUESTIONS_MAX: usize = 2;

pub struct Admin {
    hub: Hub,
    progress: Arc<Progress>,
    lanes: Arc<dyn Lanes>,
    names: Names<'static>,
    /// In the configuration's order.
    sinks: Vec<String>,
    stop: Stop,
    peers: Arc<Peers>,
    started: Instant,
    questions: tokio::sync::Semaphore,
}

type Answer<T> = Result<Response<T>, Status>;

impl Admin {
    pub fn new(
        hub: Hub,
        progress: Arc<Progress>,
        lanes: Arc<dyn Lanes>,
        names: Names<'static>,
        sinks: Vec<String>,
        stop: Stop,
        peers: Arc<Peers>,
    ) -> Admin {
        let questions = tokio::sync::Semaphore::new(QUESTIONS_MAX);
        Admin { hub, progress, lanes, names, sinks, stop, peers, started: Instant::now(), questions }
    }

    fn lineage(&self) -> Result<Lineage, Status> {
        self.progress.lineage().ok_or_else(|| Status::unavailable("the database was not reached yet; ask again"))
    }

    /// A durable consumer as it is now. Errors: INVALID_ARGUMENT, NOT_FOUND.
    fn consumer(&self, name: &str) -> Result<ConsumerStatus, Status> {
        check_name(name)?;
        let found = self.hub.consumers().into_iter().find(|consumer| consumer.durable && consumer.name == name);
        found.ok_or_else(|| Status::not_found(format!("there is no durable consumer {name:?}; GetStatus lists them")))
    }

    /// The consumer of a request; `what` cannot be done to a sink. Errors: INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION.
    fn member(&self, member: Option<v1::Member>, of_a_sink: &str) -> Result<ConsumerStatus, Status> {
        match member.and_then(|member| member.member) {
            Some(member::Member::Consumer(name)) => self.consumer(&name),
            Some(member::Member::Sink(name)) if self.sinks.contains(&name) => {
                Err(Status::failed_precondition(of_a_sink))
            }
            Some(member::Member::Sink(name)) => Err(Status::not_found(format!("there is no sink {name:?}"))),
            None => Err(Status::invalid_argument("the request names no member")),
        }
    }

    /// Errors: FAILED_PRECONDITION where something else is stored than the caller thinks.
    fn guard(&self, consumer: &ConsumerStatus, expected: Option<&v1::Position>) -> Result<(), Status> {
        let lineage = self.lineage()?;
        let expected = expected.map(|position| from_wire(position, &lineage)).transpose()?;
        if expected == consumer.position {
            return Ok(());
        }
        let shown = |position: &Option<Position>| position.as_ref().map_or("nothing".to_owned(), ToString::to_string);
        Err(Status::failed_precondition(format!(
            "`expected` is {}, and stored of consumer {} is {}; look at GetOffsets again",
            shown(&expected),
            consumer.name,
            shown(&consumer.position)
        )))
    }

    /// Asks the database by a connection of its own; `question` gives the source back, to be closed.
    async fn ask<T, F>(&self, question: impl FnOnce(Box<dyn Source>) -> F) -> Result<T, Status>
    where
        F: Future<Output = (Box<dyn Source>, crate::error::Result<T>)> + Send,
    {
        let _turn = self.questions.acquire().await.map_err(|_| Status::unavailable("Walbrook is stopping"))?;
        let source = self.lanes.open(false).map_err(|error| status(&error))?;
        let answering = question(source);
        let asked = tokio::time::timeout(PATIENCE, async {
            let (mut source, answer) = answering.await;
            if let Err(error) = source.close(None).await {
                tracing::debug!(?error, "leaving the source");
            }
            answer
        });
        let answer = asked.await.map_err(|_| Status::unavailable("the database has not answered within 30 s"))?;
        answer.map_err(|error| status(&error))
    }

    async fn offset(&self, member: member::Member, at: Option<Position>, verify: bool) -> Result<v1::Offset, Status> {
        let lineage = self.lineage()?;
        let (mut coverage, mut verdict) = (v1::Coverage::Unspecified, String::new());
        if let Some(at) = at.as_ref().filter(|_| verify) {
            let (lineage, at) = (lineage.clone(), at.clone());
            let told = self.ask(|mut source| async move {
                let met = source.lineage().await;
                let told = match met {
                    Ok(_) => source.retention(&lineage, &at).await,
                    Err(error) => Err(error),
                };
                (source, told)
            });
            match told.await? {
                Verdict::Valid => coverage = v1::Coverage::Valid,
                Verdict::Lost(gap) => (coverage, verdict) = (v1::Coverage::Lost, gap.to_string()),
            }
        }
        Ok(v1::Offset {
            member: Some(v1::Member { member: Some(member) }),
            position: at.map(|at| position(&at, owner(&lineage))),
            coverage: coverage.into(),
            verdict,
        })
    }
}

#[tonic::async_trait]
impl admin_server::Admin for Admin {
    async fn get_status(&self, _: Request<v1::GetStatusRequest>) -> Answer<v1::GetStatusResponse> {
        let lineage = self.progress.lineage();
        let of = lineage.as_ref().map_or(0, owner);
        let sinks = self.sinks.iter().map(|name| {
            let member = self.progress.member(Role::Sink, name);
            show::sink(&member, &self.progress, of)
        });
        Ok(Response::new(v1::GetStatusResponse {
            server: lineage.as_ref().map(identity),
            source: Some(show::source(&self.progress, of)),
            sinks: sinks.collect(),
            consumers: self
                .hub
                .consumers()
                .into_iter()
                .map(|consumer| show::consumer(consumer, &self.peers, of))
                .collect(),
            uptime_s: self.started.elapsed().as_secs(),
        }))
    }

    async fn list_tables(&self, request: Request<v1::ListTablesRequest>) -> Answer<v1::ListTablesResponse> {
        let none: &[String] = &[];
        let wanted = Selection::new(&self.names, &request.get_ref().tables, none, none, none);
        let wanted = wanted.map_err(|error| invalid(&error))?;
        let found = self.ask(|mut source| async move {
            let found = source.discover().await;
            (source, found)
        });
        let found = found.await?;
        let totals = self.progress.traffic.totals();
        Ok(Response::new(v1::ListTablesResponse { tables: show::tables(&found, &wanted, &totals) }))
    }

    async fn get_offsets(&self, request: Request<v1::GetOffsetsRequest>) -> Answer<v1::GetOffsetsResponse> {
        let verify = request.get_ref().verify;
        let mut offsets = Vec::new();
        for name in &self.sinks {
            let at = self.progress.member(Role::Sink, name).position();
            offsets.push(self.offset(member::Member::Sink(name.clone()), at, verify).await?);
        }
        for consumer in self.hub.consumers().into_iter().filter(|consumer| consumer.durable) {
            offsets.push(self.offset(member::Member::Consumer(consumer.name), consumer.position, verify).await?);
        }
        Ok(Response::new(v1::GetOffsetsResponse { offsets }))
    }

    async fn set_offset(&self, request: Request<v1::SetOffsetRequest>) -> Answer<v1::SetOffsetResponse> {
        let v1::SetOffsetRequest { member, position, expected } = request.into_inner();
        let consumer = self.member(
            member,
            "the offset of a sink cannot be changed while Walbrook runs: stop it, and use `walbrook offsets set`",
        )?;
        let Some(position) = position else { return Err(Status::invalid_argument("the request has no `position`")) };
        let position = from_wire(&position, &self.lineage()?)?;
        if consumer.attached {
            return Err(Status::failed_precondition(format!(
                "a client is attached to consumer {}: end it, or Pause the consumer, and try again",
                consumer.name
            )));
        }
        self.guard(&consumer, expected.as_ref())?;
        self.hub.set(&consumer.name, position.clone()).await.map_err(|error| status(&error))?;
        let offset = self.offset(member::Member::Consumer(consumer.name), Some(position), false).await?;
        Ok(Response::new(v1::SetOffsetResponse { offset: Some(offset) }))
    }

    async fn reset_offset(&self, request: Request<v1::ResetOffsetRequest>) -> Answer<v1::ResetOffsetResponse> {
        let v1::ResetOffsetRequest { member, expected } = request.into_inner();
        let consumer = self.member(
            member,
            "the offset of a sink cannot be removed while Walbrook runs: stop it, take the sink out of the configuration, \
             and run it once without",
        )?;
        if consumer.attached {
            return Err(Status::failed_precondition(format!(
                "a client is attached to consumer {}: end it, or Pause the consumer, and try again",
                consumer.name
            )));
        }
        self.guard(&consumer, expected.as_ref())?;
        self.hub.drop_consumer(&consumer.name).await.map_err(|error| status(&error))?;
        Ok(Response::new(v1::ResetOffsetResponse {}))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Answer<v1::PauseResponse> {
        let consumer = self.member(
            request.into_inner().member,
            "a sink cannot be paused while Walbrook runs: stop it, or take the sink out of the configuration",
        )?;
        self.hub.pause(&consumer.name).await.map_err(|error| status(&error))?;
        Ok(Response::new(v1::PauseResponse {}))
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Answer<v1::ResumeResponse> {
        let consumer = self.member(request.into_inner().member, "a sink is never paused")?;
        self.hub.resume(&consumer.name).await.map_err(|error| status(&error))?;
        Ok(Response::new(v1::ResumeResponse {}))
    }

    async fn add_table(&self, request: Request<v1::AddTableRequest>) -> Answer<v1::AddTableResponse> {
        let v1::AddTableRequest { namespace, name, .. } = request.into_inner();
        if name.is_empty() {
            return Err(Status::invalid_argument("the request has no `name`"));
        }
        Err(Status::failed_precondition(format!(
            "{namespace}.{name} cannot be added while Walbrook runs: add it to source.tables (Postgres: and to the \
             publication, by ALTER PUBLICATION … ADD TABLE), and start Walbrook again; consumers go on where they are"
        )))
    }

    async fn shutdown(&self, request: Request<v1::ShutdownRequest>) -> Answer<v1::ShutdownResponse> {
        // Whoever wrote it may not write lines of the log.
        let reason: String =
            request.get_ref().reason.chars().filter(|c| !c.is_control()).take(REASON_MAX_CHARS).collect();
        tracing::info!(reason, "stopping, as Admin.Shutdown asks: what was read is delivered and stored");
        (self.stop)();
        Ok(Response::new(v1::ShutdownResponse {}))
    }
}

/// A line of the log.
const REASON_MAX_CHARS: usize = 200;
