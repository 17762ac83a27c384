//! MySQL's and MariaDB's wire formats. Integers are little-endian unless a grammar says otherwise.

pub mod column;
pub mod event;
pub mod protocol;
mod reader;
pub mod row;
pub mod value;

use reader::Reader;

#[cfg(test)]
mod tests;
