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

use super::Served;
use super::status::{invalid, status};
use super::subscribe::{Peers, check_name, from_wire, identity, owner};
use crate::encode::proto::position;
use crate::flow::{Member, Role};
use crate::pipeline::{ConsumerStatus, NewOffset, NewTable};
use crate::proto::v1::{self, admin_server, member};
use crate::record::{Lineage, Position};
use crate::source::tables::Selection;
use crate::source::{Admission, Source, Streamed, Verdict};

/// Asks the process to stop, as SIGTERM does.
pub type Stop = Arc<dyn Fn() + Send + Sync>;

/// What a question to the database may take, or an order to the stream.
const PATIENCE: Duration = Duration::from_secs(30);
/// Each asks the database once; more callers wait for their turn.
const QUESTIONS_MAX: usize = 2;

pub struct Admin {
    served: Served,
    peers: Arc<Peers>,
    started: Instant,
    questions: tokio::sync::Semaphore,
}

type Answer<T> = Result<Response<T>, Status>;

/// Whom a request is about.
enum Target {
    /// As configured.
    Sink(Arc<Member>),
    /// A durable one.
    Consumer(ConsumerStatus),
}

impl Target {
    fn member(&self) -> member::Member {
        match self {
            Target::Sink(sink) => member::Member::Sink(sink.name.clone()),
            Target::Consumer(consumer) => member::Member::Consumer(consumer.name.clone()),
        }
    }

    /// What is stored of it.
    fn position(&self) -> Option<Position> {
        match self {
            Target::Sink(sink) => sink.position(),
            Target::Consumer(consumer) => consumer.position.clone(),
        }
    }

    /// Errors: FAILED_PRECONDITION, for one that moves.
    fn stands(&self) -> Result<(), Status> {
        match self {
            Target::Sink(sink) if !sink.is_paused() => {
                Err(Status::failed_precondition(format!("sink {} is not paused: Pause it, and try again", sink.name)))
            }
            Target::Consumer(consumer) if consumer.attached => Err(Status::failed_precondition(format!(
                "a client is attached to consumer {}: end it, or Pause the consumer, and try again",
                consumer.name
            ))),
            Target::Sink(_) | Target::Consumer(_) => Ok(()),
        }
    }

    /// Errors: FAILED_PRECONDITION where something else is stored than the caller thinks.
    fn guard(&self, expected: Option<&Position>) -> Result<(), Status> {
        let stored = self.position();
        if expected == stored.as_ref() {
            return Ok(());
        }
        let shown = |position: Option<&Position>| position.map_or("nothing".to_owned(), ToString::to_string);
        Err(Status::failed_precondition(format!(
            "`expected` is {}, and stored is {}; look at GetOffsets again",
            shown(expected),
            shown(stored.as_ref())
        )))
    }
}

impl Admin {
    pub fn new(served: Served, peers: Arc<Peers>) -> Admin {
        Admin { served, peers, started: Instant::now(), questions: tokio::sync::Semaphore::new(QUESTIONS_MAX) }
    }

    fn lineage(&self) -> Result<Lineage, Status> {
        self.served.progress.lineage().ok_or_else(|| Status::unavailable("the database was not reached yet; ask again"))
    }

    /// Whom a request means, as it is now. Errors: INVALID_ARGUMENT, NOT_FOUND.
    fn target(&self, member: Option<v1::Member>) -> Result<Target, Status> {
        match member.and_then(|member| member.member) {
            Some(member::Member::Sink(name)) if self.served.sinks.contains(&name) => {
                Ok(Target::Sink(self.served.progress.member(Role::Sink, &name)))
            }
            Some(member::Member::Sink(name)) => Err(Status::not_found(format!("there is no sink {name:?}"))),
            Some(member::Member::Consumer(name)) => {
                check_name(&name)?;
                let mut consumers = self.served.hub.consumers().into_iter();
                let found = consumers.find(|consumer| consumer.durable && consumer.name == name);
                found.map(Target::Consumer).ok_or_else(|| {
                    Status::not_found(format!("there is no durable consumer {name:?}; GetStatus lists them"))
                })
            }
            None => Err(Status::invalid_argument("the request names no member")),
        }
    }

    /// A position of a request. Errors: INVALID_ARGUMENT; UNAVAILABLE, where it is not known yet whose they are.
    fn read(&self, position: Option<v1::Position>) -> Result<Option<Position>, Status> {
        let lineage = self.lineage()?;
        position.map(|position| from_wire(&position, &lineage)).transpose()
    }

