//! An HTML tokenizer that reads like browsers do, old ones included, from inside or outside a tag.
//!
//! A machine of states; each reads on from the position to the end of one token and names the state that follows.

use memchr::{memchr, memmem};

/// Where in a document a value may land.
#[derive(Clone, Copy, Debug)]
pub(super) enum Context {
    /// Between tags.
    Text,
    /// In a tag, before an attribute.
    Tag,
    /// In an attribute's value that ends with the quote.
    Quoted(u8),
}

impl Context {
    pub(super) const ALL: [Self; 5] =
        [Self::Text, Self::Tag, Self::Quoted(b'\''), Self::Quoted(b'"'), Self::Quoted(b'`')];
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text between tags, also that of CDATA sections.
    Text,
    /// The name of a start tag, or of an end tag with attributes.
    TagOpen,
    /// The `>` of a tag.
    TagEnd,
    /// The `/>` of a tag.
    TagSelfClosed,
    /// The name of an end tag.
    TagClose,
    AttributeName,
    /// Without its quotes.
    AttributeValue,
    Comment,
    Doctype,
}

impl Kind {
    /// The name in the published vectors.
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "DATA_TEXT",
            Self::TagOpen => "TAG_NAME_OPEN",
            Self::TagEnd => "TAG_NAME_CLOSE",
            Self::TagSelfClosed => "TAG_NAME_SELFCLOSE",
            Self::TagClose => "TAG_CLOSE",
            Self::AttributeName => "ATTR_NAME",
            Self::AttributeValue => "ATTR_VALUE",
            Self::Comment => "TAG_COMMENT",
            Self::Doctype => "DOCTYPE",
        }
    }
}

/// A token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a [u8],
}

impl Token<'_> {
    /// The token as a line of a trace: kind, length in bytes, text.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend(format!("{},{},", self.kind.name(), self.text.len()).bytes());
        out.extend(self.text);
        out.push(b'\n');
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Text,
    /// Behind a `<`.
    Tag,
    BeforeName,
    AfterName,
    BeforeValue,
    AfterQuotedValue,
    /// Behind a `/` in a tag.
    Slash,
    /// At the `>` of a tag.
    TagEnd,
    /// The input begins in a value with this quote.
    InValue(u8),
    End,
}

/// The tokens of an input.
#[derive(Debug)]
pub(super) struct Html<'a> {
    input: &'a [u8],
    at: usize,
    state: State,
    /// Whether the tag is an end tag. Some of its endings forget to reset it, and the next tag counts as one.
    closing: bool,
}

impl<'a> Iterator for Html<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        match self.state {
            State::Text => self.text(),
            State::Tag => self.tag(),
            State::BeforeName => self.before_name(),
            State::AfterName => self.after_name(),
            State::BeforeValue => self.before_value(),
            State::AfterQuotedValue => self.after_quoted_value(),
            State::Slash => self.slash(),
            State::TagEnd => self.tag_end(),
            State::InValue(quote) => self.until_quote(quote),
            State::End => None,
        }
    }
}

impl<'a> Html<'a> {
    pub(super) fn new(input: &'a [u8], context: Context) -> Self {
        let state = match context {
            Context::Text => State::Text,
            Context::Tag => State::BeforeName,
            Context::Quoted(quote) => State::InValue(quote),
        };
        Self { input, at: 0, state, closing: false }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// The next `length` bytes as a token, and `skip` bytes behind them.
    fn take(&mut self, kind: Kind, length: usize, skip: usize, state: State) -> Option<Token<'a>> {
        let rest = self.rest();
        self.at += length + skip;
        self.state = state;
        Some(Token { kind, text: rest.get(..length).unwrap_or(rest) })
    }

