//! The client/server protocol: packets, the login, answers, rows.
//!
//! Invariants:
//! - Everything is little-endian. A parser gets the payload of one packet, without its header, and reads all of it.
//! - We never ask for CLIENT_DEPRECATE_EOF: results end with an EOF packet on every server there is, and one path reads
//!   them all.

pub mod answer;
pub mod auth;
pub mod binary_row;
pub mod column;
pub mod command;
pub mod gtid_set;
pub mod handshake;
pub mod packet;
mod read;
pub mod text_row;
