//! Metrics and health of a running walbrook.

mod measured;
mod openmetrics;
mod page;
mod ready;
mod running;