    /// An order that the pipeline has to stop for.
    async fn ordered<T>(&self, order: impl Future<Output = crate::error::Result<T>>) -> Result<T, Status> {
        let done = tokio::time::timeout(PATIENCE, order).await.map_err(|_| {
            let patience_s = PATIENCE.as_secs();
            Status::unavailable(format!(
                "the stream could not be stopped for it within {patience_s} s: its source is away, or a snapshot runs"
            ))
        })?;
        done.map_err(|error| status(&error))
    }

    /// The tables that are streamed, as the database has them now.
    async fn tables(&self) -> Result<Vec<Streamed>, Status> {
        let state = self.served.control.state().map_err(|error| status(&error))?;
        let found = self.ask(|mut source| async move {
            let found = source.tables(&state).await;
            (source, found)
        });
        found.await
    }

    async fn place_sink(
        &self,
        sink: &Member,
        expected: Option<Position>,
        position: Option<Position>,
    ) -> Result<(), Status> {
        self.ordered(self.served.control.place(NewOffset { sink: sink.name.clone(), expected, position })).await
    }

    /// Asks the database by a connection of its own; `question` gives the source back, to be closed.
    async fn ask<T, F>(&self, question: impl FnOnce(Box<dyn Source>) -> F) -> Result<T, Status>
    where
        F: Future<Output = (Box<dyn Source>, crate::error::Result<T>)> + Send,
    {
        let _turn = self.questions.acquire().await.map_err(|_| Status::unavailable("Walbrook is stopping"))?;
        let source = self.served.lanes.open(false).map_err(|error| status(&error))?;
        let answering = question(source);
        let asked = tokio::time::timeout(PATIENCE, async {
            let (mut source, answer) = answering.await;
            if let Err(error) = source.close(None).await {
                tracing::debug!(?error, "leaving the source");
            }
            answer
        });
        let answer = asked.await.map_err(|_| {
            Status::unavailable(format!("the database has not answered within {} s", PATIENCE.as_secs()))
        })?;
        answer.map_err(|error| status(&error))
    }

