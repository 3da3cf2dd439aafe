//! Rules, what they read and what they find.

use crate::{first_line, pieces};
use portcullis_diag::SourceMap;
use portcullis_ftw::Request;
use portcullis_seclang::{Directive, DirectiveKind, Disk};
use portcullis_waf::operator::{OperatorKind, rewrite_pattern};
use portcullis_waf::transform::{self, Changed, Transform};
use portcullis_waf::{
    ByteSet, DataFiles, ExclusionSettings, FileSystem, Interruption, Overlay, OverlayError, OverlaySettings,
    Parsers, Program, Report, RuleSelection, SNIPPET, Transaction,
};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

/// A program whose data files all hold the same few lines.
struct NoFiles;

impl DataFiles for NoFiles {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(b"# phrases\nselect\nunion\n192.0.2.0/24\n".to_vec())
    }
}

/// A program, and the wishes of a route that has none.
struct Engine {
    program: Arc<Program>,
    overlay: Arc<Overlay>,
}

impl Engine {
    fn build(directives: &[Directive], sources: &SourceMap, files: &dyn DataFiles) -> Option<Self> {
        let program = Arc::new(portcullis_waf::build(directives, sources, files).ok()?.0);
        let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
        Some(Engine { program, overlay })
    }

    fn of(text: &str) -> Self {
        let (sources, parsed) = crate::seclang::parsed(text.as_bytes());
        assert_eq!(parsed.diagnostics.to_text(&sources), "");
        Engine::build(&parsed.directives, &sources, &NoFiles).expect("the target's own rules")
    }

    /// Everything the rules say of a request, its body in these pieces, and of an answer.
    fn judge(&self, request: &Request, body: &[&[u8]], answer: &[u8]) -> (Report, Option<Interruption>) {
        let mut transaction = Transaction::new(Arc::clone(&self.program), Arc::clone(&self.overlay), "fuzz");
        transaction.connection("192.0.2.7".parse().unwrap(), 40000, "192.0.2.1".parse().unwrap(), 443);
        transaction.request_line(&request.method, &request.target, &request.version);
        for (name, value) in &request.fields {
            transaction.request_header(name, value);
        }
        let verdict = judge_rest(&mut transaction, body, answer);
        let report = transaction.finish();
        for found in &report.matches {
            assert!(found.snippet.is_ascii() && found.snippet.len() <= SNIPPET, "{}", found.snippet);
            assert!(found.logdata.is_ascii() && found.logdata.len() <= SNIPPET, "{}", found.logdata);
        }
        (report, verdict)
    }

    /// The rules that fire on a request with one header field.
    fn fired(&self, value: &[u8]) -> Vec<u32> {
        let fields = vec![(b"v".to_vec(), value.to_vec())];
        let (report, _) = self.judge(&Request { fields, ..get() }, &[], b"");
        let mut ids: Vec<u32> = report.matches.iter().map(|found| found.rule_id).collect();
        ids.dedup();
        ids
    }
}

fn judge_rest(transaction: &mut Transaction, body: &[&[u8]], answer: &[u8]) -> Option<Interruption> {
    if let Some(verdict) = transaction.check_request_headers() {
        return Some(verdict);
    }
    for piece in body {
        if let Some(verdict) = transaction.write_request_body(piece) {
            return Some(verdict);
        }
    }
    if let Some(verdict) = transaction.check_request_body() {
        return Some(verdict);
    }
    transaction.response_status(200);
    transaction.response_header(b"Content-Type", b"text/html");
    if let Some(verdict) = transaction.check_response_headers() {
        return Some(verdict);
    }
    if let Some(verdict) = transaction.write_response_body(answer) {
        return Some(verdict);
    }
    transaction.check_response_body()
}

fn get() -> Request {
    Request {
        method: b"GET".to_vec(),
        target: b"/?a=1".to_vec(),
        version: b"HTTP/1.1".to_vec(),
        ..Request::default()
    }
}

/// A rule file of any bytes compiles or is refused; what compiles can be shown and judges any request.
pub fn compile(data: &[u8]) {
    let (sources, parsed) = crate::seclang::parsed(data);
    if parsed.diagnostics.has_errors() {
        return;
    }
    match portcullis_waf::build(&parsed.directives, &sources, &NoFiles) {
        Err(found) => assert!(found.has_errors() && !found.to_text(&sources).is_empty()),
        Ok((program, _)) => {
            assert!(!program.dump().is_empty());
            let program = Arc::new(program);
            let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
            let engine = Engine { program, overlay };
            let form = b"application/x-www-form-urlencoded".to_vec();
            let request = Request {
                target: b"/a/b.php?a=1&b=union+select&a=%3Cscript%3E".to_vec(),
                fields: vec![
                    (b"Host".to_vec(), b"example.com".to_vec()),
                    (b"Content-Type".to_vec(), form),
                    (b"Cookie".to_vec(), b"sid=1; x=y".to_vec()),
                ],
                ..get()
            };
            engine.judge(&request, &[b"c=1&d[]=2&d[]=%00"], b"<html>1</html>");
        }
    }
}

