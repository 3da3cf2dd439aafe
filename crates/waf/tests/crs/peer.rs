//! The same requests through libmodsecurity: refused alike, by the same rules, with the same score; where not, for a
//! reason that `docs/seclang.md` has among its divergences. Needs a C compiler and libmodsecurity, so it runs by hand:
//! `cargo test -p portcullis-waf --test crs -- --ignored libmodsecurity --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use portcullis_testkit::{absent, suite};
use portcullis_waf::Report;

use crate::attacks::positive_requests;
use crate::ordinary::{corpus, run};
use crate::rules::{FOLDER, RECOMMENDED, blocking, overlay};
use crate::traffic::{Request, ordinary};

/// Of the ordinary requests and of the attacks, each so many; `CRS_EVERY=1` asks about all.
const EVERY: usize = 16;

/// The paranoia level that runs most rules.
const LEVEL: &str = r#"SecAction "id:900000,phase:1,pass,t:none,nolog,setvar:tx.blocking_paranoia_level=4""#;
/// ModSecurity 3 sets REQUEST_BODY for JSON, XML and multipart bodies as well; here, as in ModSecurity 2 and Coraza, a
/// rule has to ask for it.
const FORCED: &str = r#"SecAction "id:900001,phase:1,pass,t:none,nolog,ctl:forceRequestBodyVariable=On""#;

/// What an engine made of a request.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    /// 0: let through.
    status: u16,
    /// In the message of the rule that evaluates it; -1: there is none.
    score: i64,
    /// Those that were logged.
    rules: BTreeSet<u32>,
}

fn ours(report: &Report) -> Verdict {
    let score = report.interruption.as_ref().and_then(|found| found.msg.rsplit_once("Total Score: "));
    Verdict {
        status: report.interruption.as_ref().map_or(0, |found| found.status),
        score: score.map_or(-1, |(_, score)| score.trim_end_matches(')').parse().unwrap()),
        // Summaries of phase 5 are for ModSecurity no log records of rules.
        rules: report.matches.iter().map(|found| found.rule_id).filter(|rule| *rule < 980_000).collect(),
    }
}

/// The driver, built; none where there is no compiler or no libmodsecurity.
fn driver(folder: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer/modsecurity.c");
    let driver = folder.join("verdicts");
    let mut command = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    command.args(["-O2", "-DVERDICTS", "-o"]).arg(&driver).arg(source).arg("-lmodsecurity");
    if command.output().is_ok_and(|built| built.status.success()) {
        return Some(driver);
    }
    eprintln!("SKIPPED: cc or libmodsecurity is absent (apt-get install gcc libmodsecurity-dev)");
    None
}

/// Whether it goes through the driver's lines as it is.
fn is_plain(request: &Request) -> bool {
    let texts = request.fields.iter().flat_map(|(name, value)| [name, value]);
    texts.chain([&request.method, &request.target]).all(|text| !text.contains(['\n', '\0']))
}

fn theirs(driver: &Path, rules: &Path, requests: &[Request]) -> Vec<Verdict> {
    let mut input = Vec::new();
    for Request { method, target, fields, body, .. } in requests {
        write!(input, "{} {}\n{method}\n{target}\n", fields.len(), body.len()).unwrap();
        for (name, value) in fields {
            write!(input, "{name}\n{value}\n").unwrap();
        }
        input.extend(body);
        input.push(b'\n');
    }
    let flat = rules.with_extension("requests");
    std::fs::write(&flat, input).unwrap();
    let output = Command::new(driver).arg(rules).arg(flat).stderr(Stdio::inherit()).output().unwrap();
    let verdict = |line: &str| {
        let mut fields = line.split('\t');
        let status = fields.next().unwrap().parse().unwrap();
        let score = fields.next().unwrap().parse().unwrap();
        Verdict { status, score, rules: fields.map(|id| id.parse().unwrap()).collect() }
    };
    let verdicts: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().skip(1).map(verdict).collect();
    assert_eq!(verdicts.len(), requests.len(), "{}", output.status);
    verdicts
}

/// The map that `SecUnicodeMapFile` is given in ModSecurity's recommended configuration, where it is installed.
const UNICODE_MAPPING: &str = "/etc/modsecurity/unicode.mapping";