    async fn offset(&self, member: member::Member, at: Option<Position>, verify: bool) -> Result<v1::Offset, Status> {
        let lineage = self.lineage()?;
        let (mut coverage, mut verdict) = (v1::Coverage::Unspecified, String::new());
        if let Some(at) = at.as_ref().filter(|_| verify) {
            let (lineage, at) = (lineage.clone(), at.clone());
            let told = self.ask(|mut source| async move {
                let told = async {
                    source.lineage().await?;
                    source.retention(&lineage, &at).await
                };
                let told = told.await;
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
        let lineage = self.served.progress.lineage();
        let of = lineage.as_ref().map_or(0, owner);
        // Before the pipeline is up nobody knows.
        let added = self.served.control.added().unwrap_or_default();
        let sinks = self.served.sinks.iter().map(|name| {
            let member = self.served.progress.member(Role::Sink, name);
            show::sink(&member, &self.served.progress, of)
        });
        Ok(Response::new(v1::GetStatusResponse {
            server: lineage.as_ref().map(identity),
            source: Some(v1::SourceStatus {
                added_tables: added.iter().map(|table| show::added(table, of)).collect(),
                ..show::source(&self.served.progress, self.served.hub.read_up_to().as_ref(), of)
            }),
            sinks: sinks.collect(),
            consumers: self
                .served
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
        let wanted = Selection::new(&self.served.names, &request.get_ref().tables, none, none, none);
        let wanted = wanted.map_err(|error| invalid(&error))?;
        let found = self.tables().await?;
        let totals = self.served.progress.traffic.totals();
        let wanted = found.iter().filter(|table| wanted.wants(&table.schema.namespace, &table.schema.name));
        Ok(Response::new(v1::ListTablesResponse { tables: wanted.map(|table| show::table(table, &totals)).collect() }))
    }

    async fn get_offsets(&self, request: Request<v1::GetOffsetsRequest>) -> Answer<v1::GetOffsetsResponse> {
        let verify = request.get_ref().verify;
        let mut offsets = Vec::new();
        for name in &self.served.sinks {
            let at = self.served.progress.member(Role::Sink, name).position();
            offsets.push(self.offset(member::Member::Sink(name.clone()), at, verify).await?);
        }
        for consumer in self.served.hub.consumers().into_iter().filter(|consumer| consumer.durable) {
            offsets.push(self.offset(member::Member::Consumer(consumer.name), consumer.position, verify).await?);
        }
        Ok(Response::new(v1::GetOffsetsResponse { offsets }))
    }

    async fn set_offset(&self, request: Request<v1::SetOffsetRequest>) -> Answer<v1::SetOffsetResponse> {
        let v1::SetOffsetRequest { member, position, expected } = request.into_inner();
        let (target, expected) = (self.target(member)?, self.read(expected)?);
        let position = self.read(position)?.ok_or_else(|| Status::invalid_argument("the request has no `position`"))?;
        target.stands()?;
        target.guard(expected.as_ref())?;
        match &target {
            Target::Consumer(consumer) => {
                self.served.hub.set(&consumer.name, position.clone()).await.map_err(|error| status(&error))?;
            }
            Target::Sink(sink) => {
                let found = self.offset(target.member(), Some(position.clone()), true).await?;
                if found.coverage() != v1::Coverage::Valid {
                    return Err(Status::out_of_range(found.verdict));
                }
                self.place_sink(sink, expected, Some(position.clone())).await?;
            }
        }
        let offset = self.offset(target.member(), Some(position), false).await?;
        Ok(Response::new(v1::SetOffsetResponse { offset: Some(offset) }))
    }

    async fn reset_offset(&self, request: Request<v1::ResetOffsetRequest>) -> Answer<v1::ResetOffsetResponse> {
        let v1::ResetOffsetRequest { member, expected } = request.into_inner();
        let (target, expected) = (self.target(member)?, self.read(expected)?);
        target.stands()?;
        target.guard(expected.as_ref())?;
        match &target {
            Target::Consumer(consumer) => {
                self.served.hub.drop_consumer(&consumer.name).await.map_err(|error| status(&error))?;
            }
            Target::Sink(sink) => self.place_sink(sink, expected, None).await?,
        }
        Ok(Response::new(v1::ResetOffsetResponse {}))
    }

    async fn pause(&self, request: Request<v1::PauseRequest>) -> Answer<v1::PauseResponse> {
        match self.target(request.into_inner().member)? {
            Target::Sink(sink) => self.served.control.pause(&sink.name, true).await,
            Target::Consumer(consumer) => self.served.hub.pause(&consumer.name).await,
        }
        .map_err(|error| status(&error))?;
        Ok(Response::new(v1::PauseResponse {}))
    }

    async fn resume(&self, request: Request<v1::ResumeRequest>) -> Answer<v1::ResumeResponse> {
        match self.target(request.into_inner().member)? {
            Target::Sink(sink) => self.served.control.pause(&sink.name, false).await,
            Target::Consumer(consumer) => self.served.hub.resume(&consumer.name).await,
        }
        .map_err(|error| status(&error))?;
        Ok(Response::new(v1::ResumeResponse {}))
    }

    async fn add_table(&self, request: Request<v1::AddTableRequest>) -> Answer<v1::AddTableResponse> {
        let v1::AddTableRequest { namespace, name, snapshot } = request.into_inner();
        if namespace.is_empty() || name.is_empty() {
            return Err(Status::invalid_argument("the request has no `namespace`, or no `name`"));
        }
        let lineage = self.lineage()?;
        let (of, called) = (namespace.clone(), name.clone());
        let admitted = self.ask(|mut source| async move {
            let admitted = source.admit(&of, &called).await;
            (source, admitted)
        });
        let from = match admitted.await? {
            Admission::Admitted(from) => from,
            Admission::Unknown => {
                return Err(Status::not_found(format!(
                    "there is no table {namespace}.{name}, or the account may not read it: GRANT SELECT"
                )));
            }
            Admission::Streamed => {
                return Err(Status::failed_precondition(format!("{namespace}.{name} is streamed already")));
            }
        };
        let table = NewTable { called: (namespace.clone(), name.clone()), from, takes_rows: snapshot };
        let from = self.ordered(self.served.control.add(table)).await?;
        let is_it = |table: &&Streamed| *table.schema.namespace == *namespace && *table.schema.name == *name;
        let schema = self.tables().await?.iter().find(is_it).map(show::shape);
        Ok(Response::new(v1::AddTableResponse { schema, from: Some(position(&from, owner(&lineage))) }))
    }

    async fn remove_table(&self, request: Request<v1::RemoveTableRequest>) -> Answer<v1::RemoveTableResponse> {
        let v1::RemoveTableRequest { namespace, name } = request.into_inner();
        self.ordered(self.served.control.remove((namespace, name))).await?;
        Ok(Response::new(v1::RemoveTableResponse {}))
    }

    async fn shutdown(&self, request: Request<v1::ShutdownRequest>) -> Answer<v1::ShutdownResponse> {
        // Whoever wrote it may not write lines of the log.
        let reason: String =
            request.get_ref().reason.chars().filter(|c| !c.is_control()).take(REASON_MAX_CHARS).collect();
        tracing::info!(reason, "stopping, as Admin.Shutdown asks: what was read is delivered and stored");
        (self.served.stop)();
        Ok(Response::new(v1::ShutdownResponse {}))
    }
}

/// A line of the log.
const REASON_MAX_CHARS: usize = 200;
