//! One line for each request.

use crate::escape::{MAX_VALUE, json_string, json_text};
use crate::firewall::FirewallRecord;
use crate::json::{Object, key, list};
use crate::logging::LogFormat;
use crate::{LogQueue, redact_path, redact_query};
use jiff::Timestamp;
use portcullis_http::{Rejection, RequestId, TargetError, TraceContext, Version, push_address, push_decimal};
use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// What is known of a request when it has ended. Borrowed throughout: a line costs no allocation.
#[derive(Clone, Copy, Debug)]
pub struct AccessRecord<'a> {
    /// When its head began to arrive.
    pub time: SystemTime,
    /// Its id, which the client got as well.
    pub id: &'a RequestId,
    /// The trace it belongs to.
    pub trace: Option<&'a TraceContext>,
    /// The listener it came in by.
    pub listener: &'a str,
    /// The client's address, behind trusted proxies.
    pub client: IpAddr,
    /// Its protocol version.
    pub version: Version,
    /// The method as it stood on the wire.
    pub method: &'a [u8],
    /// The authority it asked for; empty where there was none.
    pub host: &'a str,
    /// The canonical path, or the raw one where it had no canonical form.
    pub path: &'a [u8],
    /// The query, only where the configuration asks for it: it is the usual place of what should not be logged.
    /// Values of secret parameters are masked all the same.
    pub query: Option<&'a [u8]>,
    /// The matched route.
    pub route: Option<&'a str>,
    /// The subject of the caller, once known.
    pub consumer: Option<&'a str>,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// The status answered; 499 when the client went away before there was one.
    pub status: u16,
    /// Bytes of the request's body that were read.
    pub bytes_in: u64,
    /// Bytes of the response's body that were written.
    pub bytes_out: u64,
    /// From the first byte of the head to the last of the answer.
    pub duration: Duration,
    /// The call to an upstream, if there was one; the last, if there were several.
    pub upstream: Option<UpstreamRecord<'a>>,
    /// Why the gateway itself answered.
    pub rejection: Option<&'a Rejection>,
    /// What its target would have been refused for, on a route that only detects.
    pub target_would_refuse: Option<TargetError>,
    /// What the firewall saw, if a rule matched or it could not see all.
    pub firewall: Option<FirewallRecord<'a>>,
    /// Names of a composition's parts that failed.
    pub partial: &'a [&'a str],
    /// Whether the client went away before it had the whole answer.
    pub aborted: bool,
}

/// The call to an upstream.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamRecord<'a> {
    /// Its name.
    pub name: &'a str,
    /// The endpoint that was asked, as `address:port`; empty where none could be.
    pub endpoint: &'a str,
    /// Until the head of its answer, or its failure.
    pub duration: Duration,
    /// How often it was tried.
    pub attempts: u32,
    /// The tries, where there was more than one.
    pub tries: &'a [TryRecord<'a>],
    /// Why it was not tried again, where that was not for what came of it.
    pub denied: Option<&'static str>,
}

/// One try of a call to an upstream.
#[derive(Clone, Copy, Debug)]
pub struct TryRecord<'a> {
    /// The endpoint, as `address:port`.
    pub endpoint: &'a str,
    /// `answered`, `cancelled`, or why it failed.
    pub outcome: &'static str,
    /// The status of its answer.
    pub status: Option<u16>,
    /// Until the head of its answer, or its failure.
    pub duration: Duration,
    /// Whether it was made while another was under way.
    pub hedge: bool,
}

impl UpstreamRecord<'_> {
    fn write_json(&self, object: &mut Object<'_>) {
        object.joined(key!("upstream"));
        json_string(self.name.as_bytes(), MAX_VALUE, object.out);
        object.joined(key!("endpoint"));
        json_string(self.endpoint.as_bytes(), MAX_VALUE, object.out);
        object.joined(key!("upstream_ms"));
        write_millis(self.duration, object.out);
        object.joined(key!("attempts"));
        push_decimal(u64::from(self.attempts), object.out);
        if !self.tries.is_empty() {
            object.key("tries");
            list(object.out, self.tries, TryRecord::write_json);
        }
        object.optional("retry_denied", self.denied.map(str::as_bytes));
    }
}

impl TryRecord<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("endpoint", self.endpoint.as_bytes());
        object.text("outcome", self.outcome.as_bytes());
        if let Some(status) = self.status {
            object.number("status", u64::from(status));
        }
        object.key("ms");
        write_millis(self.duration, object.out);
        if self.hedge {
            object.plain("hedge", true);
        }
        object.end();
    }
}

/// Writes access lines. Clones share the queue.
#[derive(Clone, Debug)]
pub struct AccessLog {
    queue: LogQueue,
    human: bool,
}

