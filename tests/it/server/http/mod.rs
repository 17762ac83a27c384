//! Metrics and health of a running walbrook.

mod measured;
mod measured_consumer;
mod openmetrics;
mod page;
mod ready;
mod reconnects;
mod running;
