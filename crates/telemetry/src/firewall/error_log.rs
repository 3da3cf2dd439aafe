//! One line for each rule that matched, as ModSecurity writes them into its server's error log, so that what reads those
//! (fail2ban, CrowdSec, go-ftw) reads these.
//!
//! The message is that of ModSecurity v3 (`RuleMessage::log`); what stands around it is nginx's or Apache's. What clients
//! sent is escaped as `\xHH`, the quotation mark and the backslash too (v3 leaves them in some places), so that no value
//! can pass for a field.

use super::{FirewallEvent, RuleMatch};
use crate::redact_path;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use portcullis_http::Version;
use std::io::Write as _;
use std::time::SystemTime;

/// Most bytes of a value that a line quotes; v3 has the same.
const MAX_VALUE: usize = 100;
/// Most bytes of what rules quote, of parameters and of paths; v3 has the same.
const MAX_TEXT: usize = 200;

/// What a line stands in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorFormat {
    /// As in nginx's error log (ModSecurity v3 with its connector for nginx).
    #[default]
    Nginx,
    /// As in Apache's error log (ModSecurity v2).
    Apache,
}

/// Names of severities, as ModSecurity v2 writes them.
const SEVERITIES: [&str; 8] =
    ["EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"];

impl FirewallEvent<'_> {
    /// Appends the line of one match, the line feed included.
    pub(super) fn write_error_line(&self, matched: &RuleMatch<'_>, format: ErrorFormat, out: &mut Vec<u8>) {
        let refused = self.refused.filter(|(rule, _)| *rule == matched.rule);
        let (client, pid) = (self.client.ip(), std::process::id());
        match format {
            ErrorFormat::Nginx => {
                let level = if refused.is_some() { "error" } else { "warn" };
                let time = local_time(self.time, "%Y/%m/%d %H:%M:%S");
                let _ = write!(out, "{time} [{level}] {pid}#0: [client {client}] ");
            }
            ErrorFormat::Apache => {
                let time = local_time(self.time, "%a %b %d %H:%M:%S%.6f %Y");
                let port = self.client.port();
                let _ = write!(
                    out,
                    "[{time}] [security2:error] [pid {pid}] [client {client}:{port}] [client {client}] "
                );
            }
        }
        let _ = match refused {
            Some((_, status)) => {
                write!(out, "ModSecurity: Access denied with code {status} (phase {}). ", matched.phase)
            }
            None => write!(out, "ModSecurity: Warning. "),
        };
        matched.write_reason(out);
        self.write_details(matched, format, out);
        if format == ErrorFormat::Nginx {
            self.write_suffix(out);
        }
        out.push(b'\n');
    }

    fn write_details(&self, matched: &RuleMatch<'_>, format: ErrorFormat, out: &mut Vec<u8>) {
        let nginx = format == ErrorFormat::Nginx;
        let plain = |name: &str, value: &[u8], out: &mut Vec<u8>| {
            let _ = write!(out, " [{name} \"");
            escape(value, MAX_TEXT, out);
            out.extend_from_slice(b"\"]");
        };
        plain("file", matched.file.as_bytes(), out);
        let _ = write!(out, " [line \"{}\"] [id \"{}\"]", matched.line, matched.rule);
        // v3 writes all fields, v2 those that have a value.
        if nginx || !matched.revision.is_empty() {
            plain("rev", matched.revision.as_bytes(), out);
        }
        if nginx || !matched.message.is_empty() {
            plain("msg", matched.shown_message().as_bytes(), out);
        }
        if nginx || !matched.data.is_empty() {
            out.extend_from_slice(b" [data \"");
            escape_again(matched.shown_data().as_bytes(), MAX_TEXT, out);
            out.extend_from_slice(b"\"]");
        }
        let severity = usize::from(matched.severity.unwrap_or(0));
        let _ = match (nginx, SEVERITIES.get(severity).filter(|_| matched.severity.is_some())) {
            (true, _) => write!(out, " [severity \"{severity}\"]"),
            (false, Some(name)) => write!(out, " [severity \"{name}\"]"),
            (false, None) => Ok(()),
        };
        if nginx || !matched.version.is_empty() {
            plain("ver", matched.version.as_bytes(), out);
        }
        if nginx {
            let (maturity, accuracy) = (matched.maturity, matched.accuracy);
            let _ = write!(out, " [maturity \"{maturity}\"] [accuracy \"{accuracy}\"]");
        }
        for tag in matched.tags {
            plain("tag", tag.as_bytes(), out);
        }
        plain("hostname", self.host_or_address().as_bytes(), out);
        plain("uri", &redact_path(self.split_target().0), out);
        plain("unique_id", self.id.as_str().as_bytes(), out);
        if nginx {
            out.extend_from_slice(b" [ref \"");
            matched.write_reference(out);
            out.extend_from_slice(b"\"]");
        }
    }

    /// The request as nginx adds it to every line, without the query.
    fn write_suffix(&self, out: &mut Vec<u8>) {
        let host = self.host_or_address();
        let _ = write!(out, ", client: {}, server: ", self.client.ip());
        escape(host.as_bytes(), MAX_TEXT, out);
        out.extend_from_slice(b", request: \"");
        escape(self.method, MAX_TEXT, out);
        out.push(b' ');
        escape(&redact_path(self.split_target().0), 2048, out);
        let _ = write!(out, " HTTP/{:.1}\", host: \"", number(self.version));
        escape(host.as_bytes(), MAX_TEXT, out);
        out.push(b'"');
    }
}

