//! One exclusion, and how it is written.

use portcullis_waf::{ExclusionSettings, Program, RuleSelection};
use std::fmt::Write as _;

/// Where ids of an operator's own rules begin that are written here.
const FIRST_ID: u32 = 10_000;

/// Something that a rule shall leave alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Exclusion {
    pub(super) rule: u32,
    pub(super) message: String,
    /// `None`: the rule as a whole.
    pub(super) target: Option<Target>,
}

/// A variable, and which entries of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Target {
    collection: String,
    key: Option<String>,
}

impl Target {
    /// The target of a full name such as `&REQUEST_HEADERS:Host`, as reports and traces have it: escaped.
    pub(super) fn of(variable: &str) -> Self {
        let name = variable.trim_start_matches('&');
        let (collection, key) = match name.split_once(':') {
            Some((collection, key)) => (collection, Some(unescaped(key))),
            None => (name, None),
        };
        Self { collection: collection.to_owned(), key }
    }

    /// Whether it is of the rules' own making, so that to exclude it would be to switch their judgement off.
    pub(super) fn is_own(&self) -> bool {
        ["TX", "RULE", "IP", "GLOBAL", "SESSION", "RESOURCE", "USER", "ENV"]
            .contains(&self.collection.as_str())
            || self.collection.starts_with("MATCHED_VAR")
    }

    pub(super) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// As gateway.toml has it: places in JSON arrays become `*`, as the next request has its value at another.
    pub(super) fn glob(&self) -> String {
        let Some(key) = &self.key else { return self.collection.clone() };
        let segments: Vec<&str> =
            key.split('.').map(|segment| if is_place(key, segment) { "*" } else { segment }).collect();
        format!("{}:{}", self.collection, segments.join("."))
    }

    /// As SecLang has it: places in arrays by a regular expression.
    fn seclang(&self) -> String {
        let Some(key) = &self.key else { return self.collection.clone() };
        let has_place = key.split('.').any(|segment| is_place(key, segment));
        let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.[]".contains(&byte));
        if plain && !has_place {
            return format!("{}:{key}", self.collection);
        }
        let segments: Vec<String> = key
            .split('.')
            .map(|segment| if is_place(key, segment) { r"\d+".to_owned() } else { pattern(segment) })
            .collect();
        format!("{}:/^{}$/", self.collection, segments.join(r"\."))
    }
}

/// Whether a segment of a key is a place in a JSON array.
fn is_place(key: &str, segment: &str) -> bool {
    key.starts_with("json.") && !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit())
}

/// A key without the escapes of reports; bytes that are no text become `?`, which stands for any.
fn unescaped(key: &str) -> String {
    let mut out = String::new();
    let mut rest = key;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        rest = match after.strip_prefix('x') {
            Some(hex) => {
                out.push('?');
                hex.get(2..).unwrap_or_default()
            }
            None => {
                out.push('\\');
                after.strip_prefix('\\').unwrap_or(after)
            }
        };
    }
    out.push_str(rest);
    out
}

/// A text as a regular expression between slashes and within SecLang's quotes: all but letters and digits by number.
fn pattern(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => out.push(char::from(byte)),
            b'?' => out.push('.'),
            other => {
                let _ = write!(out, "\\x{other:02x}");
            }
        }
    }
    out
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => {
                out.push('\\');
                out.push(character);
            }
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

impl Exclusion {
    pub(super) fn settings(&self) -> ExclusionSettings {
        ExclusionSettings {
            rules: RuleSelection::Id(self.rule),
            target: self.target.as_ref().map(Target::glob),
        }
    }

    pub(super) fn toml(&self) -> String {
        let mut text = format!("[[route.firewall.exclusions]]\nrule = {}\n", self.rule);
        if let Some(target) = &self.target {
            let _ = writeln!(text, "target = {}", quoted(&target.glob()));
        }
        text
    }

    /// For all requests, behind the rule.
    pub(super) fn seclang(&self) -> String {
        match &self.target {
            Some(target) => format!("SecRuleUpdateTargetById {} \"!{}\"\n", self.rule, target.seclang()),
            None => format!("SecRuleRemoveById {}\n", self.rule),
        }
    }

    /// What no longer protects what.
    pub(super) fn given_up(&self) -> String {
        let message = if self.message.is_empty() { String::new() } else { format!(" ({})", self.message) };
        match &self.target {
            Some(target) => format!("rule {}{message} no longer looks at {}", self.rule, target.glob()),
            None => format!("rule {}{message} no longer runs", self.rule),
        }
    }
}

/// One rule for all exclusions, for one path, to stand before the rules.
pub(super) fn seclang_for_path(exclusions: &[Exclusion], path: &str, program: &Program) -> String {
    let used: Vec<u32> = program.rules().map(|rule| rule.id).collect();
    let id = (FIRST_ID..).find(|id| !used.contains(id)).unwrap_or(FIRST_ID);
    let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\%".contains(&byte));
    let question = if plain { format!("@streq {path}") } else { format!("@rx ^{}$", pattern(path)) };
    let mut text =
        format!("SecRule REQUEST_FILENAME \"{question}\" \\\n    \"id:{id},phase:1,pass,t:none,nolog");
    for exclusion in exclusions {
        let _ = match &exclusion.target {
            Some(target) => {
                write!(text, ",\\\n    ctl:ruleRemoveTargetById={};{}", exclusion.rule, target.seclang())
            }
            None => write!(text, ",\\\n    ctl:ruleRemoveById={}", exclusion.rule),
        };
    }
    text.push_str("\"\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variable: &str) -> (String, String) {
        let target = Target::of(variable);
        (target.glob(), target.seclang())
    }

    #[test]
    fn targets_are_written_for_both() {
        let same = |name: &str| (name.to_owned(), name.to_owned());
        assert_eq!(of("ARGS:comment"), same("ARGS:comment"));
        assert_eq!(of("&REQUEST_HEADERS:User-Agent"), same("REQUEST_HEADERS:User-Agent"));
        assert_eq!(of("REQUEST_BODY"), same("REQUEST_BODY"));
        let array = ("ARGS:json.items.*.note".to_owned(), r"ARGS:/^json\.items\.\d+\.note$/".to_owned());
        assert_eq!(of("ARGS:json.items.12.note"), array);
        assert_eq!(of("ARGS:page.2"), same("ARGS:page.2"));
        assert_eq!(of(r"ARGS:a\xffb"), ("ARGS:a?b".to_owned(), "ARGS:/^a.b$/".to_owned()));
        assert_eq!(of("ARGS:a b'\"").1, r"ARGS:/^a\x20b\x27\x22$/");
        assert_eq!(quoted("a\"\\\n"), r#""a\"\\\u000A""#);
        assert!(Target::of("TX:blocking_inbound_anomaly_score").is_own());
        assert!(Target::of("MATCHED_VARS:ARGS:x").is_own() && !Target::of("REQUEST_METHOD").is_own());
    }
}