/// The recommended configuration and this CRS, as a file for ModSecurity.
fn rules(path: PathBuf, crs: &Path) -> PathBuf {
    let mut text = RECOMMENDED.replace("SecPcreMatchLimit 1000", "SecPcreMatchLimit 500000");
    text = text.replace("SecPcreMatchLimitRecursion 1000", "SecPcreMatchLimitRecursion 500000");
    if Path::new(UNICODE_MAPPING).is_file() {
        writeln!(text, "SecUnicodeMapFile {UNICODE_MAPPING} 20127").unwrap();
    }
    let crs = crs.display();
    write!(text, "{LEVEL}\nInclude {crs}/crs-setup.conf.example\nInclude {crs}/rules/*.conf\n").unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// What ModSecurity 3 does otherwise, and a rewritten CRS keeps it from.
#[derive(Clone, Copy)]
enum Habit {
    /// `^` and `$` match at line ends inside a value, and `$` before its last line feed.
    Lines,
    /// MATCHED_VARS keeps what earlier rules matched, until one does not match.
    MatchedVars,
    /// REQUEST_URI is percent-decoded.
    Uri,
}

/// Differences are put down to habits only if they are gone once ModSecurity is kept from these.
const HABITS: [(&str, &[Habit]); 4] = [
    ("`^` and `$` at line ends", &[Habit::Lines]),
    ("MATCHED_VARS of earlier rules", &[Habit::MatchedVars]),
    ("REQUEST_URI decoded", &[Habit::Uri]),
    ("several of these", &[Habit::Lines, Habit::MatchedVars, Habit::Uri]),
];

/// Writes a copy of CRS that keeps ModSecurity from its habits.
fn write_without(habits: &[Habit], folder: &Path) {
    std::fs::create_dir_all(folder.join("rules")).unwrap();
    let setup = "crs-setup.conf.example";
    std::fs::copy(Path::new(FOLDER).join(setup), folder.join(setup)).unwrap();
    for entry in std::fs::read_dir(Path::new(FOLDER).join("rules")).unwrap() {
        let path = entry.unwrap().path();
        let copy = folder.join("rules").join(path.file_name().unwrap());
        if path.extension().is_none_or(|extension| extension != "conf") {
            std::fs::copy(path, copy).unwrap();
            continue;
        }
        let mut text = String::new();
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let rewritten = habits.iter().fold(line.to_owned(), |line, habit| habit.rewrite(&line));
            writeln!(text, "{rewritten}").unwrap();
        }
        std::fs::write(copy, text).unwrap();
    }
}

impl Habit {
    /// A line of a rule file, so that the rule does without.
    fn rewrite(self, line: &str) -> String {
        match self {
            Self::Lines => {
                let changed = line.replace("\"@rx ", "\"@rx (?-m)").replace("\"!@rx ", "\"!@rx (?-m)");
                match changed.strip_suffix("$\" \\") {
                    Some(start) if changed != line && !start.ends_with('\\') => format!("{start}\\z\" \\"),
                    _ => changed,
                }
            }
            // In front of each rule one that does not match.
            Self::MatchedVars if line.starts_with("SecRule ") => {
                static NEXT: AtomicU32 = AtomicU32::new(10_000_000);
                let id = NEXT.fetch_add(1, Ordering::Relaxed);
                format!("SecRule REQUEST_METHOD \"@streq none\" \"id:{id},phase:2,pass,nolog\"\n{line}")
            }
            Self::MatchedVars => line.to_owned(),
            Self::Uri => line
                .replace("REQUEST_URI|", "REQUEST_URI_RAW|")
                .replace("REQUEST_URI \"", "REQUEST_URI_RAW \""),
        }
    }
}

/// Why the engines differ on a request, by what only one of them can have seen.
fn difference(request: &Request, ours: &Verdict, theirs: &Verdict) -> Option<&'static str> {
    let body = String::from_utf8_lossy(&request.body);
    let media = request.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let media = media.map_or("", |(_, media)| media);
    let (xml, multipart) = (media.contains("xml"), media.starts_with("multipart/"));
    let only_ours: Vec<u32> = ours.rules.difference(&theirs.rules).copied().collect();
    let more = theirs.rules.is_subset(&ours.rules) && ours.score > theirs.score;
    if ours.score == theirs.score && only_ours.is_empty() && ours.status == theirs.status {
        return Some("the first link of a chain is logged");
    }
    if xml && body.contains("<!DOCTYPE") && ours.rules.contains(&200_002) {
        return Some("document types are refused");
    }
    let unreadable = theirs.rules.contains(&200_002) || theirs.rules.contains(&200_003);
    if (multipart || xml) && body.is_empty() && unreadable {
        return Some("a multipart or XML body that is not there");
    }
    if request.target.strip_prefix("http://").is_some_and(|rest| !rest.contains('/')) {
        return Some("REQUEST_FILENAME of a target without a path");
    }
    // What stands on two lines may be a match for them, and be none for us.
    if multipart && has_lines(&body) {
        return Some("line ends in a field of a multipart body");
    }
    let by = ours.score - theirs.score;
    match only_ours[..] {
        _ if !more => None,
        [] | [942_432] if xml && body.contains("xmlns") && by == 3 => Some("`xmlns` is an attribute"),
        [] if media.contains("json") && body.contains('[') && by == 5 => Some("names of JSON arrays"),
        [930_130] => Some("a phrase of `@pm` within one that breaks off"),
        _ => None,
    }
}

