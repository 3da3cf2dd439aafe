//! What the rest of an answer says of its endpoint, once its head has come.
//!
//! A head with a good status is not all: the body may be cut off, and the status of a gRPC call stands behind it. So
//! where endpoints are judged (outlier detection, breakers) a good head counts only when the answer has ended, or when
//! it has gone on for [`PATIENCE`]: a stream may last for hours, and says nothing of how well new calls do.
//!
//! gRPC's statuses count as the HTTP statuses that Envoy takes them for (`Grpc::Utility::grpcToHttpStatus`,
//! <https://cloud.google.com/apis/design/errors#handling_errors>) but for `UNIMPLEMENTED`, which is 501 there: the caller
//! names the method, and callers must not be able to get an endpoint ejected.

use crate::outbound::Outcome;
use portcullis_http::{BodyError, Fields, Frame, ResponseHead, UpstreamFailure};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long behind its head an answer may still speak against its endpoint.
const PATIENCE: Duration = Duration::from_secs(1);

/// An answer that goes on behind a good head.
#[derive(Debug)]
pub(crate) struct Ending {
    status: u16,
    is_grpc: bool,
    /// How long the head took.
    pub(crate) took: Duration,
    until: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Ending {
    /// The outcome that the head alone is, or what is to be heard of its rest. The head took so long.
    pub(crate) fn of(head: &ResponseHead, took: Duration) -> Result<Self, Outcome> {
        let is_grpc = head.media_type().is_some_and(|media| {
            media
                .strip_prefix("application/grpc")
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
        });
        let status = head.status;
        // A call may end with its head ("Trailers-Only").
        let ended = if is_grpc { grpc_status(&head.fields) } else { None };
        match ended {
            Some(status) => Err(Outcome::Answered { status }),
            // What follows 101 is no answer.
            None if status >= 500 || status == 101 => Err(Outcome::Answered { status }),
            None => Ok(Ending { status, is_grpc, took, until: Instant::now() + PATIENCE, timer: None }),
        }
    }

    /// What counts if nothing more is heard.
    pub(crate) fn so_far(&self) -> Outcome {
        Outcome::Answered { status: self.status }
    }

    /// What counts after this was heard of the body, where that is certain now.
    pub(crate) fn hear(
        &mut self,
        cx: &mut Context<'_>,
        heard: &Poll<Option<Result<Frame, BodyError>>>,
    ) -> Option<Outcome> {
        match heard {
            Poll::Ready(None) => Some(self.so_far()),
            Poll::Ready(Some(Err(error))) => Some(self.cut(*error)),
            Poll::Ready(Some(Ok(Frame::Trailers(fields)))) if self.is_grpc => {
                Some(grpc_status(fields).map_or(self.so_far(), |status| Outcome::Answered { status }))
            }
            Poll::Ready(Some(Ok(_))) => (Instant::now() >= self.until).then(|| self.so_far()),
            // Most bodies come with their heads and need no timer.
            Poll::Pending => {
                let until = self.until;
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
                timer.as_mut().poll(cx).is_ready().then(|| self.so_far())
            }
        }
    }

    fn cut(&self, error: BodyError) -> Outcome {
        match error {
            BodyError::Malformed => Outcome::Failed(UpstreamFailure::Protocol),
            BodyError::Incomplete => Outcome::Failed(UpstreamFailure::Closed),
            BodyError::Timeout => Outcome::Failed(UpstreamFailure::ResponseTimeout),
            // A limit of ours.
            BodyError::TooLarge => self.so_far(),
        }
    }
}

/// The HTTP status that the status of a gRPC call stands for, where one is there.
fn grpc_status(fields: &Fields) -> Option<u16> {
    let status = fields.get_str("grpc-status")?;
    Some(match status.parse::<u8>() {
        Ok(0) => 200,
        Ok(1) => 499,
        Ok(3 | 9 | 11) => 400,
        Ok(4) => 504,
        Ok(5 | 12) => 404,
        Ok(6 | 10) => 409,
        Ok(7) => 403,
        Ok(8) => 429,
        Ok(14) => 503,
        Ok(16) => 401,
        // UNKNOWN, INTERNAL, DATA_LOSS, and what is no status.
        _ => 500,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn head(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead::new(status);
        for (name, value) in fields {
            head.fields.append_parsed(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn grpc(fields: &[(&str, &str)]) -> ResponseHead {
        head(200, &[&[("content-type", "application/grpc+proto")], fields].concat())
    }

    fn trailers(status: &str) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut fields = Fields::default();
        fields.append_parsed(b"grpc-status", status.as_bytes());
        Poll::Ready(Some(Ok(Frame::Trailers(fields))))
    }

    fn hear(head: &ResponseHead, heard: &Poll<Option<Result<Frame, BodyError>>>) -> Option<Outcome> {
        let mut cx = Context::from_waker(Waker::noop());
        Ending::of(head, Duration::ZERO).unwrap().hear(&mut cx, heard)
    }

    const fn answered(status: u16) -> Outcome {
        Outcome::Answered { status }
    }

    /// Envoy's table (test/common/grpc/common_test.cc, `GrpcToHttpStatus`), but for 12.
    #[test]
    fn statuses_are_those_that_envoy_takes_them_for() {
        let table = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 404, 500, 503, 500, 401];
        for (code, status) in table.into_iter().enumerate() {
            let code = code.to_string();
            assert_eq!(hear(&grpc(&[]), &trailers(&code)), Some(answered(status)), "{code} in trailers");
            let only = Ending::of(&grpc(&[("grpc-status", &code)]), Duration::ZERO);
            assert_eq!(only.unwrap_err(), answered(status), "{code} in the head");
        }
        for code in ["", "17", "256", "-1", "ok"] {
            assert_eq!(hear(&grpc(&[]), &trailers(code)), Some(answered(500)), "{code:?}");
        }
    }

    #[test]
    fn only_a_call_has_a_status_of_its_own() {
        let plain = head(200, &[("content-type", "application/grpcish"), ("grpc-status", "14")]);
        assert_eq!(hear(&plain, &trailers("14")), None, "its end is still to come");
        assert_eq!(hear(&plain, &Poll::Ready(None)), Some(answered(200)));
    }

    #[test]
    fn a_bad_head_and_a_switch_of_protocols_say_all() {
        for status in [101, 500, 503] {
            assert_eq!(Ending::of(&head(status, &[]), Duration::ZERO).unwrap_err(), answered(status));
        }
    }

    #[test]
    fn a_body_that_is_cut_is_no_success() {
        let cut = |error| hear(&head(200, &[]), &Poll::Ready(Some(Err(error))));
        assert_eq!(cut(BodyError::Incomplete), Some(Outcome::Failed(UpstreamFailure::Closed)));
        assert_eq!(cut(BodyError::Malformed), Some(Outcome::Failed(UpstreamFailure::Protocol)));
        assert_eq!(cut(BodyError::Timeout), Some(Outcome::Failed(UpstreamFailure::ResponseTimeout)));
        assert_eq!(cut(BodyError::TooLarge), Some(answered(200)));
    }

    #[tokio::test]
    async fn what_goes_on_for_long_counts_by_its_head() {
        let data = Poll::Ready(Some(Ok(Frame::Data(bytes::Bytes::from_static(b"x")))));
        let mut ending = Ending::of(&grpc(&[]), Duration::ZERO).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(ending.hear(&mut cx, &data), None);
        let heard =
            std::future::poll_fn(|cx| ending.hear(cx, &Poll::Pending).map_or(Poll::Pending, Poll::Ready));
        let began = Instant::now();
        assert_eq!(heard.await, answered(200));
        assert!(began.elapsed() + Duration::from_millis(50) >= PATIENCE);
        assert_eq!(ending.hear(&mut cx, &data), Some(answered(200)));
    }
}
