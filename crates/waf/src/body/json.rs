//! JSON as arguments: `{"a":[{"b":1}]}` gives `json.a.0.b` = `1`.
//!
//! A key with an array or nothing in it is an argument too, with an empty value: the array's index would otherwise hide
//! the key's end, `{}` the key, and attacks stand in keys as well.
//!
//! An iterative tokenizer of our own, because none on offer keeps raw numbers, duplicate keys and what came before an
//! error, within a depth limit. Arguments found before an error stay: a body that breaks at its end must not hide what
//! stands at its beginning.

use super::Sink;
use crate::transform::hex_value;
use std::io::Write as _;

/// Why a body is no JSON, for REQBODY_ERROR_MSG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    Syntax(usize),
    /// The input ends before the document does; all there is of it might be the beginning of one.
    End(usize),
    Depth,
    TooManyArguments,
    /// Long keys repeated over many values would take far more memory than the body did.
    Names,
}

/// Bytes of argument names per byte of body, beyond an allowance for small bodies.
const NAMES_FACTOR: usize = 8;
const NAMES_ALLOWANCE: usize = 64 << 10;

impl Error {
    pub(crate) fn message(self) -> String {
        match self {
            Self::Syntax(at) | Self::End(at) => {
                format!("JSON parsing error: unexpected byte or end at offset {at}")
            }
            Self::Depth => "JSON parsing error: nested deeper than SecRequestBodyJsonDepthLimit".to_owned(),
            Self::TooManyArguments => "JSON parsing error: more arguments than SecArgumentsLimit".to_owned(),
            Self::Names => "JSON parsing error: the names of the values are too long altogether".to_owned(),
        }
    }
}

/// An open array (with the index of the next element) or object.
enum Frame {
    Array { path: usize, next: usize },
    Object { path: usize },
}

struct Parser<'a> {
    input: &'a [u8],
    at: usize,
    path: Vec<u8>,
    frames: Vec<Frame>,
    text: Vec<u8>,
    /// The path ends in a key of which nothing has been handed out yet.
    key_pending: bool,
    /// Bytes of names that may still be handed out.
    names: usize,
}

