//! HTTP/2 frame by frame: the cases of `tests/data/http2` against the binary, in clear text and over TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{
    Answer, Authority, Case, FrameStep, Gateway, H2Client, Origin, RawClient, Received, bytes, cases,
    code_name, frame_steps, suite,
};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");
const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/http2");
/// The path of the request that shows that a connection is still good.
const AFTER: &str = "/after";
/// No case is that slow; one that shows nothing is one that hangs.
const PATIENCE: Duration = Duration::from_secs(8);

/// What came of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Status(u32, u16),
    Reset(u32, u32),
    Goaway(u32),
    Closed,
    Nothing,
}

impl Outcome {
    /// Whether this is what was expected, in the words of the case: `400`, `OK 3`, `RST 3 CODE`, `GOAWAY CODE`, `CLOSE`.
    fn is(self, expected: &str) -> bool {
        let mut words: Vec<&str> = expected.split_whitespace().collect();
        let named = |stream: u32, word: &str| word == "*" || word == stream.to_string();
        let kind = words.remove(0);
        match self {
            Outcome::Status(stream, status) => {
                let wanted = if kind == "OK" { "200" } else { kind };
                wanted == status.to_string() && named(stream, words.first().unwrap_or(&"1"))
            }
            Outcome::Reset(stream, code) => {
                if words.len() == 1 {
                    words.insert(0, "1");
                }
                kind == "RST" && named(stream, words[0]) && words[1] == code_name(code)
            }
            Outcome::Goaway(code) => kind == "GOAWAY" && (words[0] == "*" || words[0] == code_name(code)),
            Outcome::Closed => kind == "CLOSE",
            Outcome::Nothing => false,
        }
    }
}

struct Run<'a> {
    gateway: &'a Gateway,
    origin: &'a Origin,
    /// Over TLS, with the authority to believe.
    authority: Option<&'a Authority>,
}

impl Run<'_> {
    fn connect(&self) -> RawClient {
        match self.authority {
            None => RawClient::connect(self.gateway.public()),
            Some(authority) => RawClient::connect_tls(self.gateway.tls(), "a.test", authority, &["h2"]),
        }
        .unwrap()
    }

    /// Runs one case; what is wrong with what came of it.
    fn case(&self, case: &Case) -> Result<(), String> {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        let before = self.origin.count();
        let raw = self.connect();
        raw.wait_at_most(PATIENCE).unwrap();
        let bare = case.lines.iter().any(|line| line == "bare");
        let mut client = if bare { H2Client::bare(raw) } else { H2Client::start(raw).unwrap() };
        let (mut expected, mut upstream, mut last, mut served) = (String::new(), Vec::new(), 1, 0);
        for step in frame_steps(case.lines.iter().map(String::as_str), scheme) {
            match step {
                // The gateway may give up on us before we are through.
                FrameStep::Send(frames) => {
                    last = last.max(last_stream(&frames));
                    let _ = client.send(&frames);
                }
                FrameStep::Other(line) if line == "bare" => {}
                FrameStep::Other(line) if line == "wait settings" => {
                    while !client.settled {
                        client.next_frame().map_err(|error| format!("no SETTINGS: {error}"))?;
                    }
                }
                FrameStep::Other(line) if line.starts_with("wait ") => {
                    served += 1;
                    let _ = client.answer(line[5..].parse().unwrap());
                }
                FrameStep::Other(line) if line.starts_with("open ") => {
                    client.skip_to(last + 2);
                    for _ in 0..line[5..].parse().unwrap() {
                        last = client.request("POST", "a.test", "/hold", &[], false).unwrap();
                    }
                }
                FrameStep::Other(line) if line.starts_with("= ") => line[2..].clone_into(&mut expected),
                FrameStep::Other(line) if line.starts_with('<') => upstream.push(line[1..].trim().to_owned()),
                FrameStep::Other(line) => panic!("{}: what is `{line}`?", case.place),
            }
        }
        let wanted: Vec<&str> = expected.split('|').map(str::trim).collect();
        let outcome = outcome(&mut client, &wanted);
        if !wanted.iter().any(|wanted| outcome.is(wanted)) {
            return Err(format!("{outcome:?} instead of {expected}"));
        }
        let is_good = matches!(outcome, Outcome::Status(_, 200));
        let is_full = matches!(outcome, Outcome::Reset(_, code) if code_name(code) == "REFUSED_STREAM");
        if is_full {
            return Ok(());
        }
        if matches!(outcome, Outcome::Status(..) | Outcome::Reset(..)) {
            client.skip_to(last + 2);
            let after = client.get("a.test", AFTER).map_err(|error| format!("{outcome:?}, then {error}"))?;
            if after.status != Some(200) {
                return Err(format!("{outcome:?}, then {after:?}"));
            }
        } else if !client.is_closed() {
            return Err(format!("{outcome:?}, and the connection stays open"));
        }
        let seen: Vec<Received> = self
            .origin
            .requests()
            .split_off(before)
            .into_iter()
            .filter(|seen| seen.target() != AFTER)
            .collect();
        self.judge(&seen, &upstream, served + usize::from(is_good))
    }

    /// What the upstream may have seen: what the case says, and nothing whole where it is refused.
    fn judge(&self, seen: &[Received], expected: &[String], served: usize) -> Result<(), String> {
        let whole: Vec<&Received> = seen.iter().filter(|request| request.complete).collect();
        let text: Vec<String> = whole.iter().flat_map(|request| plain(request)).collect();
        if !expected.is_empty() && text != expected {
            return Err(format!("the upstream saw {text:#?}"));
        }
        if whole.len() > served || seen.iter().any(|request| request.target().contains("admin")) {
            return Err(format!("the upstream saw {text:#?} of what was refused"));
        }
        Ok(())
    }
}

