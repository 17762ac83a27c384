//! Messages that are encoded already: bytes out, small requests in.

use bytes::{Buf, BufMut, Bytes};
use prost::Message as _;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::proto::v1::SubscribeRequest;

#[derive(Default)]
pub struct Passing;

impl Codec for Passing {
    type Encode = Bytes;
    type Decode = SubscribeRequest;
    type Encoder = Passing;
    type Decoder = Passing;

    fn encoder(&mut self) -> Passing {
        Passing
    }
    fn decoder(&mut self) -> Passing {
        Passing
    }
}

impl Encoder for Passing {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(message.len());
        out.put(message);
        Ok(())
    }
}

impl Decoder for Passing {
    type Item = SubscribeRequest;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<SubscribeRequest>, Status> {
        let request = SubscribeRequest::decode(bytes.copy_to_bytes(bytes.remaining()));
        request
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("the request is no SubscribeRequest: {error}")))
    }
}
