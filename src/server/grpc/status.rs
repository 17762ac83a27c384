//! From our errors to gRPC's status codes.

use std::error::Error as StdError;

use tonic::{Code, Status};

use crate::error::{Class, Error};

/// The most causes told: what lies deeper is a library's inner life.
const CAUSES_MAX: usize = 8;
/// A status travels in a header: what is longer than a client's limit for those (8 KiB with many) would be lost whole.
const MESSAGE_MAX_BYTES: usize = 4096;

/// The code of a class.
///
/// | class | code |
/// |---|---|
/// | `Config` | FAILED_PRECONDITION: something must be changed first |
/// | `Lost` | OUT_OF_RANGE: the log from there on is gone |
/// | `Transient` | UNAVAILABLE: try again |
/// | `Data` | DATA_LOSS: this value cannot be represented |
/// | `Bug` | INTERNAL |
pub fn code(class: Class) -> Code {
    match class {
        Class::Config => Code::FailedPrecondition,
        Class::Lost => Code::OutOfRange,
        Class::Transient => Code::Unavailable,
        Class::Data => Code::DataLoss,
        Class::Bug => Code::Internal,
    }
}

/// With the whole chain and the remedy.
pub fn status(error: &Error) -> Status {
    Status::new(code(error.class()), text(error))
}

/// What the caller asked for is wrong: INVALID_ARGUMENT, whatever the class.
pub fn invalid(error: &Error) -> Status {
    Status::invalid_argument(text(error))
}

pub fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    let mut said = text.clone();
    for _ in 0..CAUSES_MAX {
        let Some(inner) = cause else { break };
        let message = inner.to_string();
        // A library's error often repeats its cause.
        if !said.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        said = message;
        cause = inner.source();
    }
    if let Some(remedy) = error.remedy_text() {
        text.push_str("; remedy: ");
        text.push_str(remedy);
    }
    let end = (0..=MESSAGE_MAX_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_its_chain_and_remedy() {
        let error = Error::lost("the position 0/10 is lost").because("slot dropped").remedy("start with a snapshot");
        let status = status(&error.context("resuming consumer audit"));
        assert_eq!(status.code(), Code::OutOfRange);
        assert_eq!(
            status.message(),
            "resuming consumer audit: the position 0/10 is lost: slot dropped; remedy: start with a snapshot"
        );
        assert_eq!(text(&Error::data("é".repeat(4000))).len(), MESSAGE_MAX_BYTES);
    }
}
