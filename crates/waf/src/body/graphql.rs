//! GraphQL documents as arguments: `{ user(id: "7") { name } }` gives `ROOT.user.id` = `7`.
//!
//! What a client can write into a document besides names of letters, digits and `_` are the values of arguments and the
//! text of comments. These are handed over, without the syntax around them: a query's braces, `$` and line breaks look
//! like code of another language to rules. A value's name is the way to it: fields, argument, members and indices. The
//! grammar is that of executable documents in the specification of October 2021; whatever else the text is, it is not
//! taken apart, and looked at as it is.

use super::Sink;
use crate::transform::hex_value;

/// Deepest nesting of selections, lists and objects.
const DEPTH: usize = 64;

/// The text is no executable document, is nested too deeply, or the sink takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Error;

type Result<T> = std::result::Result<T, Error>;

struct Parser<'a, 'b> {
    rest: &'a [u8],
    path: Vec<u8>,
    text: Vec<u8>,
    comments: Vec<u8>,
    depth: usize,
    sink: &'b mut dyn Sink,
}

/// Takes a document apart and hands every value to the sink, under names that begin with `root`.
pub(crate) fn parse(input: &[u8], root: &[u8], sink: &mut dyn Sink) -> Result<()> {
    let (text, comments) = (Vec::new(), Vec::new());
    let mut parser = Parser { rest: input, path: root.to_vec(), text, comments, depth: 0, sink };
    parser.ignored();
    if parser.rest.is_empty() {
        return Err(Error);
    }
    while !parser.rest.is_empty() {
        parser.definition()?;
    }
    if !parser.comments.is_empty() {
        parser.path.extend_from_slice(b".#");
        let comments = std::mem::take(&mut parser.comments);
        parser.emit(&comments)?;
    }
    Ok(())
}

fn name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

