//! Rules as text, requests as values, verdicts as text: what the tables of the semantic tests are made of.

use std::sync::Arc;

use portcullis_diag::{Diagnostics, SourceMap};
use portcullis_waf::{
    Action, BuildOptions, FileSystem, Interruption, Overlay, OverlaySettings, Program, Report, Transaction,
    build_with,
};

/// Status, fields and body.
pub(crate) type Response = (u16, Vec<(String, String)>, Vec<u8>);

/// A request and its response.
#[derive(Clone, Default)]
pub(crate) struct Message {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) response: Option<Response>,
}

pub(crate) fn get(target: &str) -> Message {
    Message { method: "GET", target: target.to_owned(), ..Message::default() }
}

pub(crate) fn post(content_type: &str, body: &str) -> Message {
    let fields = vec![("Content-Type".to_owned(), content_type.to_owned())];
    Message { method: "POST", target: "/".to_owned(), fields, body: body.as_bytes().to_vec(), response: None }
}

impl Message {
    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn answered(mut self, status: u16, media_type: &str, body: &str) -> Self {
        let fields = vec![("Content-Type".to_owned(), media_type.to_owned())];
        self.response = Some((status, fields, body.as_bytes().to_vec()));
        self
    }
}

pub(crate) fn try_program(rules: &str) -> Result<(Arc<Program>, Diagnostics), String> {
    program_with(rules, BuildOptions::default())
}

pub(crate) fn program_with(
    rules: &str,
    options: BuildOptions,
) -> Result<(Arc<Program>, Diagnostics), String> {
    let mut sources = SourceMap::new();
    let file = sources.add("test.conf", rules);
    let parsed = portcullis_seclang::parse(&sources, file);
    if parsed.diagnostics.has_errors() {
        return Err(parsed.diagnostics.to_text(&sources));
    }
    let built = build_with(&parsed.directives, &sources, &FileSystem, options);
    built.map(|(program, found)| (Arc::new(program), found)).map_err(|found| found.to_text(&sources))
}

pub(crate) fn program(rules: &str) -> Arc<Program> {
    try_program(rules).unwrap_or_else(|findings| panic!("{findings}")).0
}

/// Everything the rules said of a message, with the interruption that happened.
pub(crate) fn send(
    program: &Arc<Program>,
    settings: &OverlaySettings,
    message: &Message,
    chunk: usize,
) -> (Report, Option<Interruption>) {
    let overlay = Arc::new(Overlay::compile(program, settings).unwrap());
    let mut transaction = Transaction::new(Arc::clone(program), overlay, "id-1");
    transaction.connection("192.0.2.7".parse().unwrap(), 40000, "192.0.2.1".parse().unwrap(), 443);
    transaction.request_line(message.method.as_bytes(), message.target.as_bytes(), b"HTTP/1.1");
    for (name, value) in &message.fields {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    let verdict = run(&mut transaction, message, chunk);
    (transaction.finish(), verdict)
}

fn run(transaction: &mut Transaction, message: &Message, chunk: usize) -> Option<Interruption> {
    if let Some(verdict) = transaction.check_request_headers() {
        return Some(verdict);
    }
    for piece in message.body.chunks(chunk.max(1)) {
        if let Some(verdict) = transaction.write_request_body(piece) {
            return Some(verdict);
        }
    }
    if let Some(verdict) = transaction.check_request_body() {
        return Some(verdict);
    }
    let (status, fields, body) = message.response.as_ref()?;
    transaction.response_status(*status);
    for (name, value) in fields {
        transaction.response_header(name.as_bytes(), value.as_bytes());
    }
    if let Some(verdict) = transaction.check_response_headers() {
        return Some(verdict);
    }
    for piece in body.chunks(chunk.max(1)) {
        if let Some(verdict) = transaction.write_response_body(piece) {
            return Some(verdict);
        }
    }
    transaction.check_response_body()
}

/// `1 2=logdata deny 403@2`: the rules reported in order with their logdata, then the interruption and its phase; in
/// detect mode, what would have been one, in parentheses.
pub(crate) fn verdict(report: &Report, interruption: Option<&Interruption>) -> String {
    let mut words: Vec<String> = report
        .matches
        .iter()
        .map(|found| match found.logdata.as_str() {
            "" => found.rule_id.to_string(),
            data => format!("{}={data}", found.rule_id),
        })
        .collect();
    let show = |interruption: &Interruption| {
        let action = match &interruption.action {
            Action::Deny => "deny".to_owned(),
            Action::Drop => "drop".to_owned(),
            Action::Redirect(address) => format!("redirect:{address}"),
        };
        format!("{action} {}@{}", interruption.status, interruption.phase)
    };
    words.extend(interruption.map(show));
    words.extend(report.would_interrupt.as_ref().map(|would| format!("({})", show(would))));
    words.join(" ")
}

/// One table row: the rules' verdict on a message.
pub(crate) fn check(name: &str, rules: &str, message: &Message, expected: &str) {
    let program = program(rules);
    let (report, interruption) = send(&program, &OverlaySettings::default(), message, 7);
    assert_eq!(report.interruption, interruption, "{name}");
    assert_eq!(verdict(&report, interruption.as_ref()), expected, "{name}\n{}", program.dump());
}
