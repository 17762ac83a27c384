//! How a call ends that the hub does not go on with.

use tonic::Status;

use crate::pipeline::{Ended, Refused};
use crate::server::grpc::status::{status, text};

/// What one may open with instead.
const INSTEAD: &str = "nothing was skipped; open again with START_SNAPSHOT (the rows as they are, then their changes), \
                       START_EARLIEST or START_LATEST, knowing that changes are lost";

pub fn refused(refused: Refused) -> Status {
    match refused {
        Refused::AlreadyAttached { epoch } => Status::already_exists(format!(
            "another client has this consumer, in epoch {epoch}; come back when it is gone, or with `takeover`"
        )),
        Refused::Unknown => Status::not_found(
            "nothing is stored of this consumer: say where it begins by `start`, or by `otherwise` for its first time",
        ),
        Refused::OutOfRange(gap) => Status::out_of_range(format!("the log is lost: {gap}; {INSTEAD}")),
        Refused::Paused => {
            Status::failed_precondition("the consumer is paused; Admin.Resume, or whoever paused it, lets it go on")
        }
        Refused::TooMany { limit } => Status::resource_exhausted(format!(
            "there are {limit} durable consumers, as many as grpc.max_consumers allows; drop one (Admin.ResetOffset), or \
             raise it"
        )),
        Refused::Failed(error) => status(&error),
    }
}

pub fn ended(ended: Ended) -> Status {
    match ended {
        Ended::TakenOver => Status::aborted("another client has taken this consumer over: its epoch is over"),
        Ended::Detached(why) => Status::resource_exhausted(format!("the consumer is detached: {why}")),
        Ended::ByOperator(what) => Status::failed_precondition(what),
        Ended::Stopping => Status::unavailable("Walbrook is stopping; come back"),
        Ended::Failed(error) if error.class() == crate::error::Class::Lost => {
            Status::out_of_range(format!("{}; {INSTEAD}", text(&error)))
        }
        Ended::Failed(error) => status(&error),
    }
}