/// Where CRS lies beside the checkout, and the project's own rules for when it does not.
const CRS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs");
const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules");

/// What the engine recommends to go with CRS, at its highest level.
const SETUP: &str = r#"
SecRuleEngine DetectionOnly
SecRequestBodyAccess On
SecResponseBodyAccess On
SecResponseBodyMimeType text/plain text/html
SecRule REQUEST_HEADERS:Content-Type "@rx ^(?:application(?:/soap\+|/)|text/)xml" "id:200000,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule REQUEST_HEADERS:Content-Type "@rx ^application/json" "id:200001,phase:1,t:none,t:lowercase,pass,nolog,ctl:requestBodyProcessor=JSON"
SecAction "id:900005,phase:1,nolog,pass,setvar:tx.blocking_paranoia_level=4,setvar:tx.crs_validate_utf8_encoding=1"
"#;

/// The files of CRS, or of our own rules.
fn rule_files() -> Vec<PathBuf> {
    let crs = Path::new(CRS);
    let folder = if crs.is_dir() { crs.join("rules") } else { PathBuf::from(OWN) };
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "conf"))
        .collect();
    files.sort();
    if crs.is_dir() {
        files.insert(0, crs.join("crs-setup.conf.example"));
    }
    files
}

static RULE_SET: LazyLock<Engine> = LazyLock::new(|| {
    let mut sources = SourceMap::new();
    let setup = sources.add("setup.conf", SETUP);
    let mut directives = portcullis_seclang::parse(&sources, setup).directives;
    directives.extend(portcullis_seclang::load(&rule_files(), &Disk, &mut sources).directives);
    match portcullis_waf::build(&directives, &sources, &FileSystem) {
        Ok((program, _)) => {
            let program = Arc::new(program);
            let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
            Engine { program, overlay }
        }
        Err(found) => panic!("{}", found.to_text(&sources)),
    }
});

/// All of CRS on any request: pieces of the body do not matter.
pub fn crs(data: &[u8]) {
    let request = Request::from_wire(data);
    let answer = &data[..data.len().min(64)];
    let whole = RULE_SET.judge(&request, &[&request.body], answer);
    if !request.body.is_empty() {
        assert_eq!(RULE_SET.judge(&request, &pieces(&request.body, 1), answer), whole);
    }
}

