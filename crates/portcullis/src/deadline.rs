//! How much time a request has: the route's, or less where the caller says that it waits for less.

use crate::grpc;
use crate::plan::RoutePlan;
use portcullis_http::RequestHead;
use portcullis_upstream::Deadline;
use std::time::{Duration, Instant};

/// Digits of a number of milliseconds that is obeyed; more is no deadline that anybody means.
const MAX_DIGITS: usize = 15;

/// When a request's time is over, and how upstreams are told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time<'a> {
    /// All of it.
    pub(crate) total: Option<Duration>,
    began: Instant,
    field: Option<&'a str>,
    grpc: bool,
    /// Whether it is less than the route's.
    callers: bool,
}

impl<'a> Time<'a> {
    /// `field` is the one in which callers say how many milliseconds they wait.
    pub(crate) fn new(route: &RoutePlan, head: &RequestHead, field: Option<&'a str>, began: Instant) -> Self {
        let grpc = route.grpc && grpc::is_call(head);
        let of_grpc = if grpc { grpc::timeout(head) } else { None };
        let own = field.and_then(|field| head.fields.get(field)).and_then(millis);
        let total = route.total.into_iter().chain(of_grpc).chain(own).min();
        Time { total, began, field, grpc, callers: total != route.total }
    }

    /// What calls to upstreams are told.
    pub(crate) fn deadline(&self) -> Option<Deadline<'a>> {
        let at = self.began.checked_add(self.total?)?;
        Some(Deadline { at, field: self.field, grpc: self.grpc, callers: self.callers })
    }

    /// Takes away what the caller said of its own, which only a deadline of ours may replace.
    pub(crate) fn clean(&self, head: &mut RequestHead) {
        if self.total.is_some() {
            return;
        }
        if let Some(field) = self.field {
            head.fields.remove(field);
        }
        if self.grpc {
            head.fields.remove("grpc-timeout");
        }
    }

    /// Tells in a request how much time it has, in the place of what stands there.
    pub(crate) fn tell(&self, limit: Duration, head: &mut RequestHead) {
        if let Some(field) = self.field {
            head.fields.remove(field);
            let millis = limit.as_millis().max(1).to_string();
            head.fields.append_parsed(field.as_bytes(), millis.as_bytes());
        }
    }
}

/// A number of milliseconds; one that is none is not obeyed.
fn millis(value: &[u8]) -> Option<Duration> {
    if value.is_empty() || value.len() > MAX_DIGITS || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_digits() {
        for (text, expected) in [
            ("250", Some(250)),
            ("0", Some(0)),
            ("007", Some(7)),
            ("999999999999999", Some(999_999_999_999_999)),
            ("9999999999999999", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1s", None),
            (" 1", None),
        ] {
            assert_eq!(millis(text.as_bytes()), expected.map(Duration::from_millis), "{text}");
        }
    }
}
