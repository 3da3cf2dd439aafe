//! `${NAME}` in string values.

use std::ops::Range;

/// Looks up an environment variable; `None` when it is not set. Tests give a closure, the binary
/// [`process_env`].
pub trait Env {
    /// The variable's value.
    fn var(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Env for F {
    fn var(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// The process's own environment. A variable that is not UTF-8 counts as not set.
#[must_use]
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A string after replacement, and where its parts came from.
pub(crate) struct Expanded {
    /// The text with references replaced.
    pub(crate) text: String,
    /// Whether part of the text stood in the file: literal bytes or a `:-` default.
    pub(crate) has_own_text: bool,
}

/// A reference that cannot be replaced.
pub(crate) struct EnvError {
    /// Bytes of the string value it takes.
    pub(crate) range: Range<usize>,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do.
    pub(crate) help: String,
}

/// Replaces `${NAME}` and `${NAME:-default}`; `$${` becomes `${`. All bad references are reported.
pub(crate) fn expand(value: &str, env: &dyn Env) -> Result<Expanded, Vec<EnvError>> {
    let mut out = Expanded { text: String::with_capacity(value.len()), has_own_text: false };
    let mut errors = Vec::new();
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
        let start = value.len() - from.len();
        let after = from.strip_prefix("${").unwrap_or_default();
        if let Some(before) = before.strip_suffix('$') {
            out.push_own(before);
            out.push_own("${");
            rest = after;
            continue;
        }
        out.push_own(before);
        let Some((inner, tail)) = after.split_once('}') else {
            errors.push(EnvError {
                range: start..value.len(),
                message: "`${` has no closing brace".to_owned(),
                help: "write `${NAME}`, or `$${` for the characters themselves".to_owned(),
            });
            rest = "";
            break;
        };
        match resolve(inner, env) {
            Ok((text, is_default)) => {
                out.text.push_str(&text);
                out.has_own_text |= is_default;
            }
            Err((message, help)) => {
                errors.push(EnvError { range: start..value.len() - tail.len(), message, help });
            }
        }
        rest = tail;
    }
    out.push_own(rest);
    if errors.is_empty() { Ok(out) } else { Err(errors) }
}

impl Expanded {
    fn push_own(&mut self, text: &str) {
        self.has_own_text |= !text.is_empty();
        self.text.push_str(text);
    }
}

fn resolve(inner: &str, env: &dyn Env) -> Result<(String, bool), (String, String)> {
    let (name, default) =
        inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_name {
        let help = "a name has letters, digits and `_`; write `$${` for the characters themselves".to_owned();
        return Err((format!("`{name}` is not a name of an environment variable"), help));
    }
    match (env.var(name), default) {
        // As in the shell, `:-` also covers a variable that is set to nothing.
        (Some(text), Some(_)) if !text.is_empty() => Ok((text, false)),
        (_, Some(default)) => Ok((default.to_owned(), true)),
        (Some(text), None) => Ok((text, false)),
        (None, None) => Err((
            format!("the environment variable `{name}` is not set"),
            format!("set it, or write `${{{name}:-text}}` for a text that stands in"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            // Values are not expanded again, or an environment could pull in others.
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced() {
        for (value, text, own) in [
            ("", "", false),
            ("plain", "plain", true),
            ("${A}", "one", false),
            ("x${A}${A}y", "xoneoney", true),
            ("${EMPTY}", "", false),
            ("${EMPTY:-z}", "z", true),
            ("${B:-a:-b}", "a:-b", true),
            ("${A:-z}", "one", false),
            ("$${A}", "${A}", true),
            ("$A $ {A}", "$A $ {A}", true),
            ("${NESTED}", "${A}", false),
        ] {
            let Ok(expanded) = expand(value, &env) else { panic!("{value}") };
            assert_eq!((expanded.text.as_str(), expanded.has_own_text), (text, own), "{value}");
        }
    }

    #[test]
    fn bad_references_are_all_reported() {
        let Err(errors) = expand("a${B}b${}c${A b}d${A", &env) else { panic!("accepted") };
        let ranges: Vec<_> = errors.into_iter().map(|error| error.range).collect();
        assert_eq!(ranges, [1..5, 6..9, 10..16, 17..20]);
    }

    proptest! {
        #[test]
        fn any_text_is_replaced_or_refused(text in "[${}A:é-]{0,16}") {
            drop(expand(&text, &env));
        }
    }
}
