//! A durable consumer: prints a line of JSON for every change, and acknowledges what it has printed.
//!
//! In a crate of your own `tonic_prost_build` makes the module `v1` of the files in `proto/`.

use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;

use clap::Parser;
use serde_json::{Map, Value as Json, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use walbrook::proto::v1;
use walbrook::proto::v1::change_stream_client::ChangeStreamClient;
use walbrook::proto::v1::subscribe_request::Request as Say;
use walbrook::proto::v1::subscribe_response::Response as Said;
use walbrook::proto::v1::value::Kind;

#[derive(Parser)]
struct Options {
    /// HOST:PORT of the sidecar
    address: String,
    /// The name under which the position is stored
    #[arg(long)]
    consumer: String,
    /// Begin with the rows when nothing is stored yet
    #[arg(long)]
    snapshot: bool,
    /// A pattern of wanted tables
    #[arg(long)]
    tables: Vec<String>,
    /// A bearer token
    #[arg(long)]
    token: Option<String>,
    /// End after so many changes
    #[arg(long)]
    limit: Option<u64>,
}

/// A cell as JSON has it; a program would use the types it works with.
fn value(cell: &v1::Value) -> Json {
    match &cell.kind {
        None => Json::Null,
        Some(Kind::Special(special)) => match v1::Special::try_from(*special) {
            Ok(v1::Special::Infinity) => json!("infinity"),
            Ok(v1::Special::NegativeInfinity) => json!("-infinity"),
            _ => Json::Null,
        },
        Some(Kind::Boolean(value)) => json!(value),
        Some(Kind::Integer(value)) => json!(value),
        Some(Kind::Unsigned(value)) => json!(value),
        Some(Kind::Float32(value)) => json!(value),
        Some(Kind::Float64(value)) => json!(value),
        Some(Kind::Decimal(text) | Kind::Text(text)) => json!(text),
        Some(Kind::Json(text)) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        Some(Kind::Bytes(bytes) | Kind::Uuid(bytes)) => {
            json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        Some(Kind::Date(days)) => json!(days),
        Some(Kind::Timestamp(micros) | Kind::Timestamptz(micros)) => json!(micros),
        Some(Kind::Array(array)) => array.elements.iter().map(value).collect(),
    }
}

/// Column by column, without what did not come: what is unchanged or missing is not NULL.
fn row(schema: &v1::TableSchema, row: &v1::Row) -> Json {
    let absent = [Some(Kind::Special(v1::Special::Unchanged as i32)), Some(Kind::Special(v1::Special::Missing as i32))];
    let cells = schema.columns.iter().zip(&row.values).filter(|(_, cell)| !absent.contains(&cell.kind));
    Json::Object(cells.map(|(column, cell)| (column.name.clone(), value(cell))).collect())
}

struct Consumer {
    options: Options,
    /// The order key of the last change printed: what comes again is not behind it.
    last: (Vec<u8>, u64),
    printed: u64,
}

impl Consumer {
    fn done(&self) -> bool {
        self.options.limit.is_some_and(|limit| self.printed >= limit)
    }

    fn opening(&self) -> v1::Open {
        let otherwise = if self.options.snapshot { v1::Start::Snapshot } else { v1::Start::Latest };
        v1::Open {
            consumer: self.options.consumer.clone(),
            start: v1::Start::Stored.into(),
            otherwise: otherwise.into(),
            filter: Some(v1::Filter { tables: self.options.tables.clone(), ..v1::Filter::default() }),
            ..v1::Open::default()
        }
    }

    /// One call, until it ends.
    async fn subscribe(&mut self) -> Result<(), Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.options.address));
        let endpoint = endpoint.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let channel = endpoint.connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let (say, requests) = mpsc::channel(16);
        let mut say = Some(say);
        let mut request = Request::new(ReceiverStream::new(requests));
        if let Some(token) = &self.options.token {
            let token = MetadataValue::try_from(format!("Bearer {token}"));
            let token = token.map_err(|_| Status::invalid_argument("the token is no header"))?;
            request.metadata_mut().insert("authorization", token);
        }
        let open = v1::SubscribeRequest { request: Some(Say::Open(self.opening())) };
        tell(&say, open).await;
        let mut responses = ChangeStreamClient::new(channel).subscribe(request).await?.into_inner();
        let mut schemas = HashMap::new();
        while let Some(response) = responses.message().await? {
            let batch = match response.response {
                Some(Said::Opened(opened)) => {
                    eprintln!("open, epoch {}", opened.epoch);
                    continue;
                }
                Some(Said::Batch(batch)) => batch,
                _ => continue,
            };
            schemas.extend(batch.schemas.iter().map(|schema| (schema.reference, schema.clone())));
            for transaction in &batch.transactions {
                transaction.changes.iter().for_each(|change| self.print(batch.origin(), transaction, change, &schemas));
            }
            std::io::stdout().flush().map_err(|error| Status::internal(error.to_string()))?;
            // Here the work is durable; now the batch may be acknowledged, and not before.
            let ack = v1::SubscribeRequest { request: Some(Say::Ack(v1::Ack { number: batch.number })) };
            tell(&say, ack).await;
            if self.done() {
                say = None; // Nothing more from us: the server takes the last Ack and ends the call.
            }
        }
        Ok(())
    }

    fn print(
        &mut self,
        origin: v1::Origin,
        transaction: &v1::Transaction,
        change: &v1::Change,
        schemas: &HashMap<u32, v1::TableSchema>,
    ) {
        if origin == v1::Origin::Stream {
            let key = (transaction.order.to_vec(), change.ordinal);
            if key <= self.last {
                return;
            }
            self.last = key;
        }
        let operation = change.operation().as_str_name().trim_start_matches("OPERATION_").to_lowercase();
        let mut line = Map::from_iter([("op".to_owned(), json!(operation))]);
        if let Some(schema) = schemas.get(&change.schema) {
            line.insert("table".to_owned(), json!(format!("{}.{}", schema.namespace, schema.name)));
            for (name, image) in [("before", &change.before), ("after", &change.after)] {
                if let Some(image) = image {
                    line.insert(name.to_owned(), row(schema, image));
                }
            }
        }
        println!("{}", Json::Object(line));
        self.printed += 1;
    }
}

/// A call that has ended takes nothing more: its status says why.
async fn tell(say: &Option<mpsc::Sender<v1::SubscribeRequest>>, request: v1::SubscribeRequest) {
    if let Some(say) = say {
        let _ = say.send(request).await;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut consumer = Consumer { options: Options::parse(), last: (Vec::new(), 0), printed: 0 };
    let mut wait_ms = 100;
    while !consumer.done() {
        let before = consumer.printed;
        if let Err(status) = consumer.subscribe().await {
            eprintln!("{:?}: {}", status.code(), status.message());
            // Anything else wants a decision: see the comments of Subscribe.
            if status.code() != Code::Unavailable {
                std::process::exit(1);
            }
        }
        wait_ms = if consumer.printed > before { 100 } else { (2 * wait_ms).min(10_000) };
        if !consumer.done() {
            tokio::time::sleep(Duration::from_millis(wait_ms / 2 + u64::from(std::process::id()) % (wait_ms / 2)))
                .await;
        }
    }
}
