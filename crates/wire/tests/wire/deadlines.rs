//! Every wait ends. The limits here are short; nothing is asserted about how long anything took.

use crate::service::Server;
use portcullis_testkit::{H2Client, PREFACE};
use portcullis_wire::server::{Protocol, ServerSettings, Timeouts};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);
/// Longer than any test may last.
const LONG: Duration = Duration::from_secs(600);

/// Settings in which nothing ends by itself.
fn patient() -> ServerSettings {
    ServerSettings {
        first_byte: LONG,
        header: LONG,
        idle: LONG,
        body: Timeouts {
            idle: LONG,
            write_stall: LONG,
            min_rate: 0,
            rate_grace: LONG,
            ..Timeouts::default()
        },
        ..ServerSettings::default()
    }
}

#[test]
fn d1_a_client_that_says_nothing() {
    let server = Server::start(ServerSettings { first_byte: SHORT, ..patient() });
    assert!(server.connect().is_closed());
}

#[test]
fn d1_a_client_that_says_no_more() {
    let server = Server::start(ServerSettings { idle: SHORT, ..patient() });
    let mut client = server.connect();
    client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().text(), "/x");
    assert!(client.is_closed());
}

#[test]
fn d2_a_head_that_drips() {
    // The deadline is on the whole: bytes that keep coming do not put it off.
    let server = Server::start(ServerSettings { header: SHORT, ..patient() });
    let mut client = server.connect();
    client.send("GET /x HTTP/1.1\r\nhost: a\r\n").unwrap();
    for n in 0.. {
        std::thread::sleep(SHORT / 10);
        if client.send(format!("x-{n}: y\r\n")).is_err()
            || server.events.all().contains(&"refused 408".to_owned())
        {
            break;
        }
    }
    let response = client.response().unwrap();
    assert_eq!((response.status(), response.header("connection")), (408, Some("close")));
    assert!(client.is_closed());
}

#[test]
fn a34_half_a_preface() {
    // Who has not said yet what it speaks has the time of one who says nothing, not that of a head.
    let server = Server::start(ServerSettings { first_byte: SHORT, ..patient() });
    let mut client = server.connect();
    client.send("PRI * HT").unwrap();
    assert_eq!(client.response().unwrap().status(), 408);
    assert!(client.is_closed());
}

#[test]
fn d3_a_body_that_stops() {
    let body = Timeouts { idle: SHORT, ..patient().body };
    let server = Server::start(ServerSettings { body, ..patient() });
    let mut client = server.connect();
    client.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").unwrap();
    assert_eq!(client.response().unwrap().status(), 400);
    server.events.wait_for("body Some(Timeout)");
    assert!(client.is_closed());
}

#[test]
fn d3_a_body_that_drips() {
    // Never idle, but slower than 1000 bytes a second.
    let body = Timeouts { min_rate: 1000, rate_grace: SHORT, ..patient().body };
    let server = Server::start(ServerSettings { body, ..patient() });
    for head in ["content-length: 100000\r\n\r\n", "transfer-encoding: chunked\r\n\r\n186a0\r\n"] {
        let mut client = server.connect();
        client.send(format!("POST /echo HTTP/1.1\r\nhost: a\r\n{head}")).unwrap();
        while client.send("x").is_ok() && !server.events.all().contains(&"body Some(Timeout)".to_owned()) {
            std::thread::sleep(SHORT / 20);
        }
        assert_eq!(client.response().unwrap().status(), 400);
    }
}

#[test]
fn d4_a_client_that_does_not_read() {
    let body = Timeouts { write_stall: SHORT, ..patient().body };
    let server = Server::start(ServerSettings { body, ..patient() });
    let mut client = server.connect();
    client.send("GET /endless HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    server.events.wait_for("Timeout /endless");
    server.events.wait_for("connection over");
}

#[test]
fn d4_an_h2_client_that_does_not_read() {
    let body = Timeouts { write_stall: SHORT, ..patient().body };
    let server = Server::start(ServerSettings { body, idle: SHORT, ..patient() });
    let mut client = H2Client::start(server.connect()).unwrap();
    client.reads = false;
    let stream = client.request("GET", "a", "/endless", &[], true).unwrap();
    server.events.wait_for("Timeout /endless");
    // hyper does not look at a body that it cannot send, so the stream stays until the connection, on which nothing
    // else goes on, is ended as an idle one.
    assert!(client.is_closed());
    assert!(!client.stream(stream).ended);
    server.events.wait_for("connection over");
}

#[test]
fn b19_h2_connections_without_a_request() {
    let server = Server::start_as(Protocol::Http2, ServerSettings { first_byte: SHORT, ..patient() });
    let mut preface_only = server.connect();
    preface_only.send(PREFACE).unwrap();
    let mut half_a_head = H2Client::start(server.connect()).unwrap();
    half_a_head.frame(1, 0, 1, &[0x82]).unwrap();
    assert!(server.connect().rest().is_ok(), "silence");
    assert!(preface_only.rest().is_ok(), "preface and silence");
    assert!(half_a_head.is_closed(), "HEADERS without their end");
}

#[test]
fn an_idle_h2_connection_is_closed() {
    let server = Server::start(ServerSettings { idle: SHORT, ..patient() });
    let mut client = H2Client::start(server.connect()).unwrap();
    assert_eq!(client.get("a", "/x").unwrap().body, b"/x");
    assert!(client.is_closed());
    assert!(client.goaway.is_some_and(|(_, code)| code == 0), "{:?}", client.goaway);
}

#[test]
fn an_h2_body_that_stops() {
    let body = Timeouts { idle: SHORT, ..patient().body };
    let server = Server::start(ServerSettings { body, ..patient() });
    let mut client = H2Client::start(server.connect()).unwrap();
    let stream = client.request("POST", "a", "/echo", &[], false).unwrap();
    client.data(stream, b"abc", false).unwrap();
    assert_eq!(client.answer(stream).unwrap().status, Some(400));
    server.events.wait_for("body Some(Timeout)");
}
