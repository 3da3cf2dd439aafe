//! The reference page of the language, from the tables that the engine itself reads.

use std::fmt::Write as _;

use crate::settings::DirectiveEffect;
use crate::validate::{ACTIONS, ActionKind};
use crate::variable::Shape;
use crate::{operator, settings, transform, variable};

/// A point on which engines disagree, and what this one does.
#[derive(Debug)]
pub struct Divergence {
    /// What they disagree on.
    pub topic: &'static str,
    /// mod_security2.
    pub v2: &'static str,
    /// libmodsecurity 3.
    pub v3: &'static str,
    /// Coraza.
    pub coraza: &'static str,
    /// This engine.
    pub ours: &'static str,
    /// The test that shows it: file below `crates/waf/tests`, and function.
    pub test: (&'static str, &'static str),
}

macro_rules! divergences {
    ($($topic:literal $v2:literal $v3:literal $coraza:literal $ours:literal $file:literal $test:ident;)*) => {
        /// Every point on which engines disagree and rules may notice.
        pub const DIVERGENCES: &[Divergence] = &[$(Divergence {
            topic: $topic,
            v2: $v2,
            v3: $v3,
            coraza: $coraza,
            ours: $ours,
            test: ($file, stringify!($test)),
        }),*];
    };
}

divergences! {
    "`^` and `$` at the line ends inside a value, `$` before its last line feed" "no" "yes"
        "yes, without with a build tag" "no"
        "seclang_reference.rs" patterns_see_the_value_not_its_lines;
    "`REQUEST_BODY` of a JSON, XML or multipart body" "empty unless forced" "set" "empty unless forced"
        "empty unless forced, or the body is broken" "engine/variables.rs" bodies;
    "`ARGS` of a JSON array" "–" "`json.a.array_0`" "`json.a.0`, and `json.a` with its length"
        "`json.a.0`, and `json.a` without a value" "engine/variables.rs" bodies;
    "a JSON key that is there twice" "both values" "both values" "the last value" "both values"
        "engine/variables.rs" bodies;
    "a macro of what is not there" "empty" "empty" "the macro's text" "empty"
        "engine/semantics.rs" variables_of_the_transaction;
    "`t:base64Decode` of what is no Base64" "what precedes it" "empty" "what precedes it" "what precedes it"
        "seclang_reference.rs" base64_keeps_what_precedes_a_wrong_byte;
    "status of a body over the limit" "413" "403" "413" "413" "engine/variables.rs" limits;
    "urlencoded body with a `charset`" "read" "read" "not recognized" "read" "engine/variables.rs" bodies;
    "order of fields and arguments" "as sent" "as sent" "random" "as sent"
        "engine/variables.rs" request_line_and_fields;
    "`ctl:ruleRemoveTarget…` with a pattern for the key" "in part" "no" "yes" "yes"
        "engine/semantics.rs" run_time_control;
    "a removed target in chained rules" "removed" "stays" "removed" "removed"
        "engine/semantics.rs" run_time_control;
    "query arguments of a target that cannot be parsed" "kept" "kept" "dropped" "kept"
        "seclang_reference.rs" a_broken_path_hides_no_arguments;
    "look-around and back-references in patterns" "by backtracking" "by backtracking" "refused"
        "look-around in linear time, back-references to whole words only" "seclang_reference.rs" patterns_look_around;
    "possessive and atomic groups in patterns" "by backtracking" "by backtracking" "refused"
        "possessive repetition of single characters" "seclang_reference.rs" patterns_look_around;
    "`@rbl`" "asks DNS" "asks DNS" "asks DNS" "never matches, with a warning"
        "engine/diagnostics.rs" what_is_taken_without_effect_is_said;
    "`@rsub`" "replaces, in `STREAM_INPUT_BODY` and `STREAM_OUTPUT_BODY` only" "matches every value" "error"
        "matches where its pattern does and replaces nothing, with a warning" "semantics/operators.rs" substitutions;
    "macros in a tag" "expanded" "expanded, also to choose rules by" "not expanded"
        "expanded in reports; rules are chosen by the tag as written" "semantics/logging.rs" tags;
    "`ctl:requestBodyLimit`" "set" "error" "set" "set" "engine/variables.rs" limits;
    "databases of `@geoLookup`" "`.dat`" "`.dat`, `.mmdb`" "none without a plugin" "`.mmdb`" "engine/geo.rs" places;
    "captures of `@rxGlobal`" "–" "of the last match" "–" "of the first match"
        "seclang_reference.rs" global_patterns_capture_the_first_match;
    "a quote in an action list that is not closed" "error" "error" "ends with the list"
        "error, unless no comma follows it" "rule_sets.rs" corazas_way_of_writing;
    "`MATCHED_VARS` that earlier rules matched" "no" "in 3.0.9, until a rule does not match" "no" "no"
        "semantics/chains.rs" what_the_starter_matched;
    "`xmlns` among the attributes of `XML://@*`" "no, as in XPath" "no, as in XPath" "yes"
        "yes: extension functions of XSLT are named there" "semantics/bodies.rs" xml_namespaces;
    "a document type in an XML body" "read" "read" "skipped" "`REQBODY_ERROR`" "semantics/bodies.rs" xml;
    "line ends within a field of a multipart body" "kept" "lost (3.0.9)" "kept" "kept" "semantics/bodies.rs" multipart;
    "a multipart or XML body that is not there" "–" "`MULTIPART_STRICT_ERROR` or `REQBODY_ERROR`" "no body" "no body"
        "semantics/bodies.rs" multipart_flags;
    "`REQUEST_FILENAME` of a target without a path, such as `http://host`" "–" "the target" "–" "`/`"
        "semantics/variables.rs" the_target_and_its_parts;
    "percent-encoding in `REQUEST_URI`" "as sent" "decoded" "encoded anew" "as sent"
        "semantics/variables.rs" the_target_and_its_parts;
    "`%uHHHH` beyond ASCII in `t:urlDecodeUni`" "by `SecUnicodeMapFile`, else its low byte"
        "by `SecUnicodeMapFile`, else its low byte" "by a map of its own" "by that map of 20127, which is built in"
        "semantics/transformations.rs" percent_encoding;
    "a phrase of `@pm` within another that breaks off" "–" "missed (3.0.9)" "found" "found"
        "semantics/operators.rs" phrases;
    "a chain of which only the first link matches" "silent" "may be logged" "silent" "silent"
        "semantics/chains.rs" effects_of_links;
    "body without files over `SecRequestBodyNoFilesLimit`" "413" "`REQBODY_ERROR`" "no limit" "`REQBODY_ERROR`"
        "rule_sets.rs" modsecuritys_recommended_configuration;
}

