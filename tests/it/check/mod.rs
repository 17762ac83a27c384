//! `check` and `discover` on real servers: every prerequisite is broken in turn, and its remedy mends it.

mod mysql;
mod postgres;