/// Parses a whole document and hands every scalar to the sink, under names that begin with `root`.
pub(crate) fn parse(input: &[u8], root: &[u8], depth: usize, sink: &mut dyn Sink) -> Result<(), Error> {
    let input = input.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(input);
    let names = NAMES_ALLOWANCE + input.len().saturating_mul(NAMES_FACTOR);
    let (path, frames, text) = (root.to_vec(), Vec::new(), Vec::new());
    let mut parser = Parser { input, at: 0, path, frames, text, key_pending: false, names };
    let result = parser.document(depth, sink);
    // A key whose value is broken still was data.
    if result.is_err() && parser.key_pending {
        parser.spend()?;
        emit(sink, &parser.path, b"")?;
    }
    result
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn document(&mut self, depth: usize, sink: &mut dyn Sink) -> Result<(), Error> {
        loop {
            self.space();
            let opened = self.value(depth, sink)?;
            if !opened && !self.close()? {
                self.space();
                return if self.peek().is_none() { Ok(()) } else { Err(self.syntax()) };
            }
        }
    }

    fn syntax(&self) -> Error {
        if self.peek().is_some() { Error::Syntax(self.at) } else { Error::End(self.at) }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Error> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.syntax())
        }
    }

    /// Reads a scalar, or opens a container and moves to its first element (`true`).
    fn value(&mut self, depth: usize, sink: &mut dyn Sink) -> Result<bool, Error> {
        match self.peek() {
            Some(b'{') => self.open(true, depth, sink),
            Some(b'[') => self.open(false, depth, sink),
            Some(b'"') => {
                let complete = self.string();
                // An unterminated string still was data: it is looked at before the error is reported.
                self.spend()?;
                emit(sink, &self.path, &self.text)?;
                complete.map(|()| false)
            }
            _ => {
                let scalar = self.scalar()?;
                let value = if scalar == b"null" { &b""[..] } else { scalar };
                self.spend()?;
                emit(sink, &self.path, value)?;
                Ok(false)
            }
        }
    }

    /// Counts the current name, which is about to be handed out, against what names may take.
    fn spend(&mut self) -> Result<(), Error> {
        self.key_pending = false;
        self.names = self.names.checked_sub(self.path.len()).ok_or(Error::Names)?;
        Ok(())
    }

    fn open(&mut self, object: bool, depth: usize, sink: &mut dyn Sink) -> Result<bool, Error> {
        if self.frames.len() >= depth {
            return Err(Error::Depth);
        }
        self.at += 1;
        self.space();
        let (close, path) = (if object { b'}' } else { b']' }, self.path.len());
        let empty = self.peek() == Some(close);
        if (empty || !object) && matches!(self.frames.last(), Some(Frame::Object { .. })) {
            self.spend()?;
            emit(sink, &self.path, b"")?;
        }
        if empty {
            self.at += 1;
            return Ok(false);
        }
        if object {
            self.frames.push(Frame::Object { path });
            self.key(path)?;
        } else {
            self.frames.push(Frame::Array { path, next: 1 });
            self.path.extend_from_slice(b".0");
        }
        Ok(true)
    }

    /// Reads `"key":` and puts it on the path.
    fn key(&mut self, path: usize) -> Result<(), Error> {
        self.path.truncate(path);
        self.path.push(b'.');
        if self.peek() != Some(b'"') {
            return Err(self.syntax());
        }
        let complete = self.string();
        self.path.extend_from_slice(&self.text);
        self.key_pending = true;
        complete?;
        self.space();
        self.expect(b':')
    }

    /// After a value: closes what ends here and moves to the next element; `false` when the document is over.
    fn close(&mut self) -> Result<bool, Error> {
        loop {
            let Some(frame) = self.frames.last_mut() else { return Ok(false) };
            while matches!(self.input.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
                self.at += 1;
            }
            match (self.input.get(self.at), frame) {
                (Some(b','), Frame::Array { path, next }) => {
                    self.at += 1;
                    self.path.truncate(*path);
                    // Writing to a Vec cannot fail.
                    let _ = write!(self.path, ".{next}");
                    *next += 1;
                    return Ok(true);
                }
                (Some(b','), Frame::Object { path }) => {
                    let path = *path;
                    self.at += 1;
                    self.space();
                    self.key(path)?;
                    return Ok(true);
                }
                (Some(b']'), Frame::Array { path, .. }) | (Some(b'}'), Frame::Object { path }) => {
                    self.at += 1;
                    self.path.truncate(*path);
                    self.frames.pop();
                }
                _ => return Err(self.syntax()),
            }
        }
    }

    /// A number, `true`, `false` or `null` as it is written.
    fn scalar(&mut self) -> Result<&'a [u8], Error> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.')) {
            self.at += 1;
        }
        let text = self.input.get(start..self.at).unwrap_or_default();
        if matches!(text, b"true" | b"false" | b"null") || is_number(text) {
            Ok(text)
        } else if self.peek().is_none() && begins_a_scalar(text) {
            Err(Error::End(start))
        } else {
            Err(Error::Syntax(start))
        }
    }

    /// Reads a string into `text`, escapes resolved.
    fn string(&mut self) -> Result<(), Error> {
        self.text.clear();
        self.at += 1;
        loop {
            let rest = self.input.get(self.at..).unwrap_or_default();
            let plain = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            self.text.extend(rest.iter().take(plain));
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => self.escape()?,
                None => return Err(self.syntax()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Error> {
        self.at += 1;
        let byte = match self.peek() {
            Some(byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.syntax()),
        };
        self.at += 1;
        self.text.push(byte);
        Ok(())
    }

    /// `\uHHHH`, also as a surrogate pair; a lone surrogate becomes U+FFFD.
    fn unicode(&mut self) -> Result<(), Error> {
        let high = self.four_digits(1)?;
        self.at += 5;
        let mut code = high;
        if (0xd800..0xdc00).contains(&high)
            && self.input.get(self.at..self.at + 2) == Some(b"\\u")
            && let Ok(low @ 0xdc00..=0xdfff) = self.four_digits(2)
        {
            self.at += 6;
            code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        }
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn four_digits(&self, offset: usize) -> Result<u32, Error> {
        let cut = Error::End(self.input.len());
        let digits = self.input.get(self.at + offset..self.at + offset + 4).ok_or(cut)?;
        digits
            .iter()
            .try_fold(0, |code, &digit| Ok(code << 4 | u32::from(hex_value(digit).ok_or(self.syntax())?)))
    }
}

fn emit(sink: &mut dyn Sink, path: &[u8], value: &[u8]) -> Result<(), Error> {
    if sink.argument(path, value) { Ok(()) } else { Err(Error::TooManyArguments) }
}

/// Whether more input could make a scalar of it.
fn begins_a_scalar(text: &[u8]) -> bool {
    let words: [&[u8]; 3] = [b"true", b"false", b"null"];
    words.iter().any(|word| word.starts_with(text)) || is_number(&[text, b"0"].concat())
}

/// RFC 8259's grammar of numbers.
pub(super) fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.first() == Some(&b'0')) {
        return false;
    }
    let mut rest = text.get(whole..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = fraction.get(count..).unwrap_or_default();
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
        return !exponent.is_empty() && digits(exponent) == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Collect(Vec<(String, String)>, usize);

    impl Sink for Collect {
        fn argument(&mut self, name: &[u8], value: &[u8]) -> bool {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.0.push((text(name), text(value)));
            self.0.len() < self.1
        }
    }

    fn run(input: &str, depth: usize) -> (Vec<(String, String)>, Result<(), Error>) {
        let mut sink = Collect(Vec::new(), 100);
        let result = parse(input.as_bytes(), b"json", depth, &mut sink);
        (sink.0, result)
    }

    fn pairs(input: &str) -> String {
        let (found, result) = run(input, 10);
        let mut shown: Vec<String> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if result.is_err() {
            shown.push("!".to_owned());
        }
        shown.join(" ")
    }

    #[test]
    fn shapes() {
        for (input, expected) in [
            (
                r#"{"a":{"b":1.50},"c":[true,null,"x"]}"#,
                "json.a.b=1.50 json.c= json.c.0=true json.c.1= json.c.2=x",
            ),
            (r#"{"a":1,"a":2}"#, "json.a=1 json.a=2"),
            (r#""root""#, "json=root"),
            ("[]", ""),
            (r#"[[],{},[1]]"#, "json.2.0=1"),
            (r#"{"a":[],"b":{},"c":{"d":[{}]}}"#, "json.a= json.b= json.c.d="),
            (r#"{"k\u0041\n":"\ud83d\ude00\ud800"}"#, "json.kA\n=\u{1f600}\u{fffd}"),
            (r#"{"a":"kept","b":}"#, "json.a=kept json.b= !"),
            (r#"{"a":{"b":{"c"#, "json.a.b.c= !"),
            (r#"{"a" 1}"#, "json.a= !"),
            (r#"{"a":"cut off"#, "json.a=cut off !"),
            (r#"{"a":1} x"#, "json.a=1 !"),
            (r#"{"a":01}"#, "json.a= !"),
            (r#"{"a":1,}"#, "json.a=1 !"),
            ("[1,]", "json.0=1 !"),
            ("", "!"),
            ("[1}", "json.0=1 !"),
        ] {
            assert_eq!(pairs(input), expected, "{input}");
        }
    }

    #[test]
    fn limits() {
        assert_eq!(run("[[[1]]]", 3).1, Ok(()));
        assert_eq!(run("[[[[1]]]]", 3).1, Err(Error::Depth));
        let many = format!("[{}1]", "1,".repeat(200));
        assert_eq!(run(&many, 3).1, Err(Error::TooManyArguments));
        let long = format!("{{\"{}\":[{}1]}}", "k".repeat(100_000), "1,".repeat(90));
        assert_eq!(run(&long, 3).1, Err(Error::Names));
    }

    /// Wherever a document is cut off, it is the beginning of one; what is wrong before its end is not.
    #[test]
    fn ends() {
        let document = r#"{"a\u0041":[1.5e+3,-0,true,{"b":null}],"c":"\ud83d\ude00x"} "#;
        for cut in 0..document.len() - 2 {
            let result = run(&document[..cut], 10).1;
            assert!(matches!(result, Err(Error::End(_))), "{} {result:?}", &document[..cut]);
        }
        for wrong in
            ["{\"a\":tru}", "[SELECT", "[1 2", "[01", "[\"\\x", "}", "[1]]", "{1", "[\"\\u00g0\"", "nulll"]
        {
            let result = run(wrong, 10).1;
            assert!(matches!(result, Err(Error::Syntax(_))), "{wrong} {result:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(input in prop::collection::vec(prop::sample::select(br#"{}[]",:\u0a1-e. tnf"#.to_vec()), 0..60)) {
            let mut sink = Collect(Vec::new(), 100);
            let ours = parse(&input, b"json", 20, &mut sink);
            let theirs = serde_json::from_slice::<&serde_json::value::RawValue>(&input);
            // Everything the reference accepts is accepted; its limits aside, the converse holds as well.
            if theirs.is_ok() {
                prop_assert!(ours.is_ok());
            }
        }
    }
}