thread_local! {
    /// The line being written; kept, so that a line costs no allocation.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl AccessLog {
    /// Access lines in `format` by `queue`.
    #[must_use]
    pub fn new(queue: LogQueue, format: LogFormat) -> Self {
        AccessLog { queue, human: format.resolve() == LogFormat::Human }
    }

    /// Queues the line of one request; never waits.
    pub fn write(&self, record: &AccessRecord<'_>) {
        LINE.with_borrow_mut(|line| {
            line.clear();
            if self.human {
                record.write_human(line)
            } else {
                record.write_json(line)
            }
            self.queue.push(line);
        });
    }
}

impl AccessRecord<'_> {
    /// Appends the record as one line of JSON, the line feed included.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.key("timestamp");
        object.out.push(b'"');
        write_time(self.time, object.out);
        // An id is of plain characters, like all that is written between quotes here.
        object.joined("\",\"level\":\"INFO\",\"message\":\"request\",\"request_id\":\"");
        object.out.extend_from_slice(self.id.as_bytes());
        if let Some(trace) = self.trace {
            object.joined("\",\"trace_id\":\"");
            object.out.extend_from_slice(&trace.trace_id());
        }
        object.joined("\",\"listener\":");
        json_string(self.listener.as_bytes(), MAX_VALUE, object.out);
        object.joined(",\"client\":\"");
        push_address(self.client, object.out);
        object.joined("\",\"protocol\":\"");
        object.joined(self.version.as_str());
        object.joined("\",\"method\":");
        json_string(self.method, MAX_VALUE, object.out);
        object.joined(key!("host"));
        json_string(self.host.as_bytes(), MAX_VALUE, object.out);
        object.joined(key!("path"));
        json_string(&redact_path(self.path), MAX_VALUE, object.out);
        object.optional("query", self.query.map(redact_query).as_deref());
        object.optional("route", self.route.map(str::as_bytes));
        object.optional("consumer", self.consumer.map(str::as_bytes));
        object.optional("user_agent", self.user_agent);
        object.joined(key!("status"));
        push_decimal(u64::from(self.status), object.out);
        object.joined(key!("bytes_in"));
        push_decimal(self.bytes_in, object.out);
        object.joined(key!("bytes_out"));
        push_decimal(self.bytes_out, object.out);
        object.joined(key!("duration_ms"));
        write_millis(self.duration, object.out);
        if let Some(upstream) = &self.upstream {
            upstream.write_json(&mut object);
        }
        self.write_refusal(&mut object);
        if !self.partial.is_empty() {
            object.key("partial");
            list(object.out, self.partial, |part, out| json_string(part.as_bytes(), MAX_VALUE, out));
        }
        if self.aborted {
            object.plain("aborted", true);
        }
        object.end();
        out.push(b'\n');
    }

    fn write_refusal(&self, object: &mut Object<'_>) {
        if let Some(rejection) = self.rejection {
            object.key("rejection");
            let mut inner = Object::begin(object.out);
            inner.text("stage", rejection.stage().as_str().as_bytes());
            inner.text("code", rejection.code().as_bytes());
            inner.text("reason", rejection.reason().as_bytes());
            inner.end();
        }
        object
            .optional("target_would_refuse", self.target_would_refuse.map(|error| error.as_str().as_bytes()));
        if let Some(firewall) = &self.firewall {
            object.key("firewall");
            firewall.write_json(object.out);
        }
    }

    /// Appends the record as one line for people, the line feed included.
    pub fn write_human(&self, out: &mut Vec<u8>) {
        write_time(self.time, out);
        out.extend_from_slice(b"  ");
        json_text(self.method, MAX_VALUE, out);
        out.push(b' ');
        json_text(&redact_path(self.path), MAX_VALUE, out);
        let _ = write!(out, " {} ", self.status);
        write_millis(self.duration, out);
        out.extend_from_slice(b"ms");
        pair("route", self.route.unwrap_or("-").as_bytes(), out);
        let _ = write!(out, " client={}", self.client);
        if let Some(upstream) = &self.upstream {
            pair("upstream", upstream.name.as_bytes(), out);
            out.extend_from_slice(b" upstream_ms=");
            write_millis(upstream.duration, out);
            for one in upstream.tries {
                let _ = write!(out, " try={}/{}/", one.endpoint, one.outcome);
                write_millis(one.duration, out);
                out.extend_from_slice(b"ms");
            }
        }
        if let Some(consumer) = self.consumer {
            pair("consumer", consumer.as_bytes(), out);
        }
        if let Some(rejection) = self.rejection {
            let _ = write!(out, " rejected={}/{}", rejection.stage().as_str(), rejection.reason());
        }
        if let Some(error) = self.target_would_refuse {
            let _ = write!(out, " target_would_refuse={error}");
        }
        if let Some(firewall) = &self.firewall {
            firewall.write_human(out);
        }
        for part in self.partial {
            pair("partial", part.as_bytes(), out);
        }
        if self.aborted {
            out.extend_from_slice(b" aborted");
        }
        let _ = writeln!(out, " id={}", self.id);
    }
}

