//! What is printed: errors on stderr, answers on stdout.

use std::error::Error as StdError;
use std::io::{self, ErrorKind, Write};

use serde_json::json;

use crate::error::{Class, Context, Error, Result};

/// The most causes shown: the first say what was being done, and more than these are a library's inner life.
const CAUSES_MAX: usize = 8;

/// The whole chain and the remedy.
pub fn explain(error: &Error) -> String {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    let mut said = error.to_string();
    for _ in 0..CAUSES_MAX {
        let Some(inner) = cause else { break };
        let message = inner.to_string();
        // A library's error often repeats its cause.
        if !said.contains(&message) {
            text.push_str("\n  because: ");
            text.push_str(&message.replace('\n', "\n    "));
        }
        said = message;
        cause = inner.source();
    }
    if error.class() == Class::Bug {
        text.push_str("\n  this is a mistake in walbrook, please report it");
    }
    if let Some(remedy) = error.remedy_text() {
        text.push_str("\n  remedy: ");
        text.push_str(remedy);
    }
    text
}

/// The same as one line of JSON, as the log has it.
pub fn explain_json(error: &Error) -> String {
    let message = explain(error);
    let message = message.split("\n  remedy: ").next().unwrap_or(&message).trim_start_matches("error: ");
    let class = format!("{:?}", error.class()).to_lowercase();
    let timestamp = jiff::Timestamp::now().to_string();
    json!({ "timestamp": timestamp, "level": "ERROR", "message": message, "class": class, "remedy": error.remedy_text() })
        .to_string()
}

/// Writes an answer to stdout. A reader that went away has what it wanted.
pub fn answer(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).data(|| "writing to stdout".to_owned()),
        _ => Ok(()),
    }
}

/// The same for JSON.
pub fn answer_json(value: &serde_json::Value) -> Result<()> {
    answer(&format!("{value:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_the_remedy_and_nothing_twice() {
        let inner = Error::config("permission denied for table orders").remedy("GRANT SELECT ON public.orders TO app");
        let text = explain(&inner.context("reading public.orders").context("taking the snapshot"));
        let expected = "error: taking the snapshot\n  because: reading public.orders\n  because: permission denied for table \
                        orders\n  remedy: GRANT SELECT ON public.orders TO app";
        assert_eq!(text, expected);
        let echoed = Error::transient("connecting: refused").because("refused");
        assert_eq!(explain(&echoed), "error: connecting: refused");
    }
}
