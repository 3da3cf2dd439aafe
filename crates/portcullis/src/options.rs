//! What the gateway itself answers to `OPTIONS` (RFC 9110, 9.3.7): preflights, questions about the server as a whole
//! (`OPTIONS *`), and those that may go no further (`Max-Forwards: 0`). Any other goes to the upstream, where the route
//! takes the method.

use crate::forward::Answer;
use crate::respond::whole;
use bytes::Bytes;
use portcullis_http::{Exchange, Fields, Malformed, Method, Rejection, ResponseHead};

/// The methods that the gateway knows, whatever its routes take of them.
const KNOWN: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// 204 without a body; what there is to say stands in its fields.
pub(crate) fn nothing() -> Answer {
    whole(ResponseHead::new(204), Bytes::new(), None)
}

/// The fields of an answer to `OPTIONS *`.
pub(crate) fn server(fields: &mut Fields) {
    fields.append_parsed(b"allow", KNOWN);
}

/// Counts an `OPTIONS` one hop down; whether this was its last (RFC 9110, 7.6.2).
///
/// # Errors
/// 400 for a count that is none.
pub(crate) fn is_last_hop(exchange: &mut Exchange) -> Result<bool, Rejection> {
    let request = &mut exchange.request;
    if request.method != Method::Options {
        return Ok(false);
    }
    let Some(count) = request.fields.get_str("max-forwards") else { return Ok(false) };
    let is_count = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
    let count = if is_count { count.parse().unwrap_or(u64::MAX) } else { return Err(BAD) };
    let Some(left) = count.checked_sub(1) else { return Ok(true) };
    request.fields.set("max-forwards", left.to_string()).map_err(|_| BAD)?;
    Ok(false)
}

const BAD: Rejection = Rejection::Malformed(Malformed::Field);
