//! From PCRE's way of writing patterns to that of `regex-syntax`, as far as the two read the same text differently.
//!
//! Most differences are silent: `\<` would be the start of a word, `[a&&b]` an intersection, `[[]` a nested class,
//! `\x{e2}` and a letter beyond ASCII a code point instead of the bytes that PCRE compares. Others are errors there and
//! text here: a `{` that begins no repetition, a `-` beside `\w` in a class.

use super::PatternError;

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
    /// Groups that capture, in order of their parentheses: whether the rewriter made them.
    groups: Vec<bool>,
    /// Where in `out` the last thing begins, if it is one that stands for a single byte.
    atom: Option<usize>,
}

/// A pattern for `regex-syntax`.
pub(crate) struct Rewritten {
    /// What `regex-syntax` can parse: look-around and back-references are groups with the names below.
    pub(crate) pattern: String,
    /// For each group that captures, in order of the parentheses: whether it is one of those.
    pub(crate) groups: Vec<bool>,
}

/// What the names of groups begin with that stand for look-around, and how PCRE writes it.
pub(crate) const LOOK_AHEAD: &str = "_la";
pub(crate) const NO_LOOK_AHEAD: &str = "_na";
pub(crate) const LOOK_BEHIND: &str = "_lb";
pub(crate) const NO_LOOK_BEHIND: &str = "_nb";
/// The name of a group that stands for a back-reference: this, the number, and `_`. In it is an `a`, which tells by what
/// becomes of it whether letters compare without regard to case there.
pub(crate) const BACK_REFERENCE: &str = "_br";

/// The pattern for `regex-syntax` in byte mode.
///
/// # Errors
/// When it means characters that are no bytes, or looks around; the text says which.
pub fn rewrite(source: &str) -> Result<String, String> {
    let rewritten = rewrite_all(source).map_err(|error| error.to_string())?;
    if rewritten.groups.contains(&true) {
        return Err("look-around and back-references are not supported here".to_owned());
    }
    Ok(rewritten.pattern)
}

/// The pattern for `regex-syntax` in byte mode, with look-around and back-references as named groups.
///
/// # Errors
/// When it means characters that are no bytes, or only a backtracking engine can match it.
pub(crate) fn rewrite_all(source: &str) -> Result<Rewritten, PatternError> {
    let mut rewriter = Rewriter {
        rest: source,
        out: String::with_capacity(source.len() + 16),
        groups: Vec::new(),
        atom: None,
    };
    while let Some(character) = rewriter.next() {
        let (start, atom) = (rewriter.out.len(), rewriter.atom.take());
        match character {
            '\\' if rewriter.assertion() => {}
            '\\' => {
                rewriter.escape(false)?;
                rewriter.atom = Some(start);
            }
            '[' => {
                rewriter.class()?;
                rewriter.atom = Some(start);
            }
            '(' => rewriter.group()?,
            '{' if !is_repetition(rewriter.rest) => rewriter.out.push_str("\\{"),
            '{' => {
                let (inner, tail) = rewriter.rest.split_once('}').unwrap_or((rewriter.rest, ""));
                rewriter.out.push_str(&format!("{{{inner}}}"));
                rewriter.rest = tail;
                rewriter.after_repetition(atom.filter(|_| inner.ends_with(',')), start)?;
            }
            '*' | '+' | '?' => {
                rewriter.out.push(character);
                rewriter.after_repetition(atom.filter(|_| character != '?'), start)?;
            }
            other => {
                rewriter.plain(other);
                rewriter.atom = Some(start).filter(|_| other.is_ascii() && other != ')');
            }
        }
    }
    Ok(Rewritten { pattern: rewriter.out, groups: rewriter.groups })
}

