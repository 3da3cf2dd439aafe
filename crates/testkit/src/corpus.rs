//! Corpora of raw messages as text files: what is sent, what must be answered, what may arrive behind the gateway.
//!
//! ```text
//! # A comment.
//! % row A4
//! % source RFC 9112 §6.1; http-garden
//! % shape post POST /x HTTP/1.1\r\nHost: a\r\n\@\r\n\r\n0\r\n\r\n
//! 400|501 te-cow Transfer-Encoding: cow
//! % shapes raw
//! 200,200 two GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n
//!   > GET /1 0
//!   > GET /2 0
//!   + host: a
//!   - x-evil
//! ```
//! `row` and `source` hold for all cases up to the next ones. A shape is what stands around a case's text, in place of
//! `\@`; `shape NAME TEXT` defines and selects one, `shapes NAME…` selects several, and every case is made in each of
//! them. The shape `raw` is the text alone.
//!
//! A case is a line: what must be answered, its name, its text. Answers stand in their order, parted by commas, each a
//! status or several parted by `|`; `h` behind it says that the request is HEAD, so that no body follows. Behind the last
//! one, `!` says that the connection must be closed, `+` that it need not; without either it must be after 4xx and 5xx.
//!
//! The lines below it, which begin with two spaces, say what the upstream gets: `> METHOD TARGET LENGTH` a request of each
//! answer of 2xx (its body's length may be `*`), `+ NAME: VALUE` a field of the last one, `- TEXT` what occurs nowhere.
//! `* 403 WHY` says that the shipped rules refuse it, and why.
//!
//! In texts, `\r \n \t \0 \s` (space) `\\ \xHH` are bytes and `\{TEXT}{N}` is that text N times.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// An answer that a case must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// One of these statuses.
    pub statuses: Vec<u16>,
    /// It answers HEAD.
    pub to_head: bool,
}

/// Whether the connection must be closed behind the last answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It must be.
    Must,
    /// It must not be: another request is answered.
    MustNot,
    /// Either.
    May,
}

/// A request as the upstream must get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrives {
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// The length of its body, where that is said.
    pub length: Option<usize>,
}

/// One message, or several on one connection.
#[derive(Clone, Debug)]
pub struct Case {
    /// Row of the attack matrix, such as `A4`.
    pub row: String,
    /// Where it is from.
    pub source: String,
    /// `FILE:LINE NAME`, with the shape's name where it is not `raw`.
    pub name: String,
    /// What is sent.
    pub bytes: Vec<u8>,
    /// What must be answered, in this order.
    pub answers: Vec<Expected>,
    /// What must become of the connection.
    pub closing: Closing,
    /// What the upstream must get, where that is said.
    pub arrives: Vec<Arrives>,
    /// Fields of the last request that the upstream must get.
    pub has: Vec<(String, String)>,
    /// What must not occur in any request that the upstream gets, whatever its case.
    pub lacks: Vec<String>,
    /// What the shipped rules answer where they do not let it pass.
    pub ruled: Option<u16>,
}

impl Case {
    /// Whether all of it must be refused: no answer is 1xx, 2xx or 3xx.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.answers.iter().all(|answer| answer.statuses.iter().all(|status| *status >= 400))
    }

    /// How many of the answers come from the upstream.
    #[must_use]
    pub fn forwarded(&self) -> usize {
        let from_upstream = |answer: &&Expected| matches!(answer.statuses.as_slice(), [101 | 200]);
        self.answers.iter().filter(from_upstream).count()
    }
}

/// All cases of a file.
///
/// # Panics
/// With file and line, where the file is not there or a line is not of the form above.
#[must_use]
pub fn read(path: impl AsRef<Path>) -> Vec<Case> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut reader = Reader { file, ..Reader::default() };
    reader.shapes.insert("raw".to_owned(), r"\@".to_owned());
    reader.selected = vec!["raw".to_owned()];
    for (number, line) in text.lines().enumerate() {
        reader.line(number + 1, line);
    }
    reader.cases
}

#[derive(Default)]
struct Reader {
    file: String,
    row: String,
    source: String,
    shapes: HashMap<String, String>,
    selected: Vec<String>,
    cases: Vec<Case>,
    /// Cases that the last line made.
    last: usize,
}

impl Reader {
    fn line(&mut self, number: usize, line: &str) {
        let place = format!("{}:{number}", self.file);
        if line.trim().is_empty() || line.starts_with('#') {
        } else if let Some(line) = line.strip_prefix("% ") {
            self.setting(&place, line);
        } else if let Some(line) = line.strip_prefix("  ") {
            self.detail(&place, line);
        } else {
            self.case(&place, line);
        }
    }