impl RuleMatch<'_> {
    /// Why it matched, in v3's words. The first quotation mark is never closed there, and parsers know it so.
    pub(super) fn write_reason(&self, out: &mut Vec<u8>) {
        if self.operator.is_empty() {
            return;
        }
        let name = self.operator.trim_start_matches('!');
        let _ = write!(out, "Matched \"Operator `{}' with parameter `", operator_name(name));
        escape(self.parameter.as_bytes(), MAX_TEXT, out);
        out.extend_from_slice(b"' against variable `");
        escape_again(self.variable.as_bytes(), MAX_TEXT, out);
        out.extend_from_slice(b"' (Value: `");
        escape_again(&self.shown_value(), MAX_VALUE, out);
        out.extend_from_slice(b"' )");
    }

    /// Where it matched: `o` with offset and length in the transformed value, and the transformations. v3 writes also
    /// `v`, the place of the variable in the request as it was sent, which is not kept.
    pub(super) fn write_reference(&self, out: &mut Vec<u8>) {
        if let Some((from, to)) = self.offset {
            let _ = write!(out, "o{from},{}", to.saturating_sub(from));
        }
        for (at, transform) in self.transforms.iter().enumerate() {
            let _ = write!(out, "{}t:{transform}", if at > 0 { "," } else { "" });
        }
    }
}

/// The operator's name as v3 has it: that of the class.
fn operator_name(name: &str) -> String {
    if name.eq_ignore_ascii_case("streq") {
        return "StrEq".to_owned();
    }
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

/// The version as a number.
pub(super) fn number(version: Version) -> f32 {
    match version {
        Version::Http10 => 1.0,
        Version::Http11 => 1.1,
        Version::Http2 => 2.0,
    }
}

/// A point in time as the machine's own clock shows it: what reads these logs takes it for that.
pub(super) fn local_time(time: SystemTime, format: &str) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::system()).strftime(format).to_string()
}

/// Appends bytes as v3's `toHexIfNeeded` does: printable ASCII but for `"` and `\` stays, everything else is `\xHH`.
fn escape(bytes: &[u8], limit: usize, out: &mut Vec<u8>) {
    let end = out.len() + limit;
    for &byte in bytes {
        let plain = matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        if out.len() + if plain { 1 } else { 4 } > end {
            return;
        }
        if plain {
            out.push(byte);
        } else {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// The same of what is escaped already, as the firewall's reports are: printable ASCII with `\xHH` and `\\`.
fn escape_again(text: &[u8], limit: usize, out: &mut Vec<u8>) {
    let end = out.len() + limit;
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let (piece, after): (&[u8], &[u8]) = match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => (b"\\x5c", after),
            (b'\\', [b'x', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest.split_at_checked(4).unwrap_or((rest, b""))
            }
            (b'\\', _) => (b"\\x5c", after),
            (b'"', _) => (b"\\x22", after),
            _ => rest.split_at_checked(1).unwrap_or((rest, b"")),
        };
        if out.len() + piece.len() > end {
            return;
        }
        match piece {
            // Whoever fills an event may have left something unescaped.
            [byte] if !matches!(byte, b' '..=b'~') => out.push(b'?'),
            piece => out.extend_from_slice(piece),
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes() {
        let mut out = Vec::new();
        escape(b"a\"\\\n\xff", 200, &mut out);
        assert_eq!(out, br"a\x22\x5c\x0a\xff");
        out.clear();
        escape_again(br#"a"\\\x0ab"#, 200, &mut out);
        assert_eq!(out, br"a\x22\x5c\x0ab");
        out.clear();
        escape(&[0; 9], 10, &mut out);
        assert_eq!(out, br"\x00\x00");
    }

    #[test]
    fn operators_have_their_classes_names() {
        for (name, expected) in [("rx", "Rx"), ("streq", "StrEq"), ("detectSQLi", "DetectSQLi"), ("", "")] {
            assert_eq!(operator_name(name), expected);
        }
    }

    proptest! {
        #[test]
        fn nothing_leaves_its_field(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for escape in [escape, escape_again] {
                let mut out = Vec::new();
                escape(&bytes, MAX_TEXT, &mut out);
                prop_assert!(out.len() <= MAX_TEXT);
                prop_assert!(out.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'"'), "{out:?}");
            }
        }
    }
}