fn pair(name: &str, value: &[u8], out: &mut Vec<u8>) {
    let _ = write!(out, " {name}=");
    json_text(value, MAX_VALUE, out);
}

/// A second as text, without fraction and zone.
type Second = [u8; 19];

thread_local! {
    /// The last second that was written: thousands of lines are of the same.
    static SECOND: Cell<(u64, Second)> = const { Cell::new((u64::MAX, [0; 19])) };
}

/// Appends a time as RFC 3339 has it, in UTC, with three decimals.
fn write_time(time: SystemTime, out: &mut Vec<u8>) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (known, mut text) = SECOND.get();
    if known != since.as_secs() {
        let second =
            i64::try_from(since.as_secs()).ok().and_then(|second| Timestamp::from_second(second).ok());
        // Nineteen bytes of `2026-11-22T16:25:00Z`; there are no others before the year 10000.
        let _ = write!(&mut text[..], "{}", second.unwrap_or(Timestamp::UNIX_EPOCH));
        SECOND.set((since.as_secs(), text));
    }
    out.extend_from_slice(&text);
    out.push(b'.');
    write_thousandths(since.subsec_millis(), out);
    out.push(b'Z');
}

/// Appends a duration in milliseconds with three decimals.
fn write_millis(duration: Duration, out: &mut Vec<u8>) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    push_decimal(micros / 1000, out);
    out.push(b'.');
    write_thousandths(u32::try_from(micros % 1000).unwrap_or(0), out);
}

