//! Calling all parts and merging what they answer.

use crate::call::{Answer, Input, call};
use crate::document::{Object, Value};
use crate::join::join;
use crate::select::Selection;
use crate::{Failure, Part, PartError, PartFailure, SettingsError};
use bytes::Bytes;
use portcullis_http::{Fields, Held, Rejection, hygiene, is_token};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// Several calls that make one answer. Immutable; made once for a route.
#[derive(Debug)]
pub struct Composition {
    parts: Vec<Planned>,
    partial_field: Option<String>,
}

#[derive(Debug)]
struct Planned {
    part: Part,
    pick: Selection,
    drop: Selection,
}

/// An answer made from several.
#[derive(Debug)]
pub struct Composed {
    /// 200; or what a required part said is not there: 404 or 410.
    pub status: u16,
    /// `Content-Type`, and where parts failed `X-Portcullis-Partial` and `Cache-Control: no-store`.
    pub fields: Fields,
    /// The document: JSON, or for another status than 200 a problem (RFC 9457).
    pub body: Bytes,
    /// The parts that failed, in the order of configuration, for log and metrics.
    pub failed: Vec<PartFailure>,
    /// The body's bytes on the account, to be kept as long as the body; `None` for the few of a problem.
    pub held: Option<Held>,
}

impl Composition {
    /// Makes a composition. `partial_field` names a member of the answer that lists failed parts; it is the gateway's
    /// alone, and never passes from a part.
    ///
    /// # Errors
    /// The first [`SettingsError`].
    pub fn new(parts: Vec<Part>, partial_field: Option<String>) -> Result<Self, SettingsError> {
        if parts.is_empty() {
            return Err(SettingsError::NoPart);
        }
        let mut planned: Vec<Planned> = Vec::with_capacity(parts.len());
        for part in parts {
            let name = || part.name.to_string();
            if planned.iter().any(|other| other.part.name == part.name) {
                return Err(SettingsError::DuplicateName { part: name() });
            }
            if let Some(field) = partial_field.as_ref().filter(|field| part.into.as_ref() == Some(*field)) {
                return Err(SettingsError::PartialField { part: name(), field: field.clone() });
            }
            planned.push(plan(part)?);
        }
        Ok(Composition { parts: planned, partial_field })
    }

    /// Calls all parts at the same time, in this task, and merges their answers.
    ///
    /// Ends at the latest when the longest of the parts' timeouts is over.
    ///
    /// # Errors
    /// [`Failure`] where a required part failed. Calls that are still under way are broken off then.
    pub async fn run(&self, input: &Input<'_>) -> Result<Composed, Failure> {
        let calls = self.parts.iter().enumerate();
        let calls = calls.map(|(at, planned)| Box::pin(call(&planned.part, at, input)) as _).collect();
        let answers = join(calls, |answers| self.is_lost(answers)).await;
        let (mut whole, mut failed) = (Object::default(), Vec::new());
        for (planned, answer) in self.parts.iter().zip(&answers) {
            // One that is not there was broken off: a required part behind it failed.
            let Some(answer) = answer else { continue };
            let document = answer.as_ref().map_err(|reason| *reason);
            match document.and_then(|answer| planned.document(&answer.text)) {
                Ok(document) => planned.put(document, &mut whole),
                Err(reason) => {
                    let part = &planned.part;
                    tracing::debug!(part = %part.name, upstream = part.upstream.name(), %reason, "a part failed");
                    let failure = PartFailure { name: Arc::clone(&part.name), reason };
                    if part.required {
                        return lost(failure);
                    }
                    failed.push(failure);
                }
            }
        }
        if let Some(field) = &self.partial_field {
            whole.remove(field);
            if !failed.is_empty() {
                whole.set(Cow::Borrowed(field), Value::Names(failed.iter().map(|f| &*f.name).collect()));
            }
        }
        let mut body = Vec::new();
        whole.write(&mut body);
        let held = input.budget.hold(body.len());
        if held.is_none() {
            return Err(Failure { rejection: Rejection::OverBudget, part: None });
        }
        Ok(Composed { status: 200, fields: answer_fields(&failed), body: body.into(), failed, held })
    }

    /// Whether a required part failed and every required part before it did not: nothing else can matter then.
    fn is_lost(&self, answers: &[Option<Result<Answer, PartError>>]) -> bool {
        self.parts
            .iter()
            .zip(answers)
            .filter(|(planned, _)| planned.part.required)
            .map(|(_, answer)| answer)
            .find(|answer| !matches!(answer, Some(Ok(_))))
            .is_some_and(|answer| matches!(answer, Some(Err(_))))
    }
}

/// The outcome where a required part failed.
fn lost(part: PartFailure) -> Result<Composed, Failure> {
    let (status, title) = match part.reason {
        PartError::Status(404) => (404, "Not Found"),
        PartError::Status(410) => (410, "Gone"),
        reason => return Err(Failure { rejection: reason.rejection(), part: Some(part) }),
    };
    let body = format!(r#"{{"type":"about:blank","title":"{title}","status":{status}}}"#);
    let mut fields = Fields::default();
    fields.append_parsed(b"content-type", b"application/problem+json");
    Ok(Composed { status, fields, body: body.into(), failed: vec![part], held: None })
}

fn plan(part: Part) -> Result<Planned, SettingsError> {
    let name = || part.name.to_string();
    if !is_token(part.name.as_bytes()) {
        return Err(SettingsError::Name { part: name() });
    }
    if !part.path.is_path() {
        return Err(SettingsError::Path { part: name() });
    }
    let bad = |name: &str| !is_token(name.as_bytes()) || hygiene::is_hop_by_hop(name.as_bytes());
    if let Some((header, _)) = part.headers.iter().find(|(header, _)| bad(header)) {
        return Err(SettingsError::Header { part: name(), name: header.clone() });
    }
    let selection = |paths| {
        Selection::parse(paths).map_err(|path| SettingsError::Member { part: name(), path: path.clone() })
    };
    let (pick, drop) = (selection(&part.pick)?, selection(&part.drop)?);
    Ok(Planned { part, pick, drop })
}

impl Planned {
    /// The part's document, less what is not wanted of it.
    fn document<'a>(&self, text: &'a str) -> Result<Value<'a>, PartError> {
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| PartError::NotJson)?;
        let whole = self.pick.is_empty() && self.drop.is_empty();
        if self.part.into.is_some() && whole {
            return Ok(Value::Raw(raw));
        }
        let mut object = Value::Raw(raw).into_object().ok_or(PartError::NotJson)?;
        if !self.pick.is_empty() {
            object = self.pick.pick(object);
        }
        if !self.drop.is_empty() {
            object = self.drop.drop(object);
        }
        Ok(Value::Object(object))
    }

    fn put<'a>(&'a self, document: Value<'a>, whole: &mut Object<'a>) {
        match (&self.part.into, document) {
            (Some(member), document) => whole.set(Cow::Borrowed(member), document),
            (None, Value::Object(object)) => whole.merge(object),
            // Without a member of its own, a document was read as an object.
            (None, _) => {}
        }
    }
}

fn answer_fields(failed: &[PartFailure]) -> Fields {
    let mut fields = Fields::default();
    fields.append_parsed(b"content-type", b"application/json");
    if !failed.is_empty() {
        let names: Vec<&str> = failed.iter().map(|part| &*part.name).collect();
        fields.append_parsed(b"x-portcullis-partial", names.join(", ").as_bytes());
        fields.append_parsed(b"cache-control", b"no-store");
    }
    fields
}
