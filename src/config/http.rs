//! The HTTP server's part of the configuration.

use std::net::{SocketAddr, ToSocketAddrs};

use schemars::JsonSchema;
use serde::Deserialize;

/// `/metrics` for Prometheus, `/livez` and `/readyz` for whoever runs the process. They change nothing and show no secret.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Http")]
pub struct RawHttp {
    /// Where it is served: `ADDRESS:PORT`, or `off`. The default is reached from this machine alone; `0.0.0.0:9909` is
    /// reached by others.
    pub listen: String,
}

impl Default for RawHttp {
    fn default() -> Self {
        RawHttp { listen: "127.0.0.1:9909".to_owned() }
    }
}

impl RawHttp {
    pub fn off() -> Self {
        RawHttp { listen: OFF.to_owned() }
    }
}

const OFF: &str = "off";

/// An HTTP server that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// What the name or address in `listen` stands for; at least one.
    pub listen: Vec<SocketAddr>,
    /// Whether it was asked for: where nobody did, a port that is taken is no reason not to stream.
    pub asked_for: bool,
}

/// What the schema cannot say; none where it is off.
///
/// # Errors
/// The key, and what is wrong with it.
pub(super) fn check(raw: Option<RawHttp>) -> Result<Option<Http>, (String, String)> {
    let asked_for = raw.is_some();
    let RawHttp { listen } = raw.unwrap_or_default();
    if listen == OFF {
        return Ok(None);
    }
    // A name is looked up, as a listener would: `localhost:9909`.
    match listen.to_socket_addrs().map(Vec::from_iter) {
        Ok(found) if !found.is_empty() => Ok(Some(Http { listen: found, asked_for })),
        Ok(_) => Err(("http.listen".to_owned(), format!("{listen:?} is no address"))),
        Err(error) => Err(("http.listen".to_owned(), format!("{listen:?} is neither ADDRESS:PORT nor off: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_for_this_machine_unless_told_otherwise() {
        let at = |listen: &str| check(Some(RawHttp { listen: listen.to_owned() }));
        let default = check(None).unwrap().unwrap();
        assert!(default.listen.iter().all(|address| address.ip().is_loopback()) && !default.asked_for);
        assert_eq!(at("off"), Ok(None));
        assert_eq!(
            at("0.0.0.0:1").unwrap().unwrap(),
            Http { listen: vec!["0.0.0.0:1".parse().unwrap()], asked_for: true }
        );
        for wrong in ["", "127.0.0.1", "9909", "on", "127.0.0.1:99999"] {
            assert!(at(wrong).is_err_and(|(key, _)| key == "http.listen"), "{wrong}");
        }
    }
}