/// The last client's stream that these frames name.
fn last_stream(mut frames: &[u8]) -> u32 {
    let mut last = 0;
    while let Some((head, rest)) = frames.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        if stream % 2 == 1 && stream < 10_000 {
            last = last.max(stream);
        }
        frames = rest.get(length as usize..).unwrap_or_default();
    }
    last
}

/// Reads until there is an outcome: a stream that is named ends, or the connection does.
fn outcome(client: &mut H2Client, wanted: &[&str]) -> Outcome {
    let named: Vec<u32> =
        wanted.iter().filter_map(|wanted| wanted.split_whitespace().nth(1)?.parse().ok()).collect();
    let any = wanted.iter().any(|wanted| wanted.starts_with("RST *"));
    let only_goaway = wanted.iter().all(|wanted| wanted.starts_with("GOAWAY"));
    loop {
        for stream in client.seen() {
            let is_named = any || named.contains(&stream) || (named.is_empty() && stream == 1);
            let state = client.stream(stream);
            if !is_named || only_goaway || (any && state.reset.is_none()) {
                continue;
            }
            if let (Some(status), true) = (state.status, state.ended || state.reset == Some(0)) {
                return Outcome::Status(stream, status);
            }
            if let Some(code) = state.reset {
                return Outcome::Reset(stream, code);
            }
        }
        match client.next_frame() {
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Outcome::Nothing;
            }
            Err(_) => return client.goaway.map_or(Outcome::Closed, |(_, code)| Outcome::Goaway(code)),
        }
    }
}

/// A request without what the gateway says of itself and the client, line by line.
fn plain(request: &Received) -> Vec<String> {
    let own = ["forwarded", "x-real-ip", "via", "x-request-id", "traceparent"];
    let head = request.head_text();
    let mut lines = head.trim_end().split("\r\n").map(str::to_owned);
    let mut text = vec![lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned()];
    text.extend(lines.filter(|line| {
        let name = line.split(':').next().unwrap().to_ascii_lowercase();
        !own.contains(&name.as_str()) && !name.starts_with("x-forwarded-")
    }));
    if !request.body.is_empty() {
        let mut body = String::from("\"");
        for byte in &request.body {
            match byte {
                b'\r' => body.push_str("\\r"),
                b'\n' => body.push_str("\\n"),
                0x20..0x7f => body.push(char::from(*byte)),
                other => write!(body, "\\x{other:02x}").unwrap(),
            }
        }
        text.push(body + "\"");
    }
    text
}

fn gateway(origin: &Origin, authority: &Authority) -> Gateway {
    let identity = authority.issue(&["a.test"]);
    let builder =
        Gateway::builder(BINARY).file("a.crt", &identity.certificate_pem).file("a.key", &identity.key_pem);
    builder.start(|ports| ports.forwarding(origin.address(), "") + &ports.tls_listener(""))
}

#[test]
fn b1_to_b20_every_case_has_its_answer() {
    let origin = Origin::start(|request| match request.target() {
        "/hold" => Answer::hang(),
        _ => Answer::ok("ok"),
    });
    let authority = Authority::new();
    let gateway = gateway(&origin, &authority);
    // One alone, by its name.
    let only = std::env::var("CASE").ok();
    let all = cases(CASES);
    let wanted = all.iter().filter(|case| only.as_ref().is_none_or(|only| *only == case.name));
    let (mut accepted, mut refused, mut wrong) = (0, 0, Vec::new());
    for case in wanted {
        for authority in [None, Some(&authority)] {
            let run = Run { gateway: &gateway, origin: &origin, authority };
            let is_accepted = case.lines.iter().any(|line| line.starts_with("= OK"));
            *(if is_accepted { &mut accepted } else { &mut refused }) += 1;
            if let Err(what) = run.case(case) {
                let tls = if authority.is_some() { " over TLS" } else { "" };
                wrong.push(format!(
                    "{}: {} {}{tls} ({}): {what}",
                    case.place, case.row, case.name, case.source
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    suite(
        "http2 corpus",
        &format!(
            "{} cases in clear and over TLS: {refused} of {refused} refused, {accepted} of {accepted} accepted",
            all.len()
        ),
    );
}

#[test]
fn the_corpus_is_read_as_it_is_meant() {
    let read = frame_steps(["> HEADERS 1 ES EH", "get /x", "x = \\x20a", "= OK"], "https");
    let [FrameStep::Send(frame), FrameStep::Other(expected)] = &read[..] else { panic!("{read:?}") };
    assert_eq!((&frame[3..9], expected.as_str()), (&[1, 5, 0, 0, 0, 1][..], "= OK"));
    assert!(frame.ends_with(&[0, 1, b'x', 2, b' ', b'a']));
    assert!(frame.windows(5).any(|window| window == b"https"));
    assert_eq!(bytes("hex 00 ff"), Some(vec![0, 0xff]));
    assert_eq!(bytes("\"a\\r\""), Some(b"a\r".to_vec()));
}
