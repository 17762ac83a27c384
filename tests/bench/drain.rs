//! A client of the gRPC stream that does little besides: it counts changes, gives credit and acknowledges.
//!
//! `drain ADDRESS [--consumer NAME] [--at POSITION] [--format typed|json] [--read] [--latency] [--changes N]`
//!
//! Begins at the position, else with what is committed from now on. The first line on stdout is where the stream begins, as
//! soon as it is open. Ends with 0 after N changes, without --changes never. `--read` decodes every message as a consumer
//! would with prost; without it only the numbers that counting and acknowledging take are looked at. `--latency` prints how
//! long after its commit, by the server's clock, each transaction was here, by ours; those of the first second are left out.

use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use futures_util::stream;
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Endpoint;
use tonic::{Request, Status};
use walbrook::proto::v1::subscribe_request::Request as Asked;
use walbrook::proto::v1::subscribe_response::Response as Said;
use walbrook::proto::v1::{Ack, Credit, Format, Open, Position, Start, SubscribeRequest, SubscribeResponse};

type Failure = Box<dyn std::error::Error>;

/// As many bytes as the client has room for: 32 messages of the usual size.
const CREDIT: Credit = Credit { bytes: 8 << 20, batches: 1024 };
/// How much of the credit is used up before it is given again.
const GIVE_AGAIN_BYTES: u64 = CREDIT.bytes / 4;
/// What the first second brings may have waited for the connection.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Options {
    address: String,
    consumer: String,
    at: Option<String>,
    format: Format,
    reads: bool,
    times: bool,
    changes: u64,
}

fn options() -> Result<Options, Failure> {
    let mut options = Options { format: Format::Typed, changes: u64::MAX, ..Options::default() };
    let mut arguments = std::env::args().skip(1);
    options.address = arguments.next().ok_or("no address")?;
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{flag} has no value"));
        match flag.as_str() {
            "--consumer" => options.consumer = value()?,
            "--at" => options.at = Some(value()?),
            "--format" if value()? == "json" => options.format = Format::Json,
            "--format" => {}
            "--read" => options.reads = true,
            "--latency" => options.times = true,
            "--changes" => options.changes = value()?.parse()?,
            _ => return Err(format!("no such flag: {flag}").into()),
        }
    }
    Ok(options)
}

/// Requests are encoded, answers are left as they are.
#[derive(Default)]
struct Raw;

impl Codec for Raw {
    type Encode = SubscribeRequest;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = SubscribeRequest;
    type Error = Status;
    fn encode(&mut self, request: SubscribeRequest, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        request.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining())))
    }
}

/// What counting and acknowledging take.
#[derive(Default)]
struct Counts {
    number: u64,
    changes: u64,
}

/// Of a message with a batch; none of any other.
fn counts(mut message: &[u8]) -> Result<Option<Counts>, Failure> {
    let (field, WireType::LengthDelimited) = decode_key(&mut message)? else { return Err("not a response".into()) };
    let length = decode_varint(&mut message)?;
    if field != 2 {
        return Ok(None);
    }
    let mut batch = message.get(..length as usize).ok_or("a torn batch")?;
    let mut counts = Counts::default();
    while !batch.is_empty() {
        match decode_key(&mut batch)? {
            (1, _) => counts.number = decode_varint(&mut batch)?,
            (7, _) => counts.changes = decode_varint(&mut batch)?,
            (_, WireType::LengthDelimited) => {
                let length = decode_varint(&mut batch)? as usize;
                batch = batch.get(length..).ok_or("a torn field")?;
            }
            (_, WireType::Varint) => drop(decode_varint(&mut batch)?),
            _ => return Err("a field that no batch has".into()),
        }
    }
    Ok(Some(counts))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let options = options()?;
    let endpoint = Endpoint::from_shared(format!("http://{}", options.address))?;
    let channel = endpoint.connect().await?;
    let (asks, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let ask = |request| asks.send(SubscribeRequest { request: Some(request) }).map_err(|_| "the call has ended");
    let start = if options.at.is_some() { Start::Position } else { Start::Latest };
    ask(Asked::Open(Open {
        consumer: options.consumer.clone(),
        start: start.into(),
        position: options.at.clone().map(|text| Position { token: Bytes::new(), text }),
        format: options.format.into(),
        credit: Some(CREDIT),
        ..Open::default()
    }))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await?;
    let path = "/walbrook.v1.ChangeStream/Subscribe".parse()?;
    let requests = Request::new(stream::poll_fn(move |cx| asked.poll_recv(cx)));
    let mut responses = client.streaming(requests, path, Raw).await?.into_inner();

    let (mut opened, mut changes, mut used) = (false, 0, Credit::default());
    let (mut first, mut late_micros) = (None, Vec::new());
    while !opened || changes < options.changes {
        let message = responses.message().await?.ok_or("the stream has ended")?;
        let counts = match counts(&message)? {
            Some(counts) => counts,
            None => {
                if let Some(Said::Opened(greeting)) = SubscribeResponse::decode(message)?.response {
                    println!("{}", greeting.position.ok_or("no position")?.text);
                    std::io::stdout().flush()?;
                    opened = true;
                }
                continue;
            }
        };
        used.bytes += message.len() as u64;
        used.batches += 1;
        if options.reads || options.times {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64;
            let Some(Said::Batch(batch)) = SubscribeResponse::decode(message)?.response else { continue };
            if options.times && *first.get_or_insert_with(Instant::now) + WARM_UP < Instant::now() {
                let commits = batch.transactions.iter().filter_map(|transaction| transaction.commit_unix_micros);
                late_micros.extend(commits.map(|commit| now - commit));
            }
        }
        changes += counts.changes;
        ask(Asked::Ack(Ack { number: counts.number }))?;
        if used.bytes >= GIVE_AGAIN_BYTES || used.batches >= CREDIT.batches / 4 {
            ask(Asked::Credit(std::mem::take(&mut used)))?;
        }
    }
    if options.times {
        if late_micros.is_empty() {
            return Err("nothing came after the first second".into());
        }
        late_micros.sort_unstable();
        let at = |share: f64| late_micros[((share * late_micros.len() as f64) as usize).min(late_micros.len() - 1)];
        let ms = |share| at(share) as f64 / 1000.0;
        println!(
            "{:16} {:8} transactions  p50 {:7.2} ms  p99 {:7.2} ms  p99.9 {:7.2} ms  max {:7.2} ms",
            "gRPC",
            late_micros.len(),
            ms(0.5),
            ms(0.99),
            ms(0.999),
            ms(1.0)
        );
    }
    // The acknowledgements are heard before the call ends.
    drop(asks);
    while responses.message().await?.is_some() {}
    Ok(())
}
