//! The table of what leaks look like, cards aside.
//!
//! Each entry is found by its anchors, literal texts it starts with, and then decided by a regular expression
//! that is matched from the anchor on, as long as it can be. No expression is unbounded: a decision is never
//! further away than [`MAX_HELD`](super::MAX_HELD) bytes. What may follow without bound (the rest of a token, the
//! lines of a key) is masked as it comes, by `then`.

use super::Kind;

/// One thing that must not leave.
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) anchors: &'static [&'static str],
    pub(super) regex: &'static str,
    pub(super) before: Before,
    pub(super) after: After,
    pub(super) masked: Masked,
    pub(super) then: Then,
}

/// What may not stand right before the anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Anything,
    /// Not a letter, digit or `_`.
    NoWord,
    /// Nor `.`, `-` or `:` after one: not the tail of a longer number or address.
    NoAddress,
}

/// What may not stand right after the match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Anything,
    /// Not a letter, digit, `_` or `-`.
    NoWord,
    /// Not a letter, digit or `_`, nor `.` or `:` and then one.
    NoAddress,
}

/// Which bytes of the match are masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Masked {
    Whole,
    Last(usize),
}

/// What else is masked after the match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// Letters, digits, `_`, `-` and `.`: the rest of a token.
    Token,
    /// The lines of a PEM block and its end.
    Pem,
}

const fn token(anchors: &'static [&'static str], regex: &'static str) -> Entry {
    Entry {
        kind: Kind::Secret,
        anchors,
        regex,
        before: Before::NoWord,
        after: After::Anything,
        masked: Masked::Whole,
        then: Then::Token,
    }
}

const fn fixed(anchors: &'static [&'static str], regex: &'static str) -> Entry {
    Entry { after: After::NoWord, then: Then::Nothing, ..token(anchors, regex) }
}

const fn address(anchors: &'static [&'static str], regex: &'static str) -> Entry {
    Entry {
        kind: Kind::InternalAddress,
        before: Before::NoAddress,
        after: After::NoAddress,
        then: Then::Nothing,
        ..token(anchors, regex)
    }
}

const fn trace(anchors: &'static [&'static str], regex: &'static str) -> Entry {
    Entry { kind: Kind::StackTrace, before: Before::Anything, then: Then::Nothing, ..token(anchors, regex) }
}

/// How the line of a frame begins in Java, Node and .NET, plain or within a JSON string.
const FRAME: &[&str] = &["\tat ", r"\tat ", "  at "];

/// The names by which internal hosts end; found by look-back, see the masker.
pub(super) const INTERNAL_SUFFIXES: [&str; 2] = [".internal", ".local"];

