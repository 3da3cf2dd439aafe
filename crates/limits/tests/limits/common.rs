//! An exchange to judge.

use portcullis_http::{
    Client, ClientAddress, Exchange, ForwardedHeader, Host, Principal, PrincipalKind, RequestHead, RequestId,
    Scheme, Target, TraceContext, TrustedProxies,
};
use std::sync::Arc;

pub(crate) fn exchange(peer: &str, target: &str, fields: &[(&str, &str)]) -> Exchange {
    let mut head = RequestHead::default();
    head.set_line(b"GET", target.as_bytes(), portcullis_http::Version::Http11);
    for (name, value) in fields {
        head.fields.append(name, value).unwrap();
    }
    let peer: std::net::IpAddr = peer.parse().unwrap();
    let trusted = TrustedProxies::new(["10.0.0.0/8".parse().unwrap()], ForwardedHeader::default());
    let client = Client {
        peer: (peer, 40_000).into(),
        local: ([127, 0, 0, 1], 8080).into(),
        address: ClientAddress::resolve(peer, &head.fields, &trusted),
        scheme: Scheme::Http,
        server_name: None,
        certificate: None,
        listener: "public".into(),
    };
    Exchange::new(
        head,
        Target::parse(target.as_bytes()).unwrap(),
        Host::parse("example.com").unwrap(),
        client,
        RequestId::random(),
        TraceContext::continue_from(None, false),
    )
}

pub(crate) fn known_as(
    mut exchange: Exchange,
    provider: &str,
    subject: &str,
    claims: serde_json::Value,
) -> Exchange {
    exchange.principal = Some(Arc::new(Principal {
        subject: subject.to_owned(),
        provider: provider.to_owned(),
        kind: PrincipalKind::Token,
        scopes: Vec::new(),
        roles: Vec::new(),
        claims: claims.as_object().cloned().unwrap_or_default(),
    }));
    exchange
}

pub(crate) fn answer(exchange: &Exchange, name: &str) -> String {
    exchange.answer_fields.get_str(name).unwrap_or_default().to_owned()
}
