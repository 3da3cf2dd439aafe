//! One line for each request.

use crate::escape::{MAX_VALUE, json_string, json_text};
use crate::logging::LogFormat;
use crate::{FirewallAction, LogQueue, redact_matched, redact_path, redact_query};
use jiff::Timestamp;
use portcullis_http::{Rejection, RequestId, TraceContext, Version};
use std::cell::RefCell;
use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// Bytes of a matched value that a line keeps: enough to see the attack.
const MAX_MATCHED: usize = 200;

/// Rules that a line names at most; the score tells of the rest.
const MAX_RULES: usize = 16;

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
}

/// What the firewall saw.
#[derive(Clone, Copy, Debug)]
pub struct FirewallRecord<'a> {
    /// What it did.
    pub action: FirewallAction,
    /// The rule that decided; `None` where no rule refused.
    pub rule: Option<u32>,
    /// The anomaly score of the request and the response together.
    pub score: i64,
    /// The rules that matched, in order.
    pub matches: &'a [RuleMatch<'a>],
    /// What it could not look at as it should have, such as the end of a long body.
    pub notes: &'a [&'a str],
}

/// One rule that matched.
#[derive(Clone, Copy, Debug)]
pub struct RuleMatch<'a> {
    /// Its id.
    pub rule: u32,
    /// The variable it matched, such as `ARGS:q`.
    pub variable: &'a str,
    /// What it matched there. Masked where the variable's name or the value looks like a secret.
    pub value: &'a [u8],
    /// The rule's message.
    pub message: &'a str,
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
        object.plain("timestamp", format_args!("\"{:.3}\"", timestamp(self.time)));
        object.plain("level", "\"INFO\"");
        object.plain("message", "\"request\"");
        object.text("request_id", self.id.as_str().as_bytes());
        if let Some(id) = self.trace.map(TraceContext::traceparent) {
            object.text("trace_id", id.get(3..35).unwrap_or_default());
        }
        object.text("listener", self.listener.as_bytes());
        object.plain("client", format_args!("\"{}\"", self.client));
        object.text("protocol", self.version.as_str().as_bytes());
        object.text("method", self.method);
        object.text("host", self.host.as_bytes());
        object.text("path", &redact_path(self.path));
        object.optional("query", self.query.map(redact_query).as_deref());
        object.optional("route", self.route.map(str::as_bytes));
        object.optional("consumer", self.consumer.map(str::as_bytes));
        object.optional("user_agent", self.user_agent);
        object.plain("status", self.status);
        object.plain("bytes_in", self.bytes_in);
        object.plain("bytes_out", self.bytes_out);
        object.plain("duration_ms", Millis(self.duration));
        if let Some(upstream) = &self.upstream {
            object.text("upstream", upstream.name.as_bytes());
            object.text("endpoint", upstream.endpoint.as_bytes());
            object.plain("upstream_ms", Millis(upstream.duration));
            object.plain("attempts", upstream.attempts);
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
        if let Some(firewall) = &self.firewall {
            object.key("firewall");
            let mut inner = Object::begin(object.out);
            inner.text("action", firewall.action.as_str().as_bytes());
            if let Some(rule) = firewall.rule {
                inner.plain("rule", rule);
            }
            inner.plain("score", firewall.score);
            inner.plain("matched", firewall.matches.len());
            inner.key("rules");
            let named = firewall.matches.get(..MAX_RULES).unwrap_or(firewall.matches);
            list(inner.out, named, RuleMatch::write_json);
            if !firewall.notes.is_empty() {
                inner.key("notes");
                list(inner.out, firewall.notes, |note, out| json_string(note.as_bytes(), MAX_VALUE, out));
            }
            inner.end();
        }
    }

    /// Appends the record as one line for people, the line feed included.
    pub fn write_human(&self, out: &mut Vec<u8>) {
        let _ = write!(out, "{:.3}  ", timestamp(self.time));
        json_text(self.method, MAX_VALUE, out);
        out.push(b' ');
        json_text(&redact_path(self.path), MAX_VALUE, out);
        let _ = write!(out, " {} {}ms", self.status, Millis(self.duration));
        pair("route", self.route.unwrap_or("-").as_bytes(), out);
        let _ = write!(out, " client={}", self.client);
        if let Some(upstream) = &self.upstream {
            pair("upstream", upstream.name.as_bytes(), out);
            let _ = write!(out, " upstream_ms={}", Millis(upstream.duration));
        }
        if let Some(consumer) = self.consumer {
            pair("consumer", consumer.as_bytes(), out);
        }
        if let Some(rejection) = self.rejection {
            let _ = write!(out, " rejected={}/{}", rejection.stage().as_str(), rejection.reason());
        }
        if let Some(firewall) = &self.firewall {
            let _ = write!(out, " firewall={} score={}", firewall.action.as_str(), firewall.score);
            for matched in firewall.matches.iter().take(MAX_RULES) {
                let _ = write!(out, " rule={}", matched.rule);
                out.push(b'(');
                json_text(matched.variable.as_bytes(), MAX_MATCHED, out);
                out.extend_from_slice(b"=\"");
                json_text(&redact_matched(matched.variable, matched.value), MAX_MATCHED, out);
                out.extend_from_slice(b"\")");
            }
            for note in firewall.notes {
                out.extend_from_slice(b" note=\"");
                json_text(note.as_bytes(), MAX_VALUE, out);
                out.push(b'"');
            }
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

impl RuleMatch<'_> {
    fn write_json(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.plain("id", self.rule);
        object.text("variable", self.variable.as_bytes());
        object.key("value");
        json_string(&redact_matched(self.variable, self.value), MAX_MATCHED, object.out);
        object.text("message", self.message.as_bytes());
        object.end();
    }
}

/// A JSON object being written.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Object { out, first: true }
    }

    /// Names are ours and need no escaping.
    fn key(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, value: &[u8]) {
        self.key(name);
        json_string(value, MAX_VALUE, self.out);
    }

    fn optional(&mut self, name: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A value that is JSON as it displays.
    fn plain(&mut self, name: &str, value: impl Display) {
        self.key(name);
        let _ = write!(self.out, "{value}");
    }

    fn end(self) {
        self.out.push(b'}');
    }
}

