//! What parts are asked for.

use crate::support::*;
use portcullis_compose::{Part, PartError};
use portcullis_http::{Piece, Target, Template};
use portcullis_testkit::{Answer, Origin};

fn echo() -> Origin {
    Origin::answering(Answer::json("{}"))
}

#[tokio::test]
async fn only_what_was_said_is_sent() {
    let origin = echo();
    let mut asking = part("a", &origin);
    asking.query = vec![
        ("lang".to_owned(), vec![Piece::Query("l".into())].into()),
        ("a b&c".to_owned(), vec![text("x=y&z")].into()),
    ];
    asking.headers = vec![
        ("Accept-Language".to_owned(), vec![Piece::Header("accept-language".into())].into()),
        ("x-request-id".to_owned(), vec![text("mine")].into()),
    ];
    let mut request = Request { query: Some("l=de&secret=1".to_owned()), ..Request::default() };
    for (name, value) in
        [("accept-language", "de, en;q=0.5"), ("cookie", "session=1"), ("accept-encoding", "gzip")]
    {
        request.fields.append(name, value).unwrap();
    }
    request.run(&composition(vec![asking])).await.unwrap();
    let seen = &origin.requests()[0];
    assert_eq!((seen.method(), seen.target()), ("GET", "/a?lang=de&a%20b%26c=x%3Dy%26z"));
    let fields =
        ["host", "accept-language", "x-request-id", "accept", "accept-encoding", "cookie", "content-length"];
    assert_eq!(
        fields.map(|name| seen.header(name)),
        [
            Some("gateway.test"),
            Some("de, en;q=0.5"),
            Some("mine"),
            Some("application/json"),
            Some("identity"),
            None,
            None
        ]
    );
}

/// The targets that one value, as a path parameter's text and in the query, leads to; `None` where the part fails.
async fn targets(param: Option<&str>, query: &str) -> (Option<String>, Option<String>) {
    let origin = echo();
    let path = |piece: Piece| -> Template { vec![text("/t/"), piece, text("/end")].into() };
    let as_param = Part { path: path(Piece::Param("id".into())), ..part("param", &origin) };
    let as_query = Part { path: path(Piece::Query("q".into())), ..part("query", &origin) };
    let mut request = Request { query: Some(query.to_owned()), ..Request::default() };
    if let Some(param) = param {
        request.params.push("id".into(), param.to_owned());
    }
    let mut results = Vec::new();
    for part in [as_param, as_query] {
        let composed = request.run(&composition(vec![optional(part)])).await.unwrap();
        let sent = origin.requests().last().map(|request| request.target().to_owned());
        if !composed.failed.is_empty() {
            assert!(failed(&composed).iter().all(|(_, reason)| *reason == PartError::Value));
        }
        results.push(sent.filter(|_| composed.failed.is_empty()));
    }
    let by_query = results.pop().unwrap();
    (results.pop().unwrap(), by_query)
}

#[tokio::test]
async fn values_never_leave_their_place() {
    for (value, target) in [
        ("7", Some("/t/7/end")),
        ("o%27reilly%20%26%20sons", Some("/t/o'reilly%20&%20sons/end")),
        ("a%3Fb=c", Some("/t/a%3Fb=c/end")),
        ("a%23b", Some("/t/a%23b/end")),
        ("%C3%A9%E2%82%AC", Some("/t/%C3%A9%E2%82%AC/end")),
        ("..", None),
        ("..%2f", None),
        ("..%2F..%2Fadmin", None),
        ("%2e%2e", None),
        ("%252e%252e%252f", None),
        ("..;", None),
        ("x%5c..%5cadmin", None),
        ("x%0d%0aHost:%20evil", None),
        ("x%00", None),
        ("", None),
    ] {
        // What a router binds is canonical: where the target itself is refused, there is no such parameter.
        let canonical = Target::parse(format!("/t/{value}").as_bytes()).ok();
        let param = canonical.as_ref().and_then(|target| target.path().strip_prefix("/t/"));
        let (by_param, by_query) = targets(param, &format!("q={value}")).await;
        assert_eq!(by_query.as_deref(), target, "{value}");
        assert_eq!(by_param.as_deref(), target, "{value}");
    }
    // Raw, as no router binds it.
    for param in ["../admin", "..", "a b", "a?x=1", "a#b", "\u{e9}", "a\r\nb"] {
        assert_eq!(targets(Some(param), "").await, (None, None), "{param:?}");
    }
    assert_eq!(targets(Some("several/segments"), "").await.0.as_deref(), Some("/t/several/segments/end"));
}

#[tokio::test]
async fn a_missing_value_fails_its_part_before_anything_is_sent() {
    let origin = echo();
    let with = |change: fn(&mut Part)| {
        let mut part = part("a", &origin);
        change(&mut part);
        part
    };
    for part in [
        with(|part| part.path = vec![text("/"), Piece::Param("none".into())].into()),
        with(|part| part.query = vec![("x".into(), vec![Piece::Query("none".into())].into())]),
        with(|part| part.headers = vec![("x".into(), vec![Piece::Header("none".into())].into())]),
    ] {
        let failure = run(vec![part.clone()]).await.unwrap_err();
        assert_eq!((failure.rejection.status(), failure.part.unwrap().reason), (502, PartError::Value));
        assert_eq!(failed(&run(vec![optional(part)]).await.unwrap()), [("a", PartError::Value)]);
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_value_cannot_make_a_header_of_its_own() {
    let origin = echo();
    let mut asking = part("a", &origin);
    asking.headers = vec![("x-q".into(), vec![Piece::Query("q".into())].into())];
    let composition = composition(vec![asking]);
    for (query, reached) in
        [("q=plain", true), ("q=a%0d%0ax-admin:%201", false), ("q=%00", false), ("q=+a", false)]
    {
        let request = Request { query: Some(query.to_owned()), ..Request::default() };
        assert_eq!(request.run(&composition).await.is_ok(), reached, "{query}");
    }
    assert_eq!(origin.requests()[0].header("x-q"), Some("plain"));
    assert_eq!(origin.count(), 1);
}
