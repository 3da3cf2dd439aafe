//! The guard of request bodies.

use crate::{Coding, JsonShape, MediaRange, MediaType};
use portcullis_http::{ContractFailure, Exchange, Framing, Guard, Malformed, Rejection, RequestHead};

/// What a route's request bodies must be.
///
/// [`Contract::check_head`] can run before the body is read, and so refuse it unread; [`Contract::check_body`]
/// runs on the buffered body. As a [`Guard`] it does both.
#[derive(Clone, Debug, Default)]
pub struct Contract {
    /// The media types taken; `None` takes any.
    pub media_types: Option<Vec<MediaRange>>,
    /// The shape of JSON bodies; `None` does not look into them.
    pub json: Option<JsonShape>,
    /// Types whose bodies are to be JSON although their name does not say so (`text/plain` of some senders).
    pub json_also: Vec<MediaRange>,
    /// Whether anything looks into the body (this guard's `json`, or the firewall): then a content coding, which
    /// would hide it, is taken off or refused, and a `Content-Type` that can be read in two ways is refused.
    pub inspected: bool,
    /// The content codings that are taken, because the caller takes them off for those who look into the body.
    pub codings: Vec<Coding>,
}

impl Contract {
    /// Judges what the head says of the body. A request without a body passes.
    ///
    /// # Errors
    /// 400 ([`Malformed::Duplicate`]) for two `Content-Type` fields, 415 for a type, charset or content coding
    /// that is not taken.
    pub fn check_head(&self, request: &RequestHead) -> Result<(), Rejection> {
        const REFUSED: Rejection = Rejection::Contract(ContractFailure::MediaType);
        if request.fields.get_all("content-type").nth(1).is_some() {
            return Err(Rejection::Malformed(Malformed::Duplicate));
        }
        if has_no_body(request) {
            return Ok(());
        }
        self.coding(request)?;
        // An empty one says no more than none.
        let declared = request.fields.get("content-type").filter(|value| !value.is_empty());
        let media = declared.and_then(|value| std::str::from_utf8(value).ok()).and_then(MediaType::parse);
        if declared.is_some() && media.is_none() && self.inspects() {
            return Err(REFUSED);
        }
        let taken = match (&self.media_types, &media) {
            (None, _) => true,
            (Some(ranges), Some(media)) => ranges.iter().any(|range| range.holds(media)),
            (Some(_), None) => false,
        };
        let readable = match &media {
            Some(media) if self.json.is_some() && self.is_json(media) => {
                media.charset().is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8"))
            }
            _ => true,
        };
        if taken && readable { Ok(()) } else { Err(REFUSED) }
    }

    /// The coding that has to be taken off the body before anything looks into it. `None` as well where nothing
    /// does.
    ///
    /// # Errors
    /// 415 for a coding that is not taken, and for more than one: each could hide another body from a reader that
    /// gives up earlier.
    pub fn coding(&self, request: &RequestHead) -> Result<Option<Coding>, Rejection> {
        let mut tokens =
            request.fields.get_all("content-encoding").flat_map(|value| value.split(|byte| *byte == b','));
        let first = match tokens.next().map(<[u8]>::trim_ascii) {
            Some(first) if self.inspects() && !has_no_body(request) => first,
            _ => return Ok(None),
        };
        let single = tokens.next().is_none();
        if single && first.eq_ignore_ascii_case(b"identity") {
            return Ok(None);
        }
        match Coding::named(first).filter(|coding| single && self.codings.contains(coding)) {
            Some(coding) => Ok(Some(coding)),
            None => Err(Rejection::ContentCoding { accept: self.accepted() }),
        }
    }

    /// `Accept-Encoding` for those whose coding is not taken.
    fn accepted(&self) -> String {
        let names: Vec<&str> = self.codings.iter().map(|coding| coding.as_str()).collect();
        if names.is_empty() { "identity".to_owned() } else { names.join(", ") }
    }

    /// Judges a whole body, without its content coding: where the head declares it JSON, it must be JSON of the route's shape.
    ///
    /// # Errors
    /// 400, as [`JsonShape::check`].
    pub fn check_body(&self, request: &RequestHead, body: &[u8]) -> Result<(), Rejection> {
        let Some(shape) = self.json.as_ref().filter(|_| !has_no_body(request)) else { return Ok(()) };
        let media = request.fields.get_str("content-type").and_then(MediaType::parse);
        if !media.is_some_and(|media| self.is_json(&media)) {
            return Ok(());
        }
        shape.check(body).map_err(Rejection::Contract)
    }

    fn inspects(&self) -> bool {
        self.inspected || self.json.is_some()
    }

    fn is_json(&self, media: &MediaType<'_>) -> bool {
        media.is_json() || self.json_also.iter().any(|range| range.holds(media))
    }
}

/// Whether the head says that there is none: many clients name a type even then.
fn has_no_body(request: &RequestHead) -> bool {
    matches!(request.framing, Framing::None | Framing::Length(0))
}

impl Guard for Contract {
    async fn check(&self, exchange: &mut Exchange) -> Result<(), Rejection> {
        self.check_head(&exchange.request)?;
        match &exchange.body {
            Some(body) => self.check_body(&exchange.request, body),
            None => Ok(()),
        }
    }
}
