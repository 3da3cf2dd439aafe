//! However a request is cut into segments, it gets the same answer (matrix A40).

use crate::service::Server;
use portcullis_wire::server::ServerSettings;
use proptest::prelude::*;
use std::sync::LazyLock;

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(ServerSettings::default()));

const CHUNKED: &str = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

/// Well-formed and malformed messages, each followed by another request where the connection serves on.
fn messages() -> Vec<String> {
    let heads = [
        "GET /a HTTP/1.1\r\nhost: a\r\n\r\n",
        "\r\nGET /a HTTP/1.1\r\nhost: a\r\n\r\n",
        "PUT /p HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
        "GET /a HTTP/1.1\nhost: a\n\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nx : y\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx",
        "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
        "GET /a HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "PRI * HTTP/1.1\r\nhost: a\r\n\r\n",
        "P",
        "",
    ];
    let bodies = [
        "5\r\nhello\r\n0\r\n\r\n",
        "5;e\r\nhello\r\n00\r\nT: v\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhell",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nGET /x HTTP/1.1\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "fffffffffffffffff\r\n",
    ];
    let next = "GET /next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let chunked = bodies.iter().map(|body| format!("{CHUNKED}{body}{next}"));
    heads.iter().map(|head| format!("{head}{next}")).chain(chunked).collect()
}

/// What comes back for these segments.
fn verdict<'a>(segments: impl Iterator<Item = &'a [u8]>) -> String {
    let mut client = SERVER.connect();
    for segment in segments {
        // Once the server has refused, it may take no more.
        if client.send(segment).is_err() {
            break;
        }
    }
    let _ = client.finish();
    String::from_utf8_lossy(&client.rest().unwrap_or_default()).into_owned()
}

#[test]
fn a40_byte_by_byte() {
    for message in messages() {
        let whole = verdict(std::iter::once(message.as_bytes()));
        assert!(whole.starts_with("HTTP/1.1 "), "{message:?}: {whole:?}");
        assert_eq!(verdict(message.as_bytes().chunks(1)), whole, "{message:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn a40_any_cuts(which in any::<prop::sample::Index>(), cuts in proptest::collection::vec(0usize..200, 0..6)) {
        let messages = messages();
        let message = which.get(&messages).as_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(message.len())).collect();
        cuts.sort_unstable();
        cuts.insert(0, 0);
        cuts.push(message.len());
        let whole = verdict(std::iter::once(message));
        prop_assert_eq!(verdict(cuts.windows(2).map(|cut| &message[cut[0]..cut[1]])), whole);
    }
}