fn list<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

fn pair(name: &str, value: &[u8], out: &mut Vec<u8>) {
    let _ = write!(out, " {name}=");
    json_text(value, MAX_VALUE, out);
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A duration in milliseconds with three decimals.
struct Millis(Duration);

impl Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn a_refused_request_explains_itself() {
        let rejection = Rejection::Firewall { rule: 1_000_949, phase: 2, status: 403, location: None };
        let matches = [
            RuleMatch { rule: 1_020_001, variable: "ARGS:q", value: b"' OR 1=1--", message: "SQL injection" },
            RuleMatch { rule: 1_020_002, variable: "ARGS:password", value: b"' OR 1", message: "SQL" },
        ];
        let firewall = FirewallRecord {
            action: FirewallAction::Deny,
            rule: Some(1_000_949),
            score: 10,
            matches: &matches,
            notes: &["only a part"],
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
        assert!(human.contains(r#"rule=1020001(ARGS:q="' OR 1=1--")"#), "{human}");
    }

    #[test]
    fn upstream_and_parts() {
        let upstream = UpstreamRecord {
            name: "catalogue",
            endpoint: "127.0.0.1:1",
            duration: Duration::from_millis(1),
            attempts: 1,
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
            let matches = [RuleMatch { rule: 1, variable: &variable, value: &path, message: "m" }];
            let (action, notes) = (FirewallAction::Log, &[][..]);
            let firewall = FirewallRecord { action, rule: None, score: 0, matches: &matches, notes };
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