impl<'a> Parser<'a, '_> {
    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    /// White space, line ends, commas and comments.
    fn ignored(&mut self) {
        loop {
            match self.rest {
                [b' ' | b'\t' | b'\r' | b'\n' | b',', ..] => self.skip(1),
                [0xef, 0xbb, 0xbf, ..] => self.skip(3),
                [b'#', ..] => {
                    let end = memchr::memchr2(b'\n', b'\r', self.rest).unwrap_or(self.rest.len());
                    self.comments.extend(self.rest.iter().take(end).skip(1));
                    self.comments.push(b'\n');
                    self.skip(end);
                }
                _ => return,
            }
        }
    }

    /// Takes a punctuator if it comes next, and what is ignored behind it.
    fn accept(&mut self, punctuator: &[u8]) -> bool {
        let Some(rest) = self.rest.strip_prefix(punctuator) else { return false };
        self.rest = rest;
        self.ignored();
        true
    }

    fn expect(&mut self, punctuator: &[u8]) -> Result<()> {
        if self.accept(punctuator) { Ok(()) } else { Err(Error) }
    }

    fn name(&mut self) -> Result<&'a [u8]> {
        if !self.peek().is_some_and(name_start) {
            return Err(Error);
        }
        let part = |byte: &u8| name_start(*byte) || byte.is_ascii_digit();
        let length = self.rest.iter().take_while(|byte| part(byte)).count();
        let (name, rest) = self.rest.split_at_checked(length).ok_or(Error)?;
        self.rest = rest;
        self.ignored();
        Ok(name)
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH { Err(Error) } else { Ok(()) }
    }

    /// Runs `inner` with another part on the path.
    fn below(&mut self, part: &[u8], inner: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let length = self.path.len();
        self.path.push(b'.');
        self.path.extend_from_slice(part);
        let result = inner(self);
        self.path.truncate(length);
        result
    }

    fn emit(&mut self, value: &[u8]) -> Result<()> {
        if self.sink.argument(&self.path, value) { Ok(()) } else { Err(Error) }
    }

    fn definition(&mut self) -> Result<()> {
        if self.peek() == Some(b'{') {
            return self.selections();
        }
        match self.name()? {
            b"query" | b"mutation" | b"subscription" => {
                if self.peek().is_some_and(name_start) {
                    self.name()?;
                }
                if self.accept(b"(") {
                    while !self.accept(b")") {
                        self.variable()?;
                    }
                }
            }
            b"fragment" => {
                if self.name()? == b"on" || self.name()? != b"on" {
                    return Err(Error);
                }
                self.name()?;
            }
            _ => return Err(Error),
        }
        self.directives()?;
        self.selections()
    }

    /// `$name: Type = default @directive`.
    fn variable(&mut self) -> Result<()> {
        self.expect(b"$")?;
        let name = [b"$", self.name()?].concat();
        self.expect(b":")?;
        let mut open = 0;
        while self.accept(b"[") {
            open += 1;
        }
        self.name()?;
        self.accept(b"!");
        for _ in 0..open {
            self.expect(b"]")?;
            self.accept(b"!");
        }
        if self.accept(b"=") {
            self.below(&name, Self::value)?;
        }
        self.directives()
    }

    fn directives(&mut self) -> Result<()> {
        while self.accept(b"@") {
            let name = [b"@", self.name()?].concat();
            self.below(&name, Self::arguments)?;
        }
        Ok(())
    }

    fn arguments(&mut self) -> Result<()> {
        if self.accept(b"(") {
            while !self.accept(b")") {
                self.member()?;
            }
        }
        Ok(())
    }

    /// `name: value`.
    fn member(&mut self) -> Result<()> {
        let name = self.name()?;
        self.expect(b":")?;
        self.below(name, Self::value)
    }

    fn selections(&mut self) -> Result<()> {
        self.expect(b"{")?;
        self.deeper()?;
        while !self.accept(b"}") {
            self.selection()?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn selection(&mut self) -> Result<()> {
        if self.accept(b"...") {
            let spread = self.peek().is_some_and(name_start) && self.name()? != b"on";
            if spread {
                return self.directives();
            }
            // `on Type`, unless it stood for the type already.
            if self.peek().is_some_and(name_start) {
                self.name()?;
            }
            self.directives()?;
            return self.selections();
        }
        let mut name = self.name()?;
        if self.accept(b":") {
            // What stood before was the alias.
            name = self.name()?;
        }
        self.below(name, |parser| {
            parser.arguments()?;
            parser.directives()?;
            if parser.peek() == Some(b'{') { parser.selections() } else { Ok(()) }
        })
    }

    fn value(&mut self) -> Result<()> {
        match self.rest {
            [b'$', ..] => {
                self.accept(b"$");
                self.name()?;
                // What it stands for is sent beside the document.
                self.emit(b"")
            }
            [b'"', b'"', b'"', ..] => self.block_string(),
            [b'"', ..] => self.string(),
            [b'[', ..] => {
                self.accept(b"[");
                self.deeper()?;
                let mut index = 0_usize;
                while !self.accept(b"]") {
                    self.below(index.to_string().as_bytes(), Self::value)?;
                    index += 1;
                }
                self.depth -= 1;
                Ok(())
            }
            [b'{', ..] => {
                self.accept(b"{");
                self.deeper()?;
                while !self.accept(b"}") {
                    self.member()?;
                }
                self.depth -= 1;
                Ok(())
            }
            [b'-' | b'0'..=b'9', ..] => self.number(),
            _ => match self.name()? {
                b"null" => self.emit(b""),
                name => self.emit(name),
            },
        }
    }

    /// A number as it is written; the grammar is JSON's.
    fn number(&mut self) -> Result<()> {
        let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(byte);
        let length = self.rest.iter().take_while(|byte| part(byte)).count();
        let (number, rest) = self.rest.split_at_checked(length).ok_or(Error)?;
        if !super::json::is_number(number) {
            return Err(Error);
        }
        self.rest = rest;
        self.ignored();
        self.emit(number)
    }

    fn string(&mut self) -> Result<()> {
        self.skip(1);
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        loop {
            let plain = self
                .rest
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\\' | b'\n' | b'\r'))
                .ok_or(Error)?;
            text.extend(self.rest.iter().take(plain));
            self.skip(plain);
            match self.rest {
                [b'"', ..] => break,
                [b'\\', ..] => self.escape(&mut text)?,
                _ => return Err(Error),
            }
        }
        self.skip(1);
        self.ignored();
        let result = self.emit(&text);
        self.text = text;
        result
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<()> {
        let byte = match self.rest.get(1).copied().ok_or(Error)? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.unicode(text),
            _ => return Err(Error),
        };
        text.push(byte);
        self.skip(2);
        Ok(())
    }

    /// `\uHHHH`, also as a surrogate pair, or `\u{H…}`.
    fn unicode(&mut self, text: &mut Vec<u8>) -> Result<()> {
        self.skip(2);
        let mut code = if self.rest.first() == Some(&b'{') {
            self.skip(1);
            let length =
                memchr::memchr(b'}', self.rest).filter(|length| (1..=8).contains(length)).ok_or(Error)?;
            let code = self.hex(length)?;
            self.skip(1);
            code
        } else {
            self.hex(4)?
        };
        if (0xd800..0xdc00).contains(&code)
            && let Some(low) = self.rest.strip_prefix(b"\\u")
        {
            self.rest = low;
            let low = self.hex(4)?;
            code = 0x10000 + ((code - 0xd800) << 10) + (low.checked_sub(0xdc00).ok_or(Error)? & 0x3ff);
        }
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }

    fn hex(&mut self, digits: usize) -> Result<u32> {
        let text = self.rest.get(..digits).ok_or(Error)?;
        self.skip(digits);
        text.iter().try_fold(0, |code, digit| Ok(code << 4 | u32::from(hex_value(*digit).ok_or(Error)?)))
    }

    /// `"""…"""`. Its common indentation stays: no rule asks for it.
    fn block_string(&mut self) -> Result<()> {
        self.skip(3);
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        loop {
            let plain = memchr::memmem::find(self.rest, b"\"\"\"").ok_or(Error)?;
            let (before, after) = self.rest.split_at_checked(plain).ok_or(Error)?;
            let escaped = before.strip_suffix(b"\\");
            text.extend_from_slice(escaped.unwrap_or(before));
            self.rest = after;
            self.skip(3);
            if escaped.is_none() {
                break;
            }
            text.extend_from_slice(b"\"\"\"");
        }
        self.ignored();
        let result = self.emit(&text);
        self.text = text;
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Collect(Vec<String>);

    impl Sink for Collect {
        fn argument(&mut self, name: &[u8], value: &[u8]) -> bool {
            self.0.push(format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
            self.0.len() < 50
        }
    }

    fn run(document: &str) -> (String, Result<()>) {
        let mut sink = Collect(Vec::new());
        let result = parse(document.as_bytes(), b"q", &mut sink);
        (sink.0.join(" "), result)
    }

    #[test]
    fn documents() {
        for (document, expected) in [
            ("{ a }", ""),
            ("{a(b:\"' or 1=1\")}", "q.a.b=' or 1=1"),
            (
                "query Q($id: [ID!]! = [\"7\"], $n: Int @d(x: 1)) @c { user(id: $id, n: -1.5e3) { name, x: y(z: RED) } }",
                "q.$id.0=7 q.@d.x=1 q.user.id= q.user.n=-1.5e3 q.user.y.z=RED",
            ),
            (
                "mutation { add(in: {t: \"a\\n\\\"\\u0041\\u{1F600}\\ud83d\\ude00\", l: [true, null, [2]]}) }",
                "q.add.in.t=a\n\"A\u{1f600}\u{1f600} q.add.in.l.0=true q.add.in.l.1= q.add.in.l.2.0=2",
            ),
            ("{a(b:\"\"\"x \\\"\"\" \" y\"\"\")}", "q.a.b=x \"\"\" \" y"),
            (
                "{ ...F ... on T @include(if: $x) { b(c: 1) } ... { d } ... @skip(if: false) { e } } fragment F on T { f(g: \"h\") }",
                "q.@include.if= q.b.c=1 q.@skip.if=false q.f.g=h",
            ),
            ("# ${jndi:x}\n{ a # b\n}", "q.#= ${jndi:x}\n b\n"),
            ("\u{feff}subscription S { a(b: \"\") }", "q.a.b="),
            ("{query(fragment:{on:on})}", "q.query.fragment.on=on"),
        ] {
            let (found, result) = run(document);
            assert_eq!((found.as_str(), result), (expected, Ok(())), "{document}");
        }
        for text in [
            "",
            "   ",
            "hello",
            "{",
            "{a",
            "{a(}",
            "{a(b)}",
            "{a(b:)}",
            "{a(b:\"x)}",
            "{a(b:\"x\ny\")}",
            "{a(b:01)}",
            "{a(b:1x)}",
            "{a(b:\"\\x\")}",
            "{a(b:\"\\u12\")}",
            "{a(b:\"\"\"x)}",
            "type T { a: Int }",
            "query {a} ; drop",
            "{a}}",
            "{a(b:'x')}",
            "{\"a\":1}",
            "fragment on on T {a}",
            "query",
            "{ ...F",
            "{a(b:$)}",
            "{a @}",
            "select * from t",
        ] {
            assert_eq!(run(text).1, Err(Error), "{text}");
        }
        let deep = |levels: usize| format!("{}{}", "{a".repeat(levels), "}".repeat(levels));
        assert_eq!((run(&deep(64)).1, run(&deep(65)).1), (Ok(()), Err(Error)));
        let lists = format!("{{a(b:{}{})}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(run(&lists).1, Err(Error));
        assert_eq!(run(&format!("{{{}}}", "a(b:1)".repeat(60))).1, Err(Error));
    }

    proptest! {
        #[test]
        fn any_words(words in prop::collection::vec(prop::sample::select(vec![
            "{", "}", "(", ")", "[", "]", ":", "$", "@", "!", "=", "...", "on", "query", "a", "1", "-", "\"", "\"\"\"", "\\", "\\u", "#", "\n", " ", "null", "fragment",
        ]), 0..40)) {
            let _ = run(&words.concat());
        }

        /// Any text survives being written as a string.
        #[test]
        fn text_comes_back(text in "[ -~\n\t]{0,60}") {
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let (found, result) = run(&format!("{{a(b: \"{escaped}\")}}"));
            prop_assert_eq!((found, result), (format!("q.a.b={text}"), Ok(())));
        }
    }
}