impl Rewriter<'_> {
    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next();
        self.rest = characters.as_str();
        next
    }

    /// Opens a group under a name of ours.
    fn named(&mut self, name: &str) {
        self.out.push_str(&format!("(?P<{name}{}>", self.groups.len()));
        self.groups.push(true);
    }

    /// `(`, which has been read, with what it says about itself.
    fn group(&mut self) -> Result<(), PatternError> {
        let looks =
            [("?=", LOOK_AHEAD), ("?!", NO_LOOK_AHEAD), ("?<=", LOOK_BEHIND), ("?<!", NO_LOOK_BEHIND)];
        for (written, name) in looks {
            if let Some(rest) = self.rest.strip_prefix(written) {
                self.rest = rest;
                self.named(name);
                return Ok(());
            }
        }
        if self.rest.starts_with("?>") {
            return Err(PatternError::Unsupported(
                "`(?>` is not supported; write `(?:` where the two mean the same".to_owned(),
            ));
        }
        if ["?(", "?R", "?&", "?P=", "?P>", "?|"].iter().any(|special| self.rest.starts_with(special)) {
            let message = "conditions, recursion and references by name are not supported";
            return Err(PatternError::Unsupported(message.to_owned()));
        }
        if !self.rest.starts_with('?') || self.rest.starts_with("?P<") || self.rest.starts_with("?<") {
            self.groups.push(false);
        }
        self.out.push('(');
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.out.push('?');
            self.rest = rest;
        }
        Ok(())
    }

    /// What may follow `*`, `+`, `?` and `{n}`. A possessive repetition gives nothing back; if it is one of a single byte
    /// (written between `atom` and `end`) without bound, that is to say: such a byte does not follow.
    fn after_repetition(&mut self, atom: Option<usize>, end: usize) -> Result<(), PatternError> {
        if let Some(rest) = self.rest.strip_prefix('+') {
            let atom = atom.and_then(|start| self.out.get(start..end)).map(str::to_owned);
            let Some(atom) = atom else {
                let message = "possessive repetition is supported of single characters, without bound; \
                               leave the second `+` away where the two mean the same";
                return Err(PatternError::Unsupported(message.to_owned()));
            };
            self.rest = rest;
            self.named(NO_LOOK_AHEAD);
            self.out.push_str(&atom);
            self.out.push(')');
        }
        if let Some(rest) = self.rest.strip_prefix('?') {
            self.out.push('?');
            self.rest = rest;
        }
        Ok(())
    }

    /// `\\1` to `\\9` and `\\Z`, whose backslash has been read.
    fn assertion(&mut self) -> bool {
        let mut characters = self.rest.chars();
        let (first, second) = (characters.next(), characters.next());
        match first {
            Some('Z') => {
                self.named(LOOK_AHEAD);
                self.out.push_str("\\n?\\z)");
            }
            Some(digit @ '1'..='9') if !second.is_some_and(|next| next.is_ascii_digit()) => {
                self.named(&format!("{BACK_REFERENCE}{digit}_"));
                self.out.push_str("a)");
            }
            _ => return false,
        }
        self.rest = self.rest.get(1..).unwrap_or_default();
        true
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
            // By their numbers: as they are they could make an operator of what stands before them, as in `(?\>`.
            Some('<') => self.out.push_str("\\x3c"),
            Some('>') => self.out.push_str("\\x3e"),
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
    use super::{rewrite, rewrite_all};
    use proptest::prelude::*;

    #[test]
    fn differences() {
        for (pcre, rust) in [
            (r"[\x{e2}-\x{ff}]a\\x{41}\x{9}", r"[\xe2-\xff]a\\x{41}\x09"),
            (r"a{2}b{2,}c{2,3}", r"a{2}b{2,}c{2,3}"),
            (r"{a}{,2}{{.*?}}\s+{", r"\{a}\{,2}\{\{.*?}}\s+\{"),
            (r"\<script\>", r"\x3cscript\x3e"),
            // Found by a property: it became an atomic group.
            (r"(?\>", r"(?\x3e"),
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
        assert!(rewrite("(?=a)").is_err(), "look-around is for those who can do it");
    }

    #[test]
    fn look_around_and_references_become_groups() {
        let rewritten = rewrite_all(r"(a)(?!b\)(?i:(?<n>c)\b\1\b)[(]\(?)\Z").unwrap();
        assert_eq!(rewritten.pattern, r"(a)(?P<_na1>b\)(?i:(?<n>c)\b(?P<_br1_3>a)\b)[(]\(?)(?P<_la4>\n?\z)");
        assert_eq!(rewritten.groups, [false, true, false, true, true]);
        let rewritten = rewrite_all(r"\s*+[^a]++b{2,}+").unwrap();
        assert_eq!(rewritten.pattern, r"\s*(?P<_na0>\s)[^a]+(?P<_na1>[^a])b{2,}(?P<_na2>b)");
        for pattern in ["(?>a)", "(?:a)++", "a{2}+", "a?+b", "(?(1)a)", "(?R)"] {
            assert!(rewrite_all(pattern).is_err(), "{pattern}");
        }
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
