//! A client that was never told of our `.proto` files: it asks the server what it can call, and calls it.

use bytes::Buf;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::{Sidecar, on_each};

/// Messages by their descriptors alone.
#[derive(Clone)]
struct Generic(MethodDescriptor);

impl Codec for Generic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Generic;
    type Decoder = Generic;

    fn encoder(&mut self) -> Generic {
        self.clone()
    }
    fn decoder(&mut self) -> Generic {
        self.clone()
    }
}

impl Encoder for Generic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Generic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = bytes.copy_to_bytes(bytes.remaining());
        let message = DynamicMessage::decode(self.0.output(), bytes);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

async fn ask(channel: Channel, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let asked = futures_util::stream::iter([request]);
    let mut answers =
        ServerReflectionClient::new(channel).server_reflection_info(asked).await.expect("reflection").into_inner();
    let answer: ServerReflectionResponse = answers.message().await.expect("an answer").expect("an answer");
    answer.message_response.expect("an answer")
}

/// All that a symbol needs.
async fn describe(channel: &Channel, symbol: &str) -> DescriptorPool {
    let mut pool = DescriptorPool::new();
    let mut wanted = vec![MessageRequest::FileContainingSymbol(symbol.to_owned())];
    let mut files: Vec<prost_types::FileDescriptorProto> = Vec::new();
    while let Some(request) = wanted.pop() {
        let MessageResponse::FileDescriptorResponse(found) = ask(channel.clone(), request).await else {
            panic!("{symbol}")
        };
        for file in found.file_descriptor_proto {
            let file = prost_types::FileDescriptorProto::decode(&file[..]).expect("a descriptor");
            if files.iter().all(|known| known.name != file.name) {
                wanted.extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
                files.push(file);
            }
        }
    }
    pool.add_file_descriptor_protos(files).expect("descriptors that fit");
    pool
}

fn message(method: &MethodDescriptor, json: Value) -> DynamicMessage {
    DynamicMessage::deserialize(method.input(), json).expect("a message")
}

fn shown(message: &DynamicMessage) -> Value {
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).expect("JSON")
}

#[test]
fn a_client_without_the_proto_files_reads_the_stream() {
    on_each("reflection", |db| {
        db.sql("create table t (id int primary key, v varchar(40)); insert into t values (1, 'a')");
        let sidecar = Sidecar::start(db, &[]);
        let (runtime, channel) = sidecar.connect();
        runtime.block_on(async {
            let MessageResponse::ListServicesResponse(services) =
                ask(channel.clone(), MessageRequest::ListServices(String::new())).await
            else {
                panic!("no list")
            };
            let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
            for name in ["walbrook.v1.ChangeStream", "walbrook.v1.Admin", "grpc.health.v1.Health"] {
                assert!(names.contains(&name), "{names:?}");
            }
            let pool = describe(&channel, "walbrook.v1.ChangeStream").await;
            let service = pool.get_service_by_name("walbrook.v1.ChangeStream").expect("the service");
            let method = service.methods().next().expect("a method");
            let open =
                json!({ "open": { "start": "START_SNAPSHOT", "credit": { "bytes": "1000000", "batches": 10 } } });
            let (says, mut said) = tokio::sync::mpsc::channel(4);
            says.send(message(&method, open)).await.expect("room");
            let mut client = tonic::client::Grpc::new(channel.clone());
            client.ready().await.expect("a connection");
            let path = "/walbrook.v1.ChangeStream/Subscribe".parse().expect("a path");
            let requests = tonic::Request::new(futures_util::stream::poll_fn(move |cx| said.poll_recv(cx)));
            let answers = client.streaming(requests, path, Generic(method.clone())).await.expect("a stream");
            let mut answers = answers.into_inner();
            let opened = shown(&answers.message().await.expect("a message").expect("a message"));
            assert!(!opened["opened"]["server"]["system"].as_str().expect("a system").is_empty(), "{opened}");
            let batch = loop {
                let answer = shown(&answers.message().await.expect("a message").expect("a message"));
                if answer["batch"]["changes"] == 1 {
                    break answer;
                }
            };
            let table = &batch["batch"]["schemas"][0];
            assert_eq!((&table["name"], &table["columns"][1]["name"]), (&json!("t"), &json!("v")), "{batch}");
            let change = &batch["batch"]["transactions"][0]["changes"][0];
            assert_eq!(change["operation"], "OPERATION_SNAPSHOT");
            assert_eq!(change["after"]["values"], json!([{ "integer": "1" }, { "text": "a" }]), "{batch}");
            let number = batch["batch"]["number"].clone();
            says.send(message(&method, json!({ "ack": { "number": number } }))).await.expect("room");
            drop(says);
            while answers.message().await.expect("the end is no error").is_some() {}
        });
    });
}
