//! Exactness: a value arrives as the database holds it.
//!
//! - What `psql -At` prints under the same pinned settings is the truth; [`oracle`] makes the expected JSON of it by the
//!   rules of the format, without a line of the product's code.
//! - A row has the identical value in the snapshot, in an insert, on both sides of an update and in a delete.

mod encodings;
mod lines;
mod mysql;
mod names;
mod oracle;
mod random;
mod settings;
mod size;
mod tables;
mod types;
mod values;
