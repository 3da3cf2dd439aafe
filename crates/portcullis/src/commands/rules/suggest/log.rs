//! A request in a log: the access log's JSON lines, or the audit log in ModSecurity's JSON.

use super::exclusion::{Exclusion, Target};
use crate::commands::rules::message::Request;
use crate::commands::rules::subject::{Exchange, Subject};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What a log says of a request.
#[derive(Default)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) route: Option<String>,
    pub(super) path: Option<String>,
    pub(super) matches: Vec<Logged>,
    /// The request, where the log has its fields.
    pub(super) exchange: Option<Exchange>,
}

/// A rule that matched.
pub(super) struct Logged {
    pub(super) rule: u32,
    variable: String,
    message: String,
}

/// Looks a request up. All entries of its id count: a route is in one log, the fields in another.
///
/// # Errors
/// A log that cannot be read; an id that it does not have, or has without any rule.
pub(super) fn find(log: Option<&Path>, id: &str) -> Result<Entry, String> {
    let name = log.map_or_else(|| "standard input".to_owned(), |log| log.display().to_string());
    let named = |error: std::io::Error| format!("{name}: {error}");
    let lines: Box<dyn BufRead> = match log.filter(|log| *log != Path::new("-")) {
        Some(log) => Box::new(BufReader::new(std::fs::File::open(log).map_err(named)?)),
        None => Box::new(std::io::stdin().lock()),
    };
    let mut entry = Entry { id: id.to_owned(), ..Entry::default() };
    let mut known = false;
    for line in lines.split(b'\n') {
        let line = line.map_err(named)?;
        // Most lines are of other requests and need not be parsed.
        if !contains(&line, id.as_bytes()) {
            continue;
        }
        let start = line.iter().position(|byte| *byte == b'{').unwrap_or(0);
        let Ok(value) = serde_json::from_slice::<Value>(line.get(start..).unwrap_or_default()) else {
            continue;
        };
        known |= entry.read_access(&value, id) || entry.read_audit(&value, id);
    }
    match (known, entry.matches.is_empty()) {
        (false, _) => {
            Err(format!("{name}: no request `{id}` in JSON lines; is it a file that does not exist?"))
        }
        (true, true) => Err(format!("{name}: the firewall found nothing in the request `{id}`")),
        (true, false) => Ok(entry),
    }
}

fn contains(line: &[u8], text: &[u8]) -> bool {
    line.windows(text.len().max(1)).any(|window| window == text)
}

/// A member of an object; null where there is none.
fn member<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Ids stand in the audit log as text.
fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| id.try_into().ok()).or_else(|| value.as_str()?.parse().ok())
}

impl Entry {
    fn read_access(&mut self, line: &Value, id: &str) -> bool {
        if member(line, "request_id") != id || member(line, "message") != "request" {
            return false;
        }
        self.route = member(line, "route").as_str().map(str::to_owned).or_else(|| self.route.take());
        self.path = member(line, "path").as_str().map(str::to_owned).or_else(|| self.path.take());
        for rule in member(member(line, "firewall"), "rules").as_array().into_iter().flatten() {
            let Some(id) = number(member(rule, "id")) else { continue };
            self.note(Logged {
                rule: id,
                variable: text(member(rule, "variable")),
                message: text(member(rule, "message")),
            });
        }
        true
    }

    fn read_audit(&mut self, line: &Value, id: &str) -> bool {
        let transaction = member(line, "transaction");
        if member(transaction, "unique_id") != id {
            return false;
        }
        for message in member(transaction, "messages").as_array().into_iter().flatten() {
            let details = member(message, "details");
            let Some(rule) = number(member(details, "ruleId")) else { continue };
            let variable =
                variable(member(details, "match").as_str().unwrap_or_default()).unwrap_or_default();
            self.note(Logged {
                rule,
                variable: variable.to_owned(),
                message: text(member(message, "message")),
            });
        }
        let request = member(transaction, "request");
        let target = text(member(request, "uri"));
        self.path = target.split('?').next().map(str::to_owned).or_else(|| self.path.take());
        if let Some(headers) = member(request, "headers").as_object() {
            self.exchange = Some(Exchange { request: audited(request, &target, headers), response: None });
        }
        true
    }

    fn note(&mut self, logged: Logged) {
        if !self.matches.iter().any(|known| known.rule == logged.rule && known.variable == logged.variable) {
            self.matches.push(logged);
        }
    }

    /// An exclusion for each rule that looked at something of the request.
    pub(super) fn exclusions(&self, subject: &Subject) -> Vec<Exclusion> {
        let known: BTreeSet<u32> = subject.program.rules().map(|rule| rule.id).collect();
        let of = |logged: &Logged| {
            let target = Target::of(&logged.variable);
            let apt = known.contains(&logged.rule) && !logged.variable.is_empty() && !target.is_own();
            apt.then(|| Exclusion {
                rule: logged.rule,
                message: logged.message.clone(),
                target: Some(target),
            })
        };
        self.matches.iter().filter_map(of).collect()
    }
}

/// The variable in ModSecurity's words: "… against variable `ARGS:q' (Value: …".
fn variable(reason: &str) -> Option<&str> {
    let (_, rest) = reason.split_once("variable `")?;
    rest.split_once("' (").or_else(|| rest.split_once('\'')).map(|(variable, _)| variable)
}

fn audited(request: &Value, target: &str, headers: &serde_json::Map<String, Value>) -> Request {
    let mut fields = Vec::new();
    for (name, value) in headers {
        let values = value.as_array().map_or_else(|| vec![value], |all| all.iter().collect());
        fields.extend(values.into_iter().map(|value| (name.as_bytes().to_vec(), text(value).into_bytes())));
    }
    let version = member(request, "http_version")
        .as_f64()
        .map_or_else(|| text(member(request, "http_version")), |v| format!("{v:.1}"));
    Request {
        method: text(member(request, "method")).into_bytes(),
        target: target.as_bytes().to_vec(),
        version: format!("HTTP/{version}").into_bytes(),
        fields,
        body: text(member(request, "body")).into_bytes(),
    }
}