    fn setting(&mut self, place: &str, line: &str) {
        let (what, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{place}: `% WHAT …`"));
        match what {
            "row" => rest.clone_into(&mut self.row),
            "source" => rest.clone_into(&mut self.source),
            "shape" => {
                let (name, text) = rest.split_once(' ').unwrap_or_else(|| panic!("{place}: `shape NAME …`"));
                assert!(text.contains(r"\@"), "{place}: a shape without \\@");
                self.shapes.insert(name.to_owned(), text.to_owned());
                self.selected = vec![name.to_owned()];
            }
            "shapes" => {
                self.selected = rest.split(' ').map(str::to_owned).collect();
                let unknown = self.selected.iter().find(|name| !self.shapes.contains_key(*name));
                assert!(unknown.is_none(), "{place}: no shape {unknown:?}");
            }
            _ => panic!("{place}: no setting `{what}`"),
        }
    }

    fn case(&mut self, place: &str, line: &str) {
        let mut parts = line.splitn(3, ' ');
        let (Some(expected), Some(name), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            panic!("{place}: `ANSWERS NAME TEXT`")
        };
        let (answers, closing) = answers(place, expected);
        for shape in &self.selected {
            let whole = self.shapes[shape].replace(r"\@", text);
            let name = if shape == "raw" { name.to_owned() } else { format!("{name}/{shape}") };
            self.cases.push(Case {
                row: self.row.clone(),
                source: self.source.clone(),
                name: format!("{place} {name}"),
                bytes: unescape(place, &whole),
                answers: answers.clone(),
                closing,
                arrives: Vec::new(),
                has: Vec::new(),
                lacks: Vec::new(),
                ruled: None,
            });
        }
        self.last = self.selected.len();
    }

    fn detail(&mut self, place: &str, line: &str) {
        let from = self.cases.len() - self.last;
        let (what, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{place}: `  > …`"));
        for case in &mut self.cases[from..] {
            match what {
                ">" => {
                    let parts: Vec<&str> = rest.split(' ').collect();
                    let [method, target, length] = parts[..] else {
                        panic!("{place}: `> METHOD TARGET LENGTH`")
                    };
                    let length = (length != "*")
                        .then(|| length.parse().unwrap_or_else(|_| panic!("{place}: {length} is no length")));
                    let target = String::from_utf8_lossy(&unescape(place, target)).into_owned();
                    case.arrives.push(Arrives { method: method.to_owned(), target, length });
                }
                "+" => {
                    let (name, value) =
                        rest.split_once(": ").unwrap_or_else(|| panic!("{place}: `+ NAME: VALUE`"));
                    let value = String::from_utf8_lossy(&unescape(place, value)).into_owned();
                    case.has.push((name.to_owned(), value));
                }
                "-" => case.lacks.push(rest.to_ascii_lowercase()),
                "*" => case.ruled = rest.split(' ').next().and_then(|status| status.parse().ok()),
                _ => panic!("{place}: no detail `{what}`"),
            }
        }
    }
}

fn answers(place: &str, text: &str) -> (Vec<Expected>, Closing) {
    let said = match text.chars().last() {
        Some('!') => Some(Closing::Must),
        Some('+') => Some(Closing::May),
        _ => None,
    };
    let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{place}: {text} is no status"));
    let all: Vec<Expected> = text
        .trim_end_matches(['!', '+'])
        .split(',')
        .map(|one| Expected {
            to_head: one.ends_with('h'),
            statuses: one.trim_end_matches('h').split('|').map(number).collect(),
        })
        .collect();
    let refused = all.last().is_some_and(|last| last.statuses.iter().all(|status| *status >= 400));
    let switched = all.last().is_some_and(|last| last.statuses == [101]);
    let closing = said.unwrap_or(match (refused, switched) {
        (true, _) => Closing::Must,
        (_, true) => Closing::May,
        _ => Closing::MustNot,
    });
    (all, closing)
}

/// The bytes that an escaped text stands for.
///
/// # Panics
/// With `place`, at an escape that there is none.
#[must_use]
pub fn unescape(place: &str, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut plain, mut at) = (0, 0);
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('\\')) {
        at += found;
        let Some(rest) = text[at..].strip_prefix("\\{") else {
            // Of `\\` the second is no beginning.
            at += 2;
            continue;
        };
        out.extend(crate::unescape(&text[plain..at]));
        let (piece, tail) = repeated(rest).unwrap_or_else(|| panic!("{place}: \\{{TEXT}}{{N}}"));
        let (times, tail) = tail.split_once('}').unwrap_or_else(|| panic!("{place}: \\{{TEXT}}{{N}}"));
        let times = times.parse().unwrap_or_else(|_| panic!("{place}: {times} is no number"));
        out.extend(unescape(place, piece).repeat(times));
        at = text.len() - tail.len();
        plain = at;
    }
    out.extend(crate::unescape(&text[plain..]));
    out
}

/// The text before the `}{` that ends it, and what follows; repetitions may stand within.
fn repeated(text: &str) -> Option<(&str, &str)> {
    let (mut at, mut depth) = (0, 0);
    loop {
        let rest = text.get(at..)?;
        if rest.starts_with("\\{") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("}{") {
            if depth == 0 {
                return Some((&text[..at], &text[at + 2..]));
            }
            depth -= 1;
            at += 2;
        } else {
            at += rest.chars().next()?.len_utf8();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.http");
        let text = "# c\n% row A4\n% source RFC\n% shape a 1\\@2\n% shape b 3\\@\n% shapes a b\n400|501 n x\\r\\{ab}{2}\\x7f\n\
                    % shapes raw\n200,200h+ m y\n  > GET /\\xc3 *\n  + a: b\n  - Evil\n";
        fs::write(&path, text).unwrap();
        let cases = read(&path);
        assert_eq!(cases.len(), 3);
        assert_eq!(cases[0].bytes, b"1x\rabab\x7f2");
        assert_eq!((cases[1].name.as_str(), &cases[1].bytes[..]), ("x.http:7 n/b", &b"3x\rabab\x7f"[..]));
        assert!(cases[0].is_refused() && cases[0].closing == Closing::Must);
        assert_eq!(cases[0].answers, [Expected { statuses: vec![400, 501], to_head: false }]);
        assert_eq!((cases[2].closing, cases[2].forwarded()), (Closing::May, 2));
        assert!(cases[2].answers[1].to_head && cases[2].arrives[0].length.is_none());
        assert_eq!(cases[2].lacks, ["evil"]);
    }
}