/// Whether a field of a form, no file, has more than one line.
fn has_lines(form: &str) -> bool {
    let parts = form.split("\r\n--").filter_map(|part| part.split_once("\r\n\r\n"));
    parts.filter(|(head, _)| !head.contains("filename=")).any(|(_, value)| value.contains("\r\n"))
}

/// Whether characters beyond ASCII are in it, which `t:urlDecodeUni` maps by the file in both ModSecuritys.
fn is_beyond_ascii(request: &Request) -> bool {
    let high = |bytes: &[u8]| {
        let escape = |escape: &[u8]| matches!(escape, [b'%', b'8'..=b'9' | b'A'..=b'F' | b'a'..=b'f', _]);
        !bytes.is_ascii() || bytes.windows(3).any(escape)
    };
    let fields = request.fields.iter().map(|(_, value)| value.as_bytes());
    fields.chain([request.target.as_bytes(), &request.body]).any(high)
}

#[test]
#[ignore = "needs libmodsecurity"]
fn libmodsecurity_agrees() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crs-peer");
    std::fs::create_dir_all(&folder).unwrap();
    if absent(FOLDER) {
        return;
    }
    let Some(driver) = driver(&folder) else { return };
    let every = std::env::var("CRS_EVERY").map_or(EVERY, |every| every.parse().unwrap());
    let mut requests: Vec<_> = ordinary().into_iter().step_by(every).collect();
    requests.extend(corpus("pass"));
    requests.extend(corpus("block"));
    requests.extend(positive_requests().into_iter().step_by(every));
    requests.retain(is_plain);
    let crs = Path::new(FOLDER).canonicalize().unwrap();
    let verdicts = theirs(&driver, &rules(folder.join("crs.conf"), &crs), &requests);

    let program = blocking(&format!("{LEVEL}\n{FORCED}"));
    let overlay = overlay(&program, 4);
    let (mut alike, mut causes, mut open) = (0, BTreeMap::<_, usize>::new(), Vec::new());
    for (request, theirs) in requests.into_iter().zip(verdicts) {
        let ours = ours(&run(&program, &overlay, &request));
        if ours == theirs {
            alike += 1;
        } else if let Some(cause) = difference(&request, &ours, &theirs) {
            *causes.entry(cause).or_default() += 1;
        } else {
            open.push((request, ours, theirs));
        }
    }
    for (number, (cause, habits)) in HABITS.into_iter().enumerate() {
        let altered = folder.join(format!("without-{number}"));
        write_without(habits, &altered);
        let rules = rules(altered.with_extension("conf"), &altered);
        let requests: Vec<_> = open.iter().map(|(request, ..)| request.clone()).collect();
        let mut verdicts = theirs(&driver, &rules, &requests).into_iter();
        open.retain(|(_, ours, _)| {
            let gone = verdicts.next().is_some_and(|theirs| theirs == *ours);
            *causes.entry(cause).or_default() += usize::from(gone);
            !gone
        });
    }
    if !Path::new(UNICODE_MAPPING).is_file() {
        open.retain(|(request, ours, theirs)| {
            let mapped = is_beyond_ascii(request) && theirs.rules.is_subset(&ours.rules);
            *causes.entry("no unicode.mapping is installed").or_default() += usize::from(mapped);
            !mapped
        });
    }
    let causes: Vec<_> = causes.into_iter().map(|(cause, count)| format!("{count} for {cause}")).collect();
    suite("CRS against libmodsecurity", &format!("{alike} requests alike; differ: {}", causes.join(", ")));
    let mut text = String::new();
    for (request, ours, theirs) in &open {
        writeln!(text, "{}:\n  we   {ours:?}\n  they {theirs:?}", request.name).unwrap();
    }
    assert!(open.is_empty(), "{} differ otherwise:\n{text}", open.len());
}
