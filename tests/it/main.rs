//! The integration tests: one binary, so that a server is started once for all of them.
//!
//! Every test runs in parallel with every other one: it works in a database of its own ([`support::Server::database`]),
//! and what breaks or restarts a server does so to a server of its own ([`support::Server::own`]).

mod catalog;
mod check;
mod child;
mod cli;
mod connection;
mod crash;
mod decoders;
mod deploy;
mod exactness;
mod floors;
mod lifecycle;
mod offsets;
mod pipeline;
mod proto;
mod retention;
mod server;
mod servers;
mod sinks;
mod source;
mod support;