/// Rules that show what body processors found.
static BODIES: LazyLock<Engine> = LazyLock::new(|| {
    let engine = Engine::of(
        r#"
SecRequestBodyAccess On
SecArgumentsLimit 50
SecRule REQUEST_HEADERS:Content-Type "@contains json" "id:1,phase:1,pass,nolog,ctl:requestBodyProcessor=JSON"
SecRule REQUEST_HEADERS:Content-Type "@contains xml" "id:2,phase:1,pass,nolog,ctl:requestBodyProcessor=XML"
SecRule ARGS|ARGS_NAMES|XML:/*|XML://@*|XML://a/b "@rx ." "id:3,phase:2,pass,logdata:'%{MATCHED_VAR_NAME}=%{MATCHED_VAR}'"
SecRule FILES|FILES_NAMES|FILES_SIZES|MULTIPART_PART_HEADERS|MULTIPART_FILENAME|MULTIPART_NAME "@rx ." "id:4,phase:2,pass,logdata:'%{MATCHED_VAR_NAME}=%{MATCHED_VAR}'"
SecRule REQBODY_ERROR|MULTIPART_STRICT_ERROR|MULTIPART_UNMATCHED_BOUNDARY "!@eq 0" "id:5,phase:2,pass,logdata:'%{MATCHED_VAR_NAME} %{REQBODY_ERROR_MSG}'"
SecRule REQBODY_ERROR "!@eq 0" "id:6,phase:2,pass"
"#,
    );
    let parsers = Parsers { json: true, graphql: true };
    let settings = OverlaySettings { parsers, ..OverlaySettings::default() };
    let overlay = Arc::new(Overlay::compile(&engine.program, &settings).unwrap());
    Engine { overlay, ..engine }
});

/// A body after a line with its media type: pieces do not matter, and JSON is read as serde_json reads it.
pub fn body(data: &[u8]) {
    let (media_type, body) = first_line(data);
    let fields = vec![(b"Content-Type".to_vec(), media_type.to_vec())];
    let request = Request { method: b"POST".to_vec(), fields, ..get() };
    let whole = BODIES.judge(&request, &[body], b"");
    for round in 0..2 {
        assert_eq!(BODIES.judge(&request, &pieces(body, round), b""), whole, "pieces matter");
    }
    let broken = whole.0.matches.iter().any(|found| found.rule_id == 6);
    if media_type == b"application/json" && serde_json::from_slice::<serde_json::Value>(body).is_ok() {
        assert!(!broken || body.len() > 50, "sound JSON is refused");
    }
}

/// Values through every transformation: bounded, left alone where the table says so, and some of them final.
pub fn transform(data: &[u8]) {
    const FINAL: [Transform; 12] = [
        Transform::CmdLine,
        Transform::CompressWhitespace,
        Transform::Lowercase,
        Transform::NormalizePath,
        Transform::ParityEven7bit,
        Transform::ParityZero7bit,
        Transform::RemoveNulls,
        Transform::RemoveWhitespace,
        Transform::ReplaceNulls,
        Transform::Trim,
        Transform::TrimRight,
        Transform::Uppercase,
    ];
    let alone = transform::identities(&ByteSet::occurring(data));
    let (mut out, mut again) = (Vec::new(), Vec::new());
    for info in transform::TABLE {
        let changed = transform::apply(info.transform, data, &mut out);
        assert!(out.len() <= data.len() * 6 + 20, "{} makes {} of {}", info.name, out.len(), data.len());
        if alone & info.transform.bit() != 0 {
            assert_eq!(changed, Changed::No, "{} has a trigger too few", info.name);
        }
        let value = if changed == Changed::Yes { &out } else { data };
        let second = transform::apply(info.transform, value, &mut again);
        if FINAL.contains(&info.transform) {
            assert_eq!(second, Changed::No, "{} is not final", info.name);
        }
    }
}

/// The detectors end, and say the same of the same value.
pub fn libinjection(data: &[u8]) {
    use portcullis_waf::libinjection::{sqli, xss};
    let fingerprint = sqli(data).map(|found| found.as_str().to_owned());
    assert!(fingerprint.as_ref().is_none_or(|found| (1..=5).contains(&found.len())));
    assert_eq!(sqli(data).map(|found| found.as_str().to_owned()), fingerprint);
    assert_eq!(xss(data), xss(data));
}

/// `SecRule REQUEST_HEADERS:v` with this operator, of which the text is put into the syntax tree as it is.
fn rule(id: usize, name: &str, argument: &str, transformations: &str, negated: bool) -> Directive {
    let text = format!(
        "SecRule REQUEST_HEADERS:v \"@{name} x\" \"id:{id},phase:1,pass,log,t:none{transformations}\""
    );
    let (_, parsed) = crate::seclang::parsed(text.as_bytes());
    let mut directive = parsed.directives.into_iter().next().unwrap();
    if let DirectiveKind::Rule(rule) = &mut directive.kind {
        argument.clone_into(&mut rule.operator.argument.value);
        rule.operator.negated = negated;
    }
    directive
}

/// The regular expression as it was written, without prefilter, sharing or caches.
fn plain_regex(pattern: &str) -> Option<regex::bytes::Regex> {
    regex::bytes::RegexBuilder::new(&rewrite_pattern(pattern).ok()?)
        .unicode(false)
        .dot_matches_new_line(true)
        .build()
        .ok()
}

/// A regular expression, and after a line feed the value: the engine says what the expression alone says.
pub fn regex(data: &[u8]) {
    let (pattern, value) = first_line(data);
    let Ok(pattern) = std::str::from_utf8(pattern) else { return };
    if pattern.len() > 200 || pattern.contains("%{") {
        return;
    }
    let Some(plain) = plain_regex(pattern) else { return };
    let sources = SourceMap::new();
    let Some(engine) = Engine::build(&[rule(1, "rx", pattern, "", false)], &sources, &NoFiles) else {
        return;
    };
    for value in [value, &value[value.len() / 2..]] {
        assert_eq!(!engine.fired(value).is_empty(), plain.is_match(value), "{pattern:?} {value:?}");
    }
}

/// An operator and its argument, and after a line feed the value: the operator and its negation never agree.
pub fn operator(data: &[u8]) {
    let (line, value) = first_line(data);
    let Ok(line) = std::str::from_utf8(line) else { return };
    let (name, argument) = line.split_once(' ').unwrap_or((line, ""));
    let Some(info) = portcullis_waf::operator::by_name(name) else { return };
    if matches!(info.kind, OperatorKind::Unsupported(_)) || argument.contains("%{") {
        return;
    }
    let rules = [rule(1, name, argument, "", false), rule(2, name, argument, "", true)];
    let Some(engine) = Engine::build(&rules, &SourceMap::new(), &NoFiles) else { return };
    assert_eq!(engine.fired(value).len(), 1, "@{line} and its negation, on {value:?}");
}

/// The patterns of a rule set, each as a rule of its own for the same value, and each alone.
struct Patterns {
    engine: Engine,
    /// Id, transformations, expression.
    plain: Vec<(u32, Vec<Transform>, regex::bytes::Regex)>,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let mut sources = SourceMap::new();
    let loaded = portcullis_seclang::load(&rule_files(), &Disk, &mut sources);
    let (mut rules, mut plain) = (Vec::new(), Vec::new());
    for directive in &loaded.directives {
        let DirectiveKind::Rule(found) = &directive.kind else { continue };
        let argument = found.operator.argument.as_str();
        if !found.operator.name.eq_ignore_ascii_case("rx") || argument.contains("%{") {
            continue;
        }
        let names: Vec<&str> =
            found.actions.named("t").filter_map(|action| action.value.as_deref()).collect();
        let chain: Option<Vec<_>> =
            names.iter().filter(|name| **name != "none").map(|name| Transform::by_name(name)).collect();
        let (Some(chain), Some(expression)) = (chain, plain_regex(argument)) else { continue };
        let actions: String = chain.iter().map(|step| format!(",t:{}", step.info().name)).collect();
        let id = rules.len() + 1;
        rules.push(rule(id, "rx", argument, &actions, false));
        plain.push((u32::try_from(id).unwrap(), chain, expression));
    }
    assert!(plain.len() > 20);
    Patterns { engine: Engine::build(&rules, &SourceMap::new(), &NoFiles).unwrap(), plain }
});

/// The expressions of the rule set as `regex-syntax` reads them.
#[must_use]
pub fn expressions() -> Vec<&'static str> {
    PATTERNS.plain.iter().map(|(_, _, expression)| expression.as_str()).collect()
}

/// Any value against every pattern of CRS with its transformations: what lanes, shared forms and prefilter drop, the
/// expression alone would not have matched.
pub fn prefilter(data: &[u8]) {
    let fired = PATTERNS.engine.fired(data);
    let (mut out, mut value) = (Vec::new(), Vec::new());
    for (id, chain, expression) in &PATTERNS.plain {
        value.clear();
        value.extend_from_slice(data);
        for step in chain {
            if transform::apply(*step, &value, &mut out) == Changed::Yes {
                std::mem::swap(&mut value, &mut out);
            }
        }
        assert_eq!(fired.contains(id), expression.is_match(&value), "{} on {data:?}", expression.as_str());
    }
}

static ONE_RULE: LazyLock<Engine> =
    LazyLock::new(|| Engine::of(r#"SecRule REQUEST_HEADERS "@rx ." "id:1,phase:1,pass,log,t:none""#));

/// The key of an exclusion, and after a line feed the name of a field: a glob leaves alone what it matches, and
/// nothing else.
pub fn exclusion(data: &[u8]) {
    let (key, name) = first_line(data);
    let Ok(key) = std::str::from_utf8(key).map(str::trim) else { return };
    let settings = OverlaySettings {
        exclusions: vec![ExclusionSettings {
            rules: RuleSelection::Id(1),
            target: Some(format!("REQUEST_HEADERS:{key}")),
        }],
        ..OverlaySettings::default()
    };
    let overlay = match Overlay::compile(&ONE_RULE.program, &settings) {
        Ok(overlay) => Arc::new(overlay),
        Err(OverlayError::Pattern(..)) => return,
        Err(other) => panic!("{other}"),
    };
    let engine = Engine { program: Arc::clone(&ONE_RULE.program), overlay };
    let request = Request { fields: vec![(name.to_vec(), b"x".to_vec())], ..get() };
    let fired = !engine.judge(&request, &[], b"").0.matches.is_empty();
    let is_regex = key.len() > 1 && key.starts_with('/') && key.ends_with('/');
    if !is_regex && key.len() * name.len() < 10_000 {
        assert_eq!(fired, !glob(key.as_bytes(), name), "{key:?} {name:?}");
    }
}

/// `*` for any run of bytes, `?` for one, the rest for itself without regard to ASCII case.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for part in pattern {
        let mut next = vec![false; name.len() + 1];
        for at in 0..=name.len() {
            next[at] = match part {
                b'*' => reached[at] || at > 0 && next[at - 1],
                b'?' => at > 0 && reached[at - 1],
                byte => at > 0 && reached[at - 1] && name[at - 1].eq_ignore_ascii_case(byte),
            };
        }
        reached = next;
    }
    reached[name.len()]
}