pub(super) const TABLE: &[Entry] = &[
    Entry {
        then: Then::Pem,
        before: Before::Anything,
        ..token(&["-----BEGIN "], r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
    },
    fixed(&["AKIA", "ASIA"], r"A[KS]IA[0-9A-Z]{16}"),
    Entry {
        masked: Masked::Last(40),
        before: Before::Anything,
        ..fixed(
            &["aws_secret_access_key", "AWS_SECRET_ACCESS_KEY", "SecretAccessKey", "secretAccessKey"],
            r#"[A-Za-z_]{15,21}["'\\ :=>]{1,8}[A-Za-z0-9/+]{40}"#,
        )
    },
    token(&["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], r"gh[pousr]_[A-Za-z0-9]{36}"),
    token(&["github_pat_"], r"github_pat_[A-Za-z0-9_]{22}"),
    token(&["glpat-"], r"glpat-[A-Za-z0-9_-]{20}"),
    token(&["xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-"], r"xox[a-z]-[0-9A-Za-z-]{10}"),
    token(
        &["hooks.slack.com/"],
        r"hooks\.slack\.com/services/[A-Za-z0-9]{8,12}/[A-Za-z0-9]{8,12}/[A-Za-z0-9]{20}",
    ),
    fixed(&["AIza"], r"AIza[0-9A-Za-z_-]{35}"),
    fixed(&["GOCSPX-"], r"GOCSPX-[A-Za-z0-9_-]{28}"),
    token(&["sk_live_", "rk_live_"], r"[sr]k_live_[0-9A-Za-z]{16}"),
    token(&["npm_"], r"npm_[A-Za-z0-9]{36}"),
    fixed(&["SG."], r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    token(&["sk-ant-", "sk-proj-"], r"sk-(?:ant|proj)-[A-Za-z0-9_-]{20}"),
    // Header and payload both begin with `{"`, in base64url `eyJ`.
    Entry { kind: Kind::WebToken, ..token(&["eyJ"], r"eyJ[A-Za-z0-9_-]{8,1024}\.eyJ[A-Za-z0-9_-]{8}") },
    // RFC 1918.
    address(&["10."], r"10(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}"),
    address(&["192.168."], r"192\.168(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){2}"),
    address(&["172."], r"172\.(?:1[6-9]|2[0-9]|3[01])(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){2}"),
    // Link-local: RFC 3927 and RFC 4291 §2.5.6, and unique local addresses: RFC 4193.
    address(&["169.254."], r"169\.254(?:\.(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){2}"),
    address(&["fe80:", "FE80:"], r"(?i:fe80(?::[0-9a-f]{0,4}){2,7})"),
    address(&["fc", "fd", "FC", "FD"], r"(?i:f[cd][0-9a-f]{2}(?::[0-9a-f]{0,4}){2,7})"),
    // Java and its kin: `at a.b.C.d(File.java:12)`.
    trace(
        FRAME,
        r"(?:\t|\\t|  )at [\w$.<>/@-]{1,200}\((?:[\w$-]{1,80}\.(?:java|kt|scala|groovy|clj)(?::[0-9]{1,7})?|Native Method|Unknown Source)\)",
    ),
    // Node: `at f (/a/b.js:1:2)`, `at file:///a/b.mjs:1:2`.
    trace(
        FRAME,
        r#"(?:\t|\\t|  )at (?:[\w$.<>\[\] ]{1,120} \()?(?:(?:file|node|webpack)(?::/{0,3})|[A-Za-z]:[\\/]|/)[^()\s":]{1,240}:[0-9]{1,7}(?::[0-9]{1,7})?\)?"#,
    ),
    // .NET: `at A.B.C(String d) in E:\f.cs:line 12`.
    trace(
        FRAME,
        r#"(?:\t|\\t|  )at [\w`<>\[\],+]{1,60}(?:\.[\w`<>\[\],+]{1,60}){1,9}\([\w`<>\[\],.& ]{0,200}\)(?: in (?:[A-Za-z]:)?[^\s":]{1,200}:line [0-9]{1,7})?"#,
    ),
    trace(&["Traceback (most "], r"Traceback \(most recent call last\)"),
    trace(
        &["File \"", r#"File \""#],
        r#"File \\?"[^"\r\n]{1,200}", line [0-9]{1,7}(?:, in [A-Za-z0-9_<>.]{1,100})?"#,
    ),
    trace(&["goroutine "], r"goroutine [0-9]{1,10} \[[a-z0-9 ,()]{1,60}\]:"),
    trace(
        &["\t/", r"\t/", r"\t\/"],
        r#"(?:\t|\\t)\\?/[^\s":]{1,240}\.(?:go|rs):[0-9]{1,7}(?::[0-9]{1,7})?(?: \+0x[0-9a-f]{1,8})?"#,
    ),
    trace(
        &["#0 ", "#1 ", "#2 ", "#3 ", "#4 ", "#5 ", "#6 ", "#7 ", "#8 ", "#9 "],
        r#"#[0-9] [^\s":(]{1,240}\.php\([0-9]{1,7}\)"#,
    ),
    trace(&["Fatal error: "], r"Fatal error: {1,2}Uncaught [A-Za-z_\\]{1,80}"),
    trace(
        &[" in /", r" in \/", " in <b>/"],
        r#" in (?:<b>)?\\?/[^\s":<]{1,240}\.php(?:</b>)?(?: on line (?:<b>)?|:)[0-9]{1,7}"#,
    ),
    trace(
        &["thread '"],
        r#"thread '[^'\r\n"\\]{1,80}' (?:\([0-9]{1,20}\) )?panicked at(?: [^\s":]{1,200}:[0-9]{1,7}:[0-9]{1,7})?"#,
    ),
];
