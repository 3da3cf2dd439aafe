//! What is left of an exchange that may go on for longer than a snapshot should be kept: a tunnel, or an answer that
//! streams. It holds nothing of the snapshot that it began with.

use crate::record::Record;
use crate::respond::Stream;
use crate::snapshot::Snapshots;
use crate::term::TermWatch;
use crate::tunnel::Tunnel;
use portcullis_http::{Rejection, UpstreamFailure};
use portcullis_wire::Downstream;
use std::pin::pin;
use tokio::time::{Instant, timeout_at};

/// What lasts.
pub(crate) enum Lasting {
    /// Both sides have switched protocols.
    Tunnel(Box<Tunnel>),
    /// An answer that streams, of which the head has been sent.
    Stream(Box<Stream>),
}

/// The rest of an exchange.
pub(crate) struct Rest {
    pub(crate) lasting: Lasting,
    /// When the whole exchange has to end. A tunnel has no such deadline.
    pub(crate) deadline: Option<Instant>,
    pub(crate) term: TermWatch,
}

impl Rest {
    /// Carries it to its end.
    ///
    /// # Errors
    /// When the deadline has passed.
    pub(crate) async fn run<D: Downstream>(
        self,
        snapshots: &Snapshots,
        downstream: &mut D,
        record: &mut Record,
    ) -> Result<(), Rejection> {
        let Rest { lasting, deadline, term } = self;
        let shared = snapshots.current().shared.clone();
        match lasting {
            Lasting::Tunnel(tunnel) => {
                tunnel.run(downstream, record, term.over(true, snapshots, &shared)).await;
                Ok(())
            }
            Lasting::Stream(mut stream) => {
                let over = pin!(term.over(stream.is_endless(), snapshots, &shared));
                let stream = stream.run(&shared.metrics, downstream, record, Some(over));
                match deadline {
                    None => stream.await,
                    Some(deadline) => timeout_at(deadline, stream)
                        .await
                        .map_err(|_| Rejection::Upstream(UpstreamFailure::ResponseTimeout))?,
                }
                Ok(())
            }
        }
    }
}