/// The reference page `docs/seclang.md`.
///
/// ```
/// let page = portcullis_waf::reference();
/// assert!(page.contains("| `@detectSQLi` |"));
/// ```
#[must_use]
pub fn reference() -> String {
    let mut page = String::from(
        "# SecLang\n\n\
         The rule language as the firewall takes it. Generated from the tables of `crates/waf`;\n\
         `UPDATE=1 cargo test -p portcullis-waf --test seclang_reference` writes it anew.\n\n\
         Names are compared without regard to case. What is not on this page is an error with file, line, column\n\
         and a suggestion. What is *taken without effect* is a warning, so that files written for other engines load;\n\
         what is *refused* is an error that gives the reason below; with `allow_unsupported`, the rule that wants it is\n\
         left out with its whole chain, and a warning says so.\n\n\
         [Directives](#directives) · [Variables](#variables) · [Transformations](#transformations) ·\n\
         [Operators](#operators) · [Actions](#actions) · [Patterns](#patterns) · [Divergences](#divergences)\n",
    );
    directives(&mut page);
    variables(&mut page);
    transformations(&mut page);
    operators(&mut page);
    actions(&mut page);
    patterns(&mut page);
    divergences(&mut page);
    page
}

/// A row of a table; bars within a cell would end it.
fn row(page: &mut String, cells: &[&str]) {
    for cell in cells {
        let _ = write!(page, "| {} ", cell.replace('|', "\\|"));
    }
    page.push_str("|\n");
}

fn table(page: &mut String, heads: &[&str]) {
    page.push('\n');
    row(page, heads);
    page.push_str(&"|---".repeat(heads.len()));
    page.push_str("|\n");
}

fn names(prefix: &str, names: &[&str]) -> String {
    names.iter().map(|name| format!("`{prefix}{name}`")).collect::<Vec<_>>().join(", ")
}

fn directives(page: &mut String) {
    let rules = names("", portcullis_seclang::DIRECTIVES);
    let _ = write!(page, "\n## Directives\n\nRules and what is about rules: {rules}.\n\nSettings:\n");
    table(page, &["directive", "meaning", "effect"]);
    for info in settings::TABLE {
        let effect = match info.effect {
            DirectiveEffect::Accepted(instead) => format!("taken without effect: {instead}"),
            DirectiveEffect::Unsupported(reason) => format!("refused: {reason}"),
            _ => "set".to_owned(),
        };
        row(page, &[&names("", &[info.name]), info.doc, &effect]);
    }
}

