//! The argument of `@rsub`: `s/PATTERN/REPLACEMENT/`, with flags behind it.
//!
//! Nothing is replaced here; what the operator says of a value is whether its pattern matches.

use std::ops::Range;

/// What is said of every argument of another form.
const FORM: &str = "`@rsub` wants `s/PATTERN/REPLACEMENT/`, with `i` or `d` behind it where wanted";

/// The parts of the argument that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rsub<'a> {
    /// The pattern as written. A delimiter in it keeps its backslash, which patterns take for the character itself.
    pub(crate) pattern: &'a str,
    /// Where in the argument it stands.
    pub(crate) range: Range<usize>,
    /// Flag `i`.
    pub(crate) case_insensitive: bool,
    /// Flag `d`: a pattern with macros is, once they are expanded, text to be found as it is. Without macros it means
    /// nothing, as in mod_security2.
    pub(crate) verbatim: bool,
}

/// An argument of another form: where, why, and what may have been meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RsubError {
    pub(crate) range: Range<usize>,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

impl RsubError {
    fn new(range: Range<usize>, message: impl Into<String>) -> Self {
        Self { range, message: message.into(), suggestion: None }
    }
}

/// Takes the argument apart. The delimiter is whatever stands behind `s`; a backslash takes its meaning away.
pub(crate) fn parse(argument: &str) -> Result<Rsub<'_>, RsubError> {
    let length = argument.len();
    let mut head = argument.chars();
    let (Some('s' | 'S'), Some(delimiter)) = (head.next(), head.next()) else {
        return Err(RsubError::new(0..length, FORM));
    };
    if !delimiter.is_ascii_punctuation() || delimiter == '\\' {
        return Err(RsubError::new(1..1 + delimiter.len_utf8(), FORM));
    }
    let unclosed = |part: &str, start: usize, missing: &str| RsubError {
        range: start..length,
        message: format!("the {part} of `@rsub` does not end: `{delimiter}` must follow it"),
        suggestion: Some(format!("{argument}{missing}")),
    };
    let both = format!("{delimiter}{delimiter}");
    let (pattern, replacement) = part(argument, 2, delimiter).ok_or_else(|| unclosed("pattern", 2, &both))?;
    let (_, flags) = part(argument, replacement, delimiter)
        .ok_or_else(|| unclosed("replacement", replacement, &delimiter.to_string()))?;
    if pattern.is_empty() {
        return Err(RsubError::new(0..length, "the pattern of `@rsub` is empty"));
    }
    let (mut case_insensitive, mut verbatim) = (false, false);
    for (at, flag) in argument.get(flags..).unwrap_or_default().char_indices() {
        match flag {
            'i' | 'I' => case_insensitive = true,
            'd' | 'D' => verbatim = true,
            _ => {
                let place = flags + at..flags + at + flag.len_utf8();
                let message =
                    format!("`{}` is no flag of `@rsub`: there are `i` and `d`", flag.escape_default());
                return Err(RsubError::new(place, message));
            }
        }
    }
    Ok(Rsub { pattern, range: 2..2 + pattern.len(), case_insensitive, verbatim })
}

/// The text from `start` to the next delimiter, and where the text behind that begins.
fn part(argument: &str, start: usize, delimiter: char) -> Option<(&str, usize)> {
    let rest = argument.get(start..)?;
    let mut escaped = false;
    let end = rest.find(|c: char| {
        let found = c == delimiter && !escaped;
        escaped = c == '\\' && !escaped;
        found
    })?;
    Some((rest.get(..end)?, start + end + delimiter.len_utf8()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        for (argument, pattern, case_insensitive, verbatim) in [
            ("s/foo/bar/", "foo", false, false),
            ("s/foo//", "foo", false, false),
            ("S/foo/bar/id", "foo", true, true),
            ("s/foo/bar/DI", "foo", true, true),
            (r"s/<\/form>/<b>\1<\/form>/", r"<\/form>", false, false),
            (r"s/a\\/b/", r"a\\", false, false),
            ("s#/etc/#/x/#i", "/etc/", true, false),
            ("s/é/è/", "é", false, false),
        ] {
            let rsub = parse(argument).unwrap();
            assert_eq!(
                (rsub.pattern, rsub.case_insensitive, rsub.verbatim),
                (pattern, case_insensitive, verbatim),
                "{argument}"
            );
            assert_eq!(&argument[rsub.range], pattern);
        }
    }

    #[test]
    fn mistakes() {
        for (argument, range, suggestion) in [
            ("", 0..0, None),
            ("s", 0..1, None),
            ("foo/bar/", 0..8, None),
            ("saxaya", 1..2, None),
            ("s\\a\\b\\", 1..2, None),
            ("s€a€b€", 1..4, None),
            ("s/foo", 2..5, Some("s/foo//")),
            ("s/foo/bar", 6..9, Some("s/foo/bar/")),
            (r"s/foo/bar\/", 6..11, Some(r"s/foo/bar\//")),
            ("s//bar/", 0..7, None),
            ("s/foo/bar/ig", 11..12, None),
        ] {
            let error = parse(argument).unwrap_err();
            assert_eq!((error.range, error.suggestion.as_deref()), (range, suggestion), "{argument}");
        }
    }
}
