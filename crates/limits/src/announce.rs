//! What is left, told to the client: `RateLimit-Policy` and `RateLimit`.
//!
//! Form of draft-ietf-httpapi-ratelimit-headers (since -08): both are structured field lists (RFC 9651) of
//! strings, the limits' names, with integer parameters.
//! - `RateLimit-Policy: "name";q=10;w=60`: `q` requests at once, all of which are there again after `w` seconds.
//! - `RateLimit: "name";r=3;t=42`: `r` are left now; `t` seconds until all of `q` are, or, where none is left,
//!   until the next one is.

use crate::{Decision, Quota};
use portcullis_http::{Fields, ValueWriter};
use smallvec::SmallVec;
use std::time::Duration;

/// Whole seconds, rounded up: a client that waits so long has waited long enough.
pub(crate) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// A limit's member of `RateLimit-Policy`, made once.
pub(crate) fn policy(name: &str, quota: &Quota) -> String {
    // The interval is rounded up by less than a nanosecond, which is not worth a whole second here.
    let window = quota.refill().saturating_sub(Duration::from_nanos(quota.burst()));
    format!("\"{name}\";q={};w={}", quota.burst(), seconds(window).max(1))
}

/// Adds members to the answer's two fields. What is told must say first what binds first, so the most
/// restrictive limit stands first, also before those that an earlier stage has written.
pub(crate) fn announce<'a>(
    fields: &mut Fields,
    members: impl Iterator<Item = (&'a str, &'a str, &'a Decision)> + Clone,
) {
    let first = members.clone().min_by_key(|(_, _, decision)| restriction(decision));
    let Some((first_name, first_policy, least)) = first else { return };
    let others = members.filter(|(name, ..)| *name != first_name);
    let ours_first = match fields.get("ratelimit").and_then(leading_remaining) {
        Some(earlier) => !least.admitted || least.remaining < earlier,
        None => true,
    };
    write(fields, b"RateLimit-Policy", ours_first, |out| {
        out.text(first_policy);
        for (_, policy, _) in others.clone() {
            out.text(", ");
            out.text(policy);
        }
    });
    write(fields, b"RateLimit", ours_first, |out| {
        write_state(out, first_name, least);
        for (name, _, decision) in others.clone() {
            out.text(", ");
            write_state(out, name, decision);
        }
    });
}

/// Writes a field, before or behind what an earlier stage has written there.
fn write(fields: &mut Fields, name: &[u8], ours_first: bool, ours: impl Fn(&mut ValueWriter<'_>)) {
    // Few are longer.
    let earlier = fields.get(name).map(SmallVec::<[u8; 256]>::from_slice);
    let Some(earlier) = earlier else { return fields.append_written(name, ours) };
    fields.remove(name);
    fields.append_written(name, |out| {
        if ours_first {
            ours(out);
            out.text(", ");
        }
        out.text(&earlier);
        if !ours_first {
            out.text(", ");
            ours(out);
        }
    });
}

/// Less is more restrictive: a refusal first, the longest of several; then by what is left.
fn restriction(decision: &Decision) -> (bool, u64, std::cmp::Reverse<Duration>) {
    let wait = if decision.remaining == 0 { decision.retry_after } else { decision.reset_after };
    (decision.admitted, decision.remaining, std::cmp::Reverse(wait))
}

fn write_state(out: &mut ValueWriter<'_>, name: &str, decision: &Decision) {
    let wait = if decision.remaining == 0 { decision.retry_after } else { decision.reset_after };
    out.text("\"");
    // A limit's name is checked to be plain.
    out.text(name);
    out.text("\";r=");
    out.decimal(decision.remaining);
    out.text(";t=");
    out.decimal(seconds(wait));
}

/// The `r` of the first member of a value that an earlier stage wrote by [`write_state`].
fn leading_remaining(value: &[u8]) -> Option<u64> {
    let mark = b";r=";
    let behind = value.windows(mark.len()).position(|part| part == mark)? + mark.len();
    let digits = value.get(behind..)?.split(|b| *b == b';').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
