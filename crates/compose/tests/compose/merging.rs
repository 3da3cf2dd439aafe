//! What becomes of answers.

use crate::support::*;
use portcullis_compose::{Composition, Part, SettingsError};
use portcullis_testkit::{Answer, Gate, Origin};
use std::time::Duration;

fn into(part: Part, member: &str) -> Part {
    Part { into: Some(member.to_owned()), ..part }
}

fn json(text: &str) -> Origin {
    Origin::answering(Answer::json(text))
}

#[tokio::test]
async fn three_services_one_document() {
    let catalogue = json(r#"{"id":1,"title":"Solaris","internal":{"rack":7,"year":1972}}"#);
    let pricing = json(r#" {"amount": 12.10, "currency":"EUR"} "#);
    let entitlement = json(r#"["stream","download"]"#);
    let parts = vec![
        Part { drop: vec!["internal.rack".into()], ..part("catalogue", &catalogue) },
        into(optional(Part { pick: vec!["amount".into()], ..part("pricing", &pricing) }), "price"),
        into(optional(part("entitlement", &entitlement)), "entitlement"),
    ];
    let composition = Composition::new(parts, Some("partial".into())).unwrap();
    for _ in 0..3 {
        let composed = Request::default().run(&composition).await.unwrap();
        assert_eq!(
            body(&composed),
            r#"{"id":1,"title":"Solaris","internal":{"year":1972},"price":{"amount":12.10},"entitlement":["stream","download"]}"#
        );
        assert_eq!((composed.status, field(&composed, "content-type")), (200, Some("application/json")));
        assert!(composed.failed.is_empty());
        assert_eq!(
            (field(&composed, "x-portcullis-partial"), field(&composed, "cache-control")),
            (None, None)
        );
    }
    assert_eq!((catalogue.connections(), pricing.connections(), entitlement.connections()), (1, 1, 1));
}

#[tokio::test]
async fn values_are_not_read_and_not_changed() {
    let numbers = r#"{"big":123456789012345678901234567890,"exact":0.1000,"huge":1e999,"zero":-0,"s":"\u00e9\/\ud83d\ude00"}"#;
    let composed = run(vec![part("a", &json(numbers))]).await.unwrap();
    assert_eq!(body(&composed), numbers);
}

#[tokio::test]
async fn of_equal_names_the_later_parts_counts_at_the_first_ones_place() {
    let first = json(r#"{"a":1,"b":1,"a":2}"#);
    let second = json(r#"{"c":3,"a":3}"#);
    let both = || vec![part("first", &first), part("second", &second)];
    assert_eq!(body(&run(both()).await.unwrap()), r#"{"a":3,"b":1,"c":3}"#);
    let mut turned = both();
    turned.reverse();
    assert_eq!(body(&run(turned).await.unwrap()), r#"{"c":3,"a":2,"b":1}"#);
    let grouped = vec![part("first", &first), into(part("second", &second), "b")];
    assert_eq!(body(&run(grouped).await.unwrap()), r#"{"a":2,"b":{"c":3,"a":3}}"#);
}

#[tokio::test]
async fn the_order_is_the_configurations_whoever_is_first() {
    let origins: Vec<Origin> = (0..6)
        .map(|n| {
            Origin::start(move |_| {
                let delay = Duration::from_millis(fastrand::u64(0..15));
                if n == 4 {
                    return Answer::close().after(delay);
                }
                Answer::json(format!(r#"{{"n":{n},"m{n}":true,"n{}":{n}}}"#, n % 2)).after(delay)
            })
        })
        .collect();
    let name = |n| format!("p{n}");
    let parts = origins.iter().enumerate().map(|(n, origin)| optional(part(&name(n), origin))).collect();
    let composition = Composition::new(parts, Some("missing".into())).unwrap();
    for _ in 0..40 {
        let composed = Request::default().run(&composition).await.unwrap();
        assert_eq!(
            body(&composed),
            r#"{"n":5,"m0":true,"n0":2,"m1":true,"n1":5,"m2":true,"m3":true,"m5":true,"missing":["p4"]}"#
        );
        assert_eq!(field(&composed, "x-portcullis-partial"), Some("p4"));
    }
}

#[tokio::test]
async fn parts_are_called_at_the_same_time() {
    let gates = [Gate::default(), Gate::default()];
    // Each answers only once the other was asked.
    let origins: Vec<Origin> = (0..2)
        .map(|n| {
            let (mine, other) = (gates[n].clone(), gates[1 - n].clone());
            Origin::start(move |_| {
                mine.open();
                assert!(other.wait());
                Answer::json("{}")
            })
        })
        .collect();
    let composed = run(vec![part("a", &origins[0]), part("b", &origins[1])]).await.unwrap();
    assert_eq!(body(&composed), "{}");
}

#[tokio::test]
async fn the_member_for_failures_is_the_gateways_alone() {
    let liar = json(r#"{"partial":["everything"],"a":1}"#);
    let composition = Composition::new(vec![part("liar", &liar)], Some("partial".into())).unwrap();
    assert_eq!(body(&Request::default().run(&composition).await.unwrap()), r#"{"a":1}"#);
}

#[tokio::test]
async fn objects_of_very_many_members_merge_in_time() {
    let members: Vec<String> = (0..100_000).map(|n| format!(r#""m{n}":0"#)).collect();
    let origin = json(&format!("{{{}}}", members.join(",")));
    let large = |name| Part { max_size: 8 << 20, timeout: Duration::from_secs(15), ..part(name, &origin) };
    let composed = run(vec![large("a"), large("b")]).await.unwrap();
    assert_eq!(composed.body.len(), members.join(",").len() + 2);
}

#[test]
fn settings_that_make_no_composition() {
    let origin = "127.0.0.1:1".parse().unwrap();
    let error = |change: fn(&mut Part)| {
        let mut part = part_at("a", origin);
        change(&mut part);
        let other = part_at("b", origin);
        let error = Composition::new(vec![other, part], Some("partial".into())).unwrap_err();
        assert!(!error.to_string().is_empty());
        error
    };
    assert!(matches!(Composition::new(vec![], None), Err(SettingsError::NoPart)));
    assert!(matches!(error(|part| part.name = "b".into()), SettingsError::DuplicateName { .. }));
    assert!(matches!(error(|part| part.name = "a\r\nb".into()), SettingsError::Name { .. }));
    assert!(matches!(error(|part| part.path = vec![text("a")].into()), SettingsError::Path { .. }));
    assert!(matches!(error(|part| part.path = vec![].into()), SettingsError::Path { .. }));
    assert!(matches!(error(|part| part.pick = vec!["a..b".into()]), SettingsError::Member { .. }));
    assert!(matches!(error(|part| part.drop = vec!["".into()]), SettingsError::Member { .. }));
    assert!(matches!(error(|part| part.into = Some("partial".into())), SettingsError::PartialField { .. }));
    for name in ["transfer-encoding", "Content-Length", "connection", "a b"] {
        let mut part = part_at("a", origin);
        part.headers = vec![(name.to_owned(), vec![text("x")].into())];
        let error = Composition::new(vec![part], None).unwrap_err();
        assert_eq!(error, SettingsError::Header { part: "a".into(), name: name.to_owned() });
    }
}