fn variables(page: &mut String) {
    page.push_str(
        "\n## Variables\n\n\
         A collection is looked into by key, `ARGS:name`, or by pattern, `ARGS:/^name/`; `&` counts, `!` leaves out.\n",
    );
    table(page, &["variable", "kind", "meaning"]);
    for info in variable::TABLE {
        let kind = match info.shape {
            Shape::Scalar => "value".to_owned(),
            Shape::Collection => "collection".to_owned(),
            Shape::Planned(reason) => format!("refused: {reason}"),
        };
        row(page, &[&names("", &[info.name]), &kind, info.doc]);
    }
}

fn transformations(page: &mut String) {
    page.push_str(
        "\n## Transformations\n\nThey apply in the order written; `t:none` forgets those before it.\n",
    );
    table(page, &["transformation", "also written", "meaning"]);
    for info in transform::TABLE {
        row(page, &[&names("t:", &[info.name]), &names("t:", info.aliases), info.doc]);
    }
}

fn operators(page: &mut String) {
    page.push_str(
        "\n## Operators\n\n`!` before the `@` turns an operator round. Without one, `@rx` is meant.\n",
    );
    table(page, &["operator", "also written", "meaning"]);
    for info in operator::TABLE {
        let meaning = match info.kind {
            operator::OperatorKind::Accepted(reason) => format!("taken, never matches: {reason}"),
            operator::OperatorKind::Unsupported(reason) => format!("refused: {reason}"),
            _ => info.doc.to_owned(),
        };
        row(page, &[&names("@", &[info.name]), &names("@", info.aliases), &meaning]);
    }
}

fn actions(page: &mut String) {
    page.push_str("\n## Actions\n");
    let supported = [
        ("What the rule is", ActionKind::Meta),
        ("What becomes of the transaction", ActionKind::Disruptive),
        ("How values are read, and which rule comes next", ActionKind::Flow),
        ("What is changed", ActionKind::Effect),
        ("What is reported", ActionKind::Logging),
    ];
    for (title, kind) in supported {
        let _ = write!(page, "\n### {title}\n");
        table(page, &["action", "meaning"]);
        for info in ACTIONS.iter().filter(|info| info.kind == kind) {
            row(page, &[&names("", &[info.name]), info.doc]);
        }
    }
    page.push_str("\n### What has no effect or is refused\n");
    table(page, &["action", "what becomes of it"]);
    for info in ACTIONS {
        let fate = match info.kind {
            ActionKind::Accepted(reason) => format!("taken without effect: {reason}"),
            ActionKind::Unsupported(reason) => format!("refused: {reason}"),
            _ => continue,
        };
        row(page, &[&names("", &[info.name]), &fate]);
    }
}

fn patterns(page: &mut String) {
    page.push_str(
        "\n## Patterns\n\n\
         Patterns are PCRE's, over bytes: `.` matches newlines, `^` and `$` are the value's ends, `\\w`, `\\d`, `\\s` and\n\
         letters without regard to case are ASCII, `\\x{HH}` is a byte. Each runs in time linear in the value's length,\n\
         whatever the value. Look-ahead and look-behind (of any length) are matched so as well, and possessive repetition\n\
         of a single character. A back-reference must be to a whole word, `\\b(\\w+)\\b`, and be one, `\\b\\1\\b` or\n\
         `(?!\\b\\1\\b)`, and what is repeated without bound must hold bytes of words only, or none. Other\n\
         back-references, atomic groups, conditions and recursion are refused. In selectors (`ARGS:/^a/`) there is no\n\
         look-around.\n",
    );
}

fn divergences(page: &mut String) {
    page.push_str(
        "\n## Divergences\n\nWhere engines disagree, what this one does, and the test below `crates/waf/tests` that shows it.\n\n\
         `CRS_EVERY=1 cargo test -p portcullis-waf --test crs -- --ignored --nocapture libmodsecurity`, with\n\
         libmodsecurity 3.0.9 installed, asks both engines about ordinary requests and CRS's own attacks at paranoia\n\
         level 4 and compares status, score and rules. A difference that is none of these is a failure.\n",
    );
    table(page, &["topic", "mod_security2", "libmodsecurity 3", "Coraza", "here", "test"]);
    for point in DIVERGENCES {
        let (file, function) = point.test;
        let test = format!("`{file}`: `{function}`");
        row(page, &[point.topic, point.v2, point.v3, point.coraza, point.ours, &test]);
    }
}
