//! From PCRE's way of writing patterns to that of `regex-syntax`, as far as the two read the same text differently.
//!
//! Most differences are silent: `\<` would be the start of a word, `[a&&b]` an intersection, `[[]` a nested class,
//! `\x{e2}` and a letter beyond ASCII a code point instead of the bytes that PCRE compares. Others are errors there and
//! text here: a `{` that begins no repetition, a `-` beside `\w` in a class.

/// The last thing read inside of brackets, which decides what a `-` means.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that could begin a range.
    Other,
    /// A character.
    Character,
    /// The `-` of a range.
    Range,
}

struct Rewriter<'a> {
    rest: &'a str,
    out: String,
}

/// The pattern for `regex-syntax` in byte mode.
///
/// # Errors
/// When it means characters that are no bytes; the text says which.
pub(crate) fn rewrite(source: &str) -> Result<String, String> {
    let mut rewriter = Rewriter { rest: source, out: String::with_capacity(source.len() + 16) };
    while let Some(character) = rewriter.next() {
        match character {
            '\\' => {
                rewriter.escape(false)?;
            }
            '[' => rewriter.class()?,
            '{' if !is_repetition(rewriter.rest) => rewriter.out.push_str("\\{"),
            other => rewriter.plain(other),
        }
    }
    Ok(rewriter.out)
}

impl Rewriter<'_> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next();
        self.rest = characters.as_str();
        next
    }

    /// A character that means itself; beyond ASCII, its bytes.
    fn plain(&mut self, character: char) {
        if character.is_ascii() {
            self.out.push(character);
        } else {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                self.out.push_str(&format!("\\x{byte:02x}"));
            }
        }
    }

    /// What follows a backslash; whether it stands for more than one character, as `\w` does.
    fn escape(&mut self, in_class: bool) -> Result<bool, String> {
        if let Some(braced) = self.rest.strip_prefix("x{") {
            let (digits, tail) = braced.split_once('}').ok_or("`\\x{` is not closed")?;
            let value = u32::from_str_radix(digits.trim(), 16)
                .map_err(|_| format!("`\\x{{{digits}}}` is no byte"))?;
            if value > 0xff {
                return Err(format!(
                    "`\\x{{{digits}}}` is above 0xFF; patterns match bytes, not code points"
                ));
            }
            self.out.push_str(&format!("\\x{value:02x}"));
            self.rest = tail;
            return Ok(false);
        }
        match self.next() {
            Some(character @ ('<' | '>')) => self.out.push(character),
            Some('e') => self.out.push_str("\\x1b"),
            Some('b') if in_class => self.out.push_str("\\x08"),
            Some(character) if !character.is_ascii() => self.plain(character),
            Some(character) => {
                self.out.push('\\');
                self.out.push(character);
                return Ok(matches!(character, 'w' | 'W' | 'd' | 'D' | 's' | 'S'));
            }
            None => self.out.push('\\'),
        }
        Ok(false)
    }

    /// A bracketed class, its `[` read. One that is never closed is left for the parser to complain about.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.rest = rest;
            self.out.push('^');
        }
        if let Some(rest) = self.rest.strip_prefix(']') {
            self.rest = rest;
            self.out.push_str("\\]");
        }
        let mut before = Before::Other;
        while let Some(character) = self.next() {
            let mut many = false;
            match character {
                ']' => {
                    self.out.push(']');
                    return Ok(());
                }
                '\\' => many = self.escape(true)?,
                '[' if self.posix() => many = true,
                '-' if before == Before::Character && self.begins_character() => {
                    self.out.push('-');
                    before = Before::Range;
                    continue;
                }
                '[' | '&' | '~' | '-' => {
                    self.out.push('\\');
                    self.out.push(character);
                }
                other => self.plain(other),
            }
            before = if many || before == Before::Range { Before::Other } else { Before::Character };
        }
        Ok(())
    }

    /// `[:alpha:]`, whose first bracket has been read: copied as a whole.
    fn posix(&mut self) -> bool {
        let end = self.rest.strip_prefix(':').and_then(|rest| rest.find(":]"));
        let Some((name, rest)) = end.and_then(|end| self.rest.split_at_checked(end + 3)) else {
            return false;
        };
        let letters = name.trim_matches([':', ']', '^']);
        if letters.is_empty() || !letters.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return false;
        }
        self.out.push('[');
        self.out.push_str(name);
        self.rest = rest;
        true
    }

    /// Whether a single character comes next, so that a `-` before it makes a range.
    fn begins_character(&self) -> bool {
        let many = ["\\w", "\\W", "\\d", "\\D", "\\s", "\\S", "[:", "]"];
        !self.rest.is_empty() && !many.iter().any(|many| self.rest.starts_with(many))
    }
}

/// Whether what follows a `{` makes it a repetition: `n}`, `n,}` or `n,m}`.
fn is_repetition(rest: &str) -> bool {
    let Some((inner, _)) = rest.split_once('}') else { return false };
    let (least, most) = inner.split_once(',').unwrap_or((inner, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

#[cfg(test)]
mod tests {
    use super::rewrite;
    use proptest::prelude::*;

    #[test]
    fn differences() {
        for (pcre, rust) in [
            (r"[\x{e2}-\x{ff}]a\\x{41}\x{9}", r"[\xe2-\xff]a\\x{41}\x09"),
            (r"a{2}b{2,}c{2,3}", r"a{2}b{2,}c{2,3}"),
            (r"{a}{,2}{{.*?}}\s+{", r"\{a}\{,2}\{\{.*?}}\s+\{"),
            (r"\<script\>", "<script>"),
            ("[a&&b~~c]", r"[a\&\&b\~\~c]"),
            ("[[({]x[]a][^]]", r"[\[({]x[\]a][^\]]"),
            (r"[[:alpha:]-[:digit:]]", r"[[:alpha:]\-[:digit:]]"),
            (r"[\w-.]", r"[\w\-.]"),
            (r"[.-\w]", r"[.\-\w]"),
            ("[a-c-e]", r"[a-c\-e]"),
            ("[-a-]", r"[\-a\-]"),
            ("[+--]", r"[+-\-]"),
            (r"[\-\+\[\]\\]", r"[\-\+\[\]\\]"),
            ("\u{b4}+[\u{b4}]", r"\xc2\xb4+[\xc2\xb4]"),
            (r"[\b]\b\e", r"[\x08]\b\x1b"),
            ("[a", "[a"),
            ("a\\", "a\\"),
        ] {
            assert_eq!(rewrite(pcre).unwrap(), rust, "{pcre}");
        }
        assert!(rewrite(r"\x{100}").unwrap_err().contains("0xFF"));
        assert!(rewrite(r"\x{41").is_err());
    }

    proptest! {
        /// A second time there is nothing left to do.
        #[test]
        fn rewriting_twice_changes_nothing(pattern in r"[\[\]\\\^a-z{}0-9,&~:<>.*+?()|-]{0,40}") {
            if let Ok(once) = rewrite(&pattern) {
                prop_assert_eq!(rewrite(&once).unwrap(), once);
            }
        }
    }
}