/// Appends three digits.
fn write_thousandths(number: u32, out: &mut Vec<u8>) {
    for place in [100, 10, 1] {
        out.push(b'0' + u8::try_from(number / place % 10).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FirewallAction, RuleMatch, ShadowRecord};
    use proptest::prelude::*;
    use serde_json::Value;

    fn id() -> RequestId {
        RequestId::from_trusted(b"abc").unwrap()
    }

    fn record(id: &RequestId) -> AccessRecord<'_> {
        AccessRecord {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            id,
            trace: None,
            listener: "public",
            client: "192.0.2.1".parse().unwrap(),
            version: Version::Http11,
            method: b"GET",
            host: "example.com",
            path: b"/api/search",
            query: None,
            route: Some("search"),
            consumer: None,
            user_agent: None,
            status: 200,
            bytes_in: 0,
            bytes_out: 12,
            duration: Duration::from_micros(1_234),
            upstream: None,
            rejection: None,
            target_would_refuse: None,
            firewall: None,
            partial: &[],
            aborted: false,
        }
    }

    /// Both forms of a record, each checked to be one line.
    fn lines(record: &AccessRecord<'_>) -> (Value, String) {
        let (mut json, mut human) = (Vec::new(), Vec::new());
        record.write_json(&mut json);
        record.write_human(&mut human);
        for line in [&json, &human] {
            assert_eq!(line.iter().position(|b| *b == b'\n'), Some(line.len() - 1));
        }
        (serde_json::from_slice(&json).unwrap(), String::from_utf8(human).unwrap())
    }

    #[test]
    fn a_plain_request() {
        let trace = TraceContext::continue_from(
            Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            false,
        );
        let (json, human) = lines(&AccessRecord { trace: Some(&trace), ..record(&id()) });
        assert_eq!(json["timestamp"], "2023-11-14T22:13:20.123Z");
        assert_eq!(json["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(json["duration_ms"], 1.234);
        assert_eq!(json["client"], "192.0.2.1");
        assert!(json.get("query").is_none() && json.get("rejection").is_none());
        assert_eq!(
            human,
            "2023-11-14T22:13:20.123Z  GET /api/search 200 1.234ms route=search client=192.0.2.1 id=abc\n"
        );
    }

    #[test]
    fn times_are_written_as_the_library_writes_them() {
        for millis in [0, 1, 999, 1_000, 1_700_000_000_123, 1_700_000_000_000, 253_402_207_199_999] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
            let expected = format!("{:.3}", Timestamp::try_from(time).unwrap());
            let mut out = Vec::new();
            write_time(time, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_refused_request_explains_itself() {
        let rejection = Rejection::Firewall { rule: 1_000_949, phase: 2, status: 403, location: None };
        let matches = [
            RuleMatch {
                rule: 1_020_001,
                variable: "ARGS:q",
                value: b"' OR 1=1--",
                message: "SQL injection",
                offset: Some((1, 3)),
                scores: vec![("sql_injection_score", 5)],
                ..RuleMatch::default()
            },
            RuleMatch {
                rule: 1_020_002,
                variable: "ARGS:password",
                value: b"' OR 1",
                message: "found ' OR 1",
                ..RuleMatch::default()
            },
        ];
        let firewall = FirewallRecord {
            action: FirewallAction::Deny,
            rule: Some(1_000_949),
            score: 10,
            paranoia: (Some(1), Some(2)),
            matches: &matches,
            notes: &["only a part"],
            exclusions: &[(942_100, "ARGS:comment")],
            sampled: false,
            shadow: Some(ShadowRecord {
                live_blocks: true,
                shadow_blocks: false,
                rule: None,
                score: 3,
                only_live: &[1_020_001],
                only_shadow: &[],
            }),
        };
        let (json, human) = lines(&AccessRecord {
            status: 403,
            rejection: Some(&rejection),
            firewall: Some(firewall),
            ..record(&id())
        });
        assert_eq!(json["rejection"]["stage"], "firewall");
        assert_eq!(json["firewall"]["rule"], 1_000_949);
        assert_eq!(json["firewall"]["rules"][0]["variable"], "ARGS:q");
        assert_eq!(json["firewall"]["rules"][0]["value"], "' OR 1=1--");
        assert_eq!(json["firewall"]["rules"][1]["value"], "[redacted]");
        assert_eq!(json["firewall"]["notes"], serde_json::json!(["only a part"]));
        assert!(human.contains(" note=\"only a part\""), "{human}");
        assert_eq!(json["firewall"]["rules"][1]["message"], "found [redacted]");
        assert_eq!(json["firewall"]["rules"][0]["offset"], serde_json::json!([1, 3]));
        assert_eq!(json["firewall"]["rules"][0]["scores"]["sql_injection_score"], 5);
        assert_eq!(
            (&json["firewall"]["paranoia"], &json["firewall"]["detection_paranoia"]),
            (&1.into(), &2.into())
        );
        assert_eq!(
            json["firewall"]["exclusions"],
            serde_json::json!([{ "rule": 942_100, "target": "ARGS:comment" }])
        );
        assert_eq!(json["firewall"]["sampled"], false);
        assert_eq!(json["firewall"]["shadow"]["shadow"], "pass");
        assert_eq!(json["firewall"]["shadow"]["only_live"], serde_json::json!([1_020_001]));
        assert!(human.contains("sampled=false shadow=pass shadow_score=3"), "{human}");
        assert!(human.contains(r#"rule=1020001(ARGS:q="' OR 1=1--")"#), "{human}");
    }

    #[test]
    fn upstream_and_parts() {
        let upstream = UpstreamRecord {
            name: "catalogue",
            endpoint: "127.0.0.1:1",
            duration: Duration::from_millis(1),
            attempts: 2,
            tries: &[
                TryRecord {
                    endpoint: "127.0.0.1:2",
                    outcome: "closed",
                    status: None,
                    duration: Duration::from_micros(1_500),
                    hedge: false,
                },
                TryRecord {
                    endpoint: "127.0.0.1:1",
                    outcome: "answered",
                    status: Some(503),
                    duration: Duration::from_millis(2),
                    hedge: true,
                },
            ],
            denied: Some("budget"),
        };
        let (json, _) = lines(&AccessRecord {
            upstream: Some(upstream),
            partial: &["pricing", "entitlement"],
            aborted: true,
            query: Some(b"q=1&token=abc"),
            ..record(&id())
        });
        assert_eq!(json["upstream_ms"], 1.0);
        assert_eq!(json["partial"], serde_json::json!(["pricing", "entitlement"]));
        assert_eq!(json["aborted"], true);
        assert_eq!(json["query"], "q=1&token=[redacted]");
    }

    proptest! {
        #[test]
        fn j3_hostile_values_make_one_line_of_json(
            path in proptest::collection::vec(any::<u8>(), 0..200),
            agent in proptest::collection::vec(any::<u8>(), 0..3000),
            variable in any::<String>(),
        ) {
            let matches =
                [RuleMatch { rule: 1, variable: &variable, value: &path, ..RuleMatch::default() }];
            let firewall = FirewallRecord {
                action: FirewallAction::Log,
                rule: None,
                score: 0,
                paranoia: (None, None),
                matches: &matches,
                notes: &[],
                exclusions: &[],
                sampled: true,
                shadow: None,
            };
            let (json, human) = lines(&AccessRecord {
                path: &path,
                method: &agent,
                user_agent: Some(&agent),
                firewall: Some(firewall),
                ..record(&id())
            });
            prop_assert!(json["user_agent"].as_str().unwrap().chars().count() <= MAX_VALUE + 1);
            prop_assert!(!human.trim_end_matches('\n').chars().any(char::is_control));
        }
    }
}
