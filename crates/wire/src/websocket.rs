//! What proves that both sides of a WebSocket handshake mean WebSocket (RFC 6455 §4).

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a server appends to the client's key (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key before they are encoded (RFC 6455 §4.1).
const KEY: usize = 16;

/// Whether a client's `Sec-WebSocket-Key` is one: 16 bytes in base64.
#[must_use]
pub fn is_key(value: &[u8]) -> bool {
    STANDARD.decode(value).is_ok_and(|key| key.len() == KEY)
}

/// A key for a handshake of ours, on behalf of a client whose protocol has none (RFC 8441 §5). It proves that the
/// other side read this request; it need not be secret.
#[must_use]
pub fn new_key() -> String {
    STANDARD.encode(fastrand::u128(..).to_be_bytes())
}

/// The `Sec-WebSocket-Accept` by which a server says that it has read this key.
///
/// ```
/// // RFC 6455 §1.3
/// let accept = portcullis_wire::websocket::accept(b"dGhlIHNhbXBsZSBub25jZQ==");
/// assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
/// ```
#[must_use]
pub fn accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat()))
}
