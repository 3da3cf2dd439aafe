//! What bodies may hold, on the way in and on the way out.

use crate::{first_line, pieces};
use portcullis_contract::{
    Coding, DuplicateKeys, InflateLimits, JsonShape, Kinds, LeakGuard, LeakMode, Leaked, MAX_HELD,
    MediaRange, MediaType,
};
use portcullis_http::{Budget, ContractFailure};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::sync::LazyLock;

/// JSON: what passes, serde_json reads; what breaks the syntax, it does not; and no name twice means no name twice.
pub fn json(data: &[u8]) {
    let narrow =
        JsonShape { max_depth: 3, max_keys: 2, max_elements: 3, max_string: 8, ..JsonShape::default() };
    let wide = JsonShape { duplicate_keys: DuplicateKeys::Allow, ..JsonShape::default() };
    let verdict = JsonShape::default().check(data);
    let raw: Option<&RawValue> = serde_json::from_slice(data).ok();
    match verdict {
        Ok(()) => {
            let raw = raw.expect("serde_json refuses what passed");
            assert!(!has_duplicates(raw), "a name stands there twice");
            assert_eq!(wide.check(data), Ok(()));
        }
        Err(ContractFailure::Syntax) => {
            let value: Result<serde_json::Value, _> = serde_json::from_slice(data);
            assert!(value.is_err(), "serde_json reads what is refused as no JSON");
        }
        Err(ContractFailure::DuplicateKey) => {
            // It is found where its object ends; what follows may be no JSON.
            assert!(raw.is_none_or(has_duplicates), "no name stands there twice");
        }
        Err(_) => {}
    }
    if narrow.check(data).is_ok() {
        assert_eq!(verdict, Ok(()), "a narrower shape lets more pass");
    }
}

/// Whether an object in it names a member twice.
fn has_duplicates(raw: &RawValue) -> bool {
    let mut pending = vec![raw];
    while let Some(raw) = pending.pop() {
        if raw.get().starts_with('[') {
            pending.extend(serde_json::from_str::<Vec<&RawValue>>(raw.get()).unwrap());
        } else if raw.get().starts_with('{') {
            let Members(members) = serde_json::from_str(raw.get()).unwrap();
            let names: HashSet<_> = members.iter().map(|(name, _)| name).collect();
            if names.len() < members.len() {
                return true;
            }
            pending.extend(members.iter().map(|(_, value)| *value));
        }
    }
    false
}

/// An object's members, all of them.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

static MASK: LazyLock<LeakGuard> = LazyLock::new(|| LeakGuard::new(Kinds::ALL, LeakMode::Mask).unwrap());
static BLOCK: LazyLock<LeakGuard> = LazyLock::new(|| LeakGuard::new(Kinds::ALL, LeakMode::Block).unwrap());

/// A body through a masker in these pieces: what came out, whether it was cut short, what was found.
fn masked(guard: &LeakGuard, pieces: &[&[u8]]) -> (Vec<u8>, Result<(), Leaked>, Kinds) {
    let (mut masker, mut out) = (guard.masker(), Vec::new());
    for piece in pieces {
        if let Err(leaked) = masker.push(piece, &mut out) {
            return (out, Err(leaked), masker.found());
        }
        assert!(masker.held() <= MAX_HELD, "{} bytes are held back", masker.held());
    }
    let end = masker.finish(&mut out);
    assert!(end.is_err() || masker.held() == 0);
    (out, end, masker.found())
}

/// A response body: pieces do not matter, its length stays, and blocking gives out nothing that masking would hide.
pub fn leak(data: &[u8]) {
    let whole = masked(&MASK, &[data]);
    assert_eq!((whole.0.len(), whole.1), (data.len(), Ok(())));
    for round in 0..3 {
        let pieces = pieces(data, round);
        assert_eq!(masked(&MASK, &pieces), whole, "pieces matter");
        let (out, end, _) = masked(&BLOCK, &pieces);
        assert_eq!(end.is_err(), !whole.2.is_empty());
        assert!(whole.0.starts_with(&out) && data.starts_with(&out), "a part of the leak was given out");
    }
}

/// Media types and ranges: read or refused; a type is held by the range of its own name.
pub fn media(data: &[u8]) {
    let (first, rest) = first_line(data);
    let (Ok(value), Ok(range)) = (std::str::from_utf8(first), std::str::from_utf8(rest)) else { return };
    let Some(media) = MediaType::parse(value) else { return };
    if let Ok(range) = range.parse::<MediaRange>() {
        let _ = range.holds(&media);
    }
    let essence = value.split(';').next().unwrap_or_default();
    if !essence.contains('*') {
        let own: MediaRange = essence.parse().expect("a type's own name is a range");
        assert!(own.holds(&media), "{value:?}");
    }
    let _ = (media.is_json(), media.is_text(), media.charset());
}

/// Memory for one body that is decoded: enough for every window.
const BUDGET: usize = 64 * 1024 * 1024;

/// A body in each coding: what comes out stays within its caps, a body that breaks off gives the beginning of what the
/// whole gives, and all memory is given back.
pub fn inflate(data: &[u8]) {
    let budget = Budget::new(BUDGET);
    let limits = InflateLimits { output: 200 * 1024, ratio: 100 };
    for coding in Coding::ALL {
        let whole = coding.inflate(data, limits, &budget);
        let cut = coding.inflate(&data[..data.len() / 2], limits, &budget);
        if let Ok(whole) = &whole {
            assert!(whole.bytes.len() <= limits.output, "{coding:?}");
            assert!(whole.bytes.len() <= (data.len() * limits.ratio).max(64 * 1024), "{coding:?}");
            if let Ok(cut) = &cut {
                assert!(whole.bytes.starts_with(&cut.bytes), "{coding:?}");
            }
        }
        drop((whole, cut));
        assert!(budget.hold(BUDGET).is_some(), "{coding:?} keeps memory");
    }
}
