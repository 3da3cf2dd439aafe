//! One JSON object for each request, as ModSecurity v3 writes its audit log (`SecAuditLogFormat JSON`), so that what
//! reads that (Elastic's integration among them) reads this.
//!
//! It differs in three ways: a field that occurs more than once is an array (v3 writes its name twice); secrets are
//! masked; and `audit_data.server` says that it is as nginx's connector has it, which is by what Elastic's integration
//! chooses its pipeline, from a field of the response where it is not said.

use super::error_log::{local_time, number};
use super::{FirewallEvent, MAX_AUDITED_BODY, Producer, RuleMatch};
use crate::escape::{MAX_VALUE, json_string};
use crate::json::{Object, list};
use crate::{redact_matched, redact_path, redact_query};

/// Which parts of a message an entry has, by ModSecurity's letters: B the request's fields, C its body, E the answer's
/// body, F the answer's fields, H the rules that matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditParts {
    /// B
    pub request_fields: bool,
    /// C
    pub request_body: bool,
    /// E
    pub response_body: bool,
    /// F
    pub response_fields: bool,
    /// H
    pub messages: bool,
}

impl AuditParts {
    /// The parts that `has` says yes to, by letter.
    #[must_use]
    pub fn of(has: impl Fn(char) -> bool) -> Self {
        AuditParts {
            request_fields: has('B'),
            request_body: has('C'),
            response_body: has('E'),
            response_fields: has('F'),
            messages: has('H'),
        }
    }

    /// Whether an entry needs [`super::Evidence`].
    #[must_use]
    pub fn need_evidence(self) -> bool {
        self.request_body || self.response_body || self.response_fields
    }
}

impl FirewallEvent<'_> {
    /// Appends the entry as one line, the line feed included.
    pub(super) fn write_audit_entry(&self, parts: AuditParts, producer: &Producer, out: &mut Vec<u8>) {
        let mut entry = Object::begin(out);
        entry.key("transaction");
        let mut object = Object::begin(entry.out);
        object.plain("client_ip", format_args!("\"{}\"", self.client.ip()));
        object.plain("time_stamp", format_args!("\"{}\"", local_time(self.time, "%a %b %e %H:%M:%S %Y")));
        object.text("server_id", producer.server_id.as_bytes());
        object.plain("client_port", self.client.port());
        object.plain("host_ip", format_args!("\"{}\"", self.server.ip().to_canonical()));
        object.plain("host_port", self.server.port());
        object.text("unique_id", self.id.as_str().as_bytes());
        object.key("request");
        self.write_request(parts, object.out);
        object.key("response");
        self.write_response(parts, object.out);
        if parts.messages {
            object.key("producer");
            self.write_producer(producer, object.out);
            object.key("messages");
            list(object.out, self.matches, RuleMatch::write_audit_message);
        }
        object.end();
        entry.plain("audit_data", r#"{"server":"Portcullis (as ModSecurity-nginx)"}"#);
        entry.end();
        out.push(b'\n');
    }

    fn write_request(&self, parts: AuditParts, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("method", self.method);
        object.plain("http_version", format_args!("{:.1}", number(self.version)));
        object.text("hostname", self.host_or_address().as_bytes());
        let (path, query) = self.split_target();
        let mut uri = redact_path(path).into_owned();
        if let Some(query) = query {
            uri.push(b'?');
            uri.extend_from_slice(&redact_query(query));
        }
        object.text("uri", &uri);
        if let Some(evidence) = self.evidence.filter(|_| parts.request_body) {
            write_body("REQUEST_BODY", &evidence.request_body, &mut object);
        }
        if parts.request_fields {
            object.key("headers");
            let fields: Vec<(&[u8], &[u8])> = self.fields.iter().collect();
            write_fields("REQUEST_HEADERS", &fields, object.out);
        }
        object.end();
    }

    fn write_response(&self, parts: AuditParts, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        let evidence = self.evidence;
        if let Some(evidence) = evidence.filter(|_| parts.response_body) {
            write_body("RESPONSE_BODY", &evidence.response_body, &mut object);
        }
        object.plain("http_code", self.status);
        if parts.response_fields {
            object.key("headers");
            let fields = evidence.map_or(&[][..], |evidence| &evidence.response_fields);
            let fields: Vec<(&[u8], &[u8])> =
                fields.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
            write_fields("RESPONSE_HEADERS", &fields, object.out);
        }
        object.end();
    }

    fn write_producer(&self, producer: &Producer, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        let version = env!("CARGO_PKG_VERSION");
        object.plain("modsecurity", format_args!("\"Portcullis v{version} (ModSecurity v3 format)\""));
        object.plain("connector", format_args!("\"Portcullis v{version}\""));
        let engine = if self.detects { "DetectionOnly" } else { "Enabled" };
        object.text("secrules_engine", engine.as_bytes());
        object.key("components");
        list(object.out, &producer.components, |name, out| json_string(name.as_bytes(), MAX_VALUE, out));
        object.end();
    }
}

impl RuleMatch<'_> {
    fn write_audit_message(&self, out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        object.text("message", self.shown_message().as_bytes());
        object.key("details");
        let mut details = Object::begin(object.out);
        let mut text = Vec::new();
        self.write_reason(&mut text);
        details.text("match", &text);
        text.clear();
        self.write_reference(&mut text);
        details.text("reference", &text);
        // All values are strings, as v3 has them.
        details.plain("ruleId", format_args!("\"{}\"", self.rule));
        details.text("file", self.file.as_bytes());
        details.plain("lineNumber", format_args!("\"{}\"", self.line));
        details.text("data", self.shown_data().as_bytes());
        details.plain("severity", format_args!("\"{}\"", self.severity.unwrap_or(0)));
        details.text("ver", self.version.as_bytes());
        details.text("rev", self.revision.as_bytes());
        details.key("tags");
        list(details.out, self.tags, |tag, out| json_string(tag.as_bytes(), MAX_VALUE, out));
        details.plain("maturity", format_args!("\"{}\"", self.maturity));
        details.plain("accuracy", format_args!("\"{}\"", self.accuracy));
        details.end();
        object.end();
    }
}

fn write_body(variable: &str, body: &[u8], object: &mut Object<'_>) {
    object.key("body");
    json_string(&redact_matched(variable, body), MAX_AUDITED_BODY, object.out);
}

/// Fields by name, in the order of their first occurrence.
fn write_fields(collection: &str, fields: &[(&[u8], &[u8])], out: &mut Vec<u8>) {
    let same = |a: &[u8], b: &[u8]| a.eq_ignore_ascii_case(b);
    let mut object = Object::begin(out);
    for (at, (name, _)) in fields.iter().enumerate() {
        if fields.iter().take(at).any(|(earlier, _)| same(earlier, name)) {
            continue;
        }
        let shown = String::from_utf8_lossy(name);
        let variable = format!("{collection}:{shown}");
        let values: Vec<&[u8]> =
            fields.iter().filter(|(other, _)| same(other, name)).map(|(_, value)| *value).collect();
        let write = |value: &&[u8], out: &mut Vec<u8>| {
            json_string(&redact_matched(&variable, value), MAX_VALUE, out);
        };
        // Names of fields are tokens and need no escaping; those of others would not have been parsed.
        object.key(&shown);
        match values.as_slice() {
            [one] => write(one, object.out),
            many => list(object.out, many, write),
        }
    }
    object.end();
}
