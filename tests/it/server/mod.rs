pub mod grpc;
mod http;
