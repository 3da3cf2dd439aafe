//! The contract guard on heads and bodies: matrix row I5, and content codings.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_contract::{Contract, JsonShape, MediaRange, MediaType};
use portcullis_http::{ContractFailure, Framing, Malformed, Rejection, RequestHead, Version};

fn head(fields: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::default();
    head.set_line(b"POST", b"/", Version::Http11);
    fields.iter().for_each(|(name, value)| head.fields.append(name, value).unwrap());
    head.framing = Framing::Length(2);
    head
}

fn json_only() -> Contract {
    Contract {
        media_types: Some(vec!["application/json".parse().unwrap(), "application/*+json".parse().unwrap()]),
        json: Some(JsonShape::default()),
        ..Contract::default()
    }
}

const TYPE: Result<(), Rejection> = Err(Rejection::Contract(ContractFailure::MediaType));

#[test]
fn content_types_on_a_json_route() {
    let contract = json_only();
    for good in [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=utf-8",
        "application/json; charset=\"UTF-8\"",
        "application/json ;",
        "application/vnd.api+json; ext=\"a;b\"",
    ] {
        assert_eq!(contract.check_head(&head(&[("Content-Type", good)])), Ok(()), "{good}");
    }
    for bad in [
        "text/json",
        "application/json;charset=ibm037",
        "application/json; charset=utf-7",
        "application/x-www-form-urlencoded, application/json",
        "application/json, text/plain",
        "multipart/x",
        "text/plain",
        "json",
        "application/json;charset=utf-8;charset=ibm037",
        "application/json; charset",
        "application /json",
        "application/json; charset=\"utf-8",
        "application/jsonp",
        "",
    ] {
        assert_eq!(contract.check_head(&head(&[("Content-Type", bad)])), TYPE, "{bad}");
    }
    assert_eq!(contract.check_head(&head(&[])), TYPE);
    let twice = head(&[("Content-Type", "application/json"), ("content-type", "text/plain")]);
    assert_eq!(contract.check_head(&twice), Err(Rejection::Malformed(Malformed::Duplicate)));
    let mut nothing = head(&[]);
    nothing.framing = Framing::Length(0);
    assert_eq!(contract.check_head(&nothing), Ok(()));
    nothing = head(&[("Content-Type", "application/json")]);
    nothing.framing = Framing::None;
    assert_eq!(contract.check_body(&nothing, b""), Ok(()));
    assert_eq!(contract.check_head(&nothing), Ok(()));
}

#[test]
fn a_content_coding_hides_the_body() {
    let coded = head(&[("Content-Type", "application/json"), ("Content-Encoding", "gzip")]);
    let refused = Err(Rejection::ContentCoding { accept: "identity".to_owned() });
    assert_eq!(json_only().check_head(&coded), refused);
    let plain = head(&[("Content-Type", "application/json"), ("Content-Encoding", "identity")]);
    assert_eq!(json_only().check_head(&plain), Ok(()));
    let listed = head(&[("Content-Type", "application/json"), ("Content-Encoding", "identity, gzip")]);
    assert_eq!(json_only().check_head(&listed), refused);
    assert_eq!(Contract { inspected: true, ..Contract::default() }.check_head(&coded), refused);
    assert_eq!(Contract::default().check_head(&coded), Ok(()), "a route that looks at nothing may stream it");
}

#[test]
fn only_what_calls_itself_json_must_be() {
    let contract = Contract { json: Some(JsonShape::default()), ..Contract::default() };
    let body = b"{\"a\":1,\"a\":2}";
    let refused = Err(Rejection::Contract(ContractFailure::DuplicateKey));
    assert_eq!(contract.check_body(&head(&[("Content-Type", "application/json")]), body), refused);
    assert_eq!(contract.check_body(&head(&[("Content-Type", "application/ld+json")]), body), refused);
    assert_eq!(contract.check_body(&head(&[("Content-Type", "text/plain")]), body), Ok(()));
    let wider = Contract { json_also: vec!["text/plain".parse().unwrap()], ..contract };
    assert_eq!(wider.check_body(&head(&[("Content-Type", "text/plain")]), body), refused);
    let empty = wider.check_body(&head(&[("Content-Type", "application/json")]), b"");
    assert_eq!(empty, Err(Rejection::Contract(ContractFailure::Syntax)));
}

#[test]
fn ranges() {
    let holds = |range: &str, media: &str| {
        range.parse::<MediaRange>().unwrap().holds(&MediaType::parse(media).unwrap())
    };
    assert!(
        holds("*/*", "a/b") && holds("text/*", "TEXT/csv") && holds("Text/CSV", "text/csv;header=present")
    );
    assert!(!holds("text/*", "application/json") && !holds("application/*+xml", "application/xml"));
    for bad in ["", "*", "text", "*/json", "te*t/plain", "text/pl*in", "text/plain;a=b", "*/*+json"] {
        assert!(bad.parse::<MediaRange>().is_err(), "{bad}");
    }
}