    /// Everything that is left as a token.
    fn take_rest(&mut self, kind: Kind) -> Option<Token<'a>> {
        self.take(kind, self.rest().len(), 0, State::End)
    }

    fn text(&mut self) -> Option<Token<'a>> {
        match memchr(b'<', self.rest()) {
            None if self.rest().is_empty() => None,
            None => self.take_rest(Kind::Text),
            Some(0) => {
                self.at += 1;
                self.tag()
            }
            Some(length) => self.take(Kind::Text, length, 1, State::Tag),
        }
    }

    fn tag(&mut self) -> Option<Token<'a>> {
        match self.peek()? {
            b'!' => {
                self.at += 1;
                self.declaration()
            }
            b'/' => {
                self.at += 1;
                self.closing = true;
                self.end_tag()
            }
            b'?' => {
                self.at += 1;
                self.bogus_comment()
            }
            // Internet Explorer's other comment.
            b'%' => {
                self.at += 1;
                self.comment_until(b"%>")
            }
            // Internet Explorer ignores NUL.
            b'a'..=b'z' | b'A'..=b'Z' | 0 => self.tag_name(),
            _ => {
                self.at = self.at.saturating_sub(1);
                self.take(Kind::Text, 1, 0, State::Text)
            }
        }
    }

    fn end_tag(&mut self) -> Option<Token<'a>> {
        match self.peek()? {
            b'>' => self.text(),
            b'a'..=b'z' | b'A'..=b'Z' => self.tag_name(),
            _ => {
                self.closing = false;
                self.bogus_comment()
            }
        }
    }

    fn tag_name(&mut self) -> Option<Token<'a>> {
        let ends = |&byte: &u8| byte != 0 && (is_white(byte) || matches!(byte, b'/' | b'>'));
        let Some(length) = self.rest().iter().position(ends) else { return self.take_rest(Kind::TagOpen) };
        match self.rest().get(length) {
            Some(b'/') => self.take(Kind::TagOpen, length, 1, State::Slash),
            Some(b'>') if self.closing => {
                self.closing = false;
                self.take(Kind::TagClose, length, 1, State::Text)
            }
            Some(b'>') => self.take(Kind::TagOpen, length, 0, State::TagEnd),
            _ => self.take(Kind::TagOpen, length, 1, State::BeforeName),
        }
    }

    /// The `>` at the position.
    fn tag_end(&mut self) -> Option<Token<'a>> {
        self.closing = false;
        self.bracket()
    }

    fn bracket(&mut self) -> Option<Token<'a>> {
        self.take(Kind::TagEnd, 1, 0, State::Text)
    }

    /// Skips white space and NUL. The reference takes the byte 255 for the end of the input.
    fn skip_white(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !is_white(byte) {
                return (byte != 0xff).then_some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn before_name(&mut self) -> Option<Token<'a>> {
        loop {
            match self.skip_white()? {
                b'/' => {
                    self.at += 1;
                    if self.peek()? == b'>' {
                        return self.self_closed();
                    }
                }
                b'>' => return self.bracket(),
                _ => return self.name(),
            }
        }
    }

    fn slash(&mut self) -> Option<Token<'a>> {
        if self.peek()? == b'>' { self.self_closed() } else { self.before_name() }
    }

    /// At the `>` of `/>`.
    fn self_closed(&mut self) -> Option<Token<'a>> {
        self.at = self.at.saturating_sub(1);
        self.take(Kind::TagSelfClosed, 2, 0, State::Text)
    }

    fn name(&mut self) -> Option<Token<'a>> {
        let ends = |&byte: &u8| is_white(byte) || matches!(byte, b'/' | b'=' | b'>');
        // The first byte belongs to the name, whatever it is.
        let Some(length) = self.rest().iter().skip(1).position(ends).map(|length| length + 1) else {
            return self.take_rest(Kind::AttributeName);
        };
        let (skip, state) = match self.rest().get(length) {
            Some(b'/') => (1, State::Slash),
            Some(b'=') => (1, State::BeforeValue),
            Some(b'>') => (0, State::TagEnd),
            _ => (1, State::AfterName),
        };
        self.take(Kind::AttributeName, length, skip, state)
    }

    fn after_name(&mut self) -> Option<Token<'a>> {
        match self.skip_white()? {
            b'/' => {
                self.at += 1;
                self.slash()
            }
            b'=' => {
                self.at += 1;
                self.before_value()
            }
            b'>' => self.tag_end(),
            _ => self.name(),
        }
    }

    fn before_value(&mut self) -> Option<Token<'a>> {
        match self.skip_white()? {
            quote @ (b'"' | b'\'' | b'`') => {
                self.at += 1;
                self.until_quote(quote)
            }
            _ => self.unquoted_value(),
        }
    }

    fn until_quote(&mut self, quote: u8) -> Option<Token<'a>> {
        match memchr(quote, self.rest()) {
            Some(length) => self.take(Kind::AttributeValue, length, 1, State::AfterQuotedValue),
            None => self.take_rest(Kind::AttributeValue),
        }
    }

    fn unquoted_value(&mut self) -> Option<Token<'a>> {
        let ends = |&byte: &u8| is_white(byte) || byte == b'>';
        let Some(length) = self.rest().iter().position(ends) else {
            return self.take_rest(Kind::AttributeValue);
        };
        let (skip, state) = match self.rest().get(length) {
            Some(b'>') => (0, State::TagEnd),
            _ => (1, State::BeforeName),
        };
        self.take(Kind::AttributeValue, length, skip, state)
    }

    fn after_quoted_value(&mut self) -> Option<Token<'a>> {
        match self.peek()? {
            b'/' => {
                self.at += 1;
                self.slash()
            }
            b'>' => self.bracket(),
            _ => self.before_name(),
        }
    }

    /// Behind `<!`.
    fn declaration(&mut self) -> Option<Token<'a>> {
        let rest = self.rest();
        if rest.get(..7).is_some_and(|word| word.eq_ignore_ascii_case(b"doctype")) {
            match memchr(b'>', rest) {
                Some(length) => self.take(Kind::Doctype, length, 1, State::Text),
                None => self.take_rest(Kind::Doctype),
            }
        } else if rest.starts_with(b"[CDATA[") {
            self.at += 7;
            match memmem::find(self.rest(), b"]]>") {
                Some(length) => self.take(Kind::Text, length, 3, State::Text),
                None => self.take_rest(Kind::Text),
            }
        } else if rest.starts_with(b"--") {
            self.at += 2;
            self.comment()
        } else {
            self.bogus_comment()
        }
    }

    fn bogus_comment(&mut self) -> Option<Token<'a>> {
        self.comment_until(b">")
    }

    fn comment_until(&mut self, end: &[u8]) -> Option<Token<'a>> {
        match memmem::find(self.rest(), end) {
            Some(length) => self.take(Kind::Comment, length, end.len(), State::Text),
            None => self.take_rest(Kind::Comment),
        }
    }

    /// Up to `-->` or `-!>`; NULs behind the first sign do not count.
    fn comment(&mut self) -> Option<Token<'a>> {
        let rest = self.rest();
        for dash in memchr::memchr_iter(b'-', rest) {
            let behind = rest.get(dash + 1..).unwrap_or_default();
            let nuls = behind.iter().take_while(|&&byte| byte == 0).count();
            match behind.get(nuls..).unwrap_or_default() {
                [b'-' | b'!', b'>', ..] => return self.take(Kind::Comment, dash, nuls + 3, State::Text),
                [] | [b'-' | b'!'] => break,
                _ => {}
            }
        }
        self.take_rest(Kind::Comment)
    }
}

/// White space, with what only Internet Explorer skips: NUL and vertical tabs.
const fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | 9..=13 | 0)
}
