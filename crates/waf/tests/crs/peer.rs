//! The same requests through libmodsecurity: refused alike, by the same rules, with the same score; where not, for a
//! reason that `docs/seclang.md` has among its divergences. Needs a C compiler and libmodsecurity, so it runs by hand:
//! `cargo test -p portcullis-waf --test crs -- --ignored libmodsecurity --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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

/// The recommended configuration and this CRS, as a file for ModSecurity.
fn rules(path: PathBuf, crs: &Path) -> PathBuf {
    let text = RECOMMENDED.replace("SecPcreMatchLimit 1000", "SecPcreMatchLimit 500000");
    let text = text.replace("SecPcreMatchLimitRecursion 1000", "SecPcreMatchLimitRecursion 500000");
    let crs = crs.display();
    let text = format!("{text}\n{LEVEL}\nInclude {crs}/crs-setup.conf.example\nInclude {crs}/rules/*.conf\n");
    std::fs::write(&path, text).unwrap();
    path
}

/// A difference is put down to one of these only if it is gone once ModSecurity is kept from it.
#[derive(Clone, Copy)]
enum Habit {
    /// `^` and `$` match at line ends inside a value, and `$` before its last line feed.
    Lines,
    /// MATCHED_VARS keeps what earlier rules matched, until one does not match.
    MatchedVars,
}

/// A copy of CRS in which ModSecurity has not that habit.
fn without(habit: Habit, folder: &Path) {
    std::fs::create_dir_all(folder.join("rules")).unwrap();
    std::fs::copy(Path::new(FOLDER).join("crs-setup.conf.example"), folder.join("crs-setup.conf.example"))
        .unwrap();
    for entry in std::fs::read_dir(Path::new(FOLDER).join("rules")).unwrap() {
        let path = entry.unwrap().path();
        let copy = folder.join("rules").join(path.file_name().unwrap());
        if path.extension().is_none_or(|extension| extension != "conf") {
            std::fs::copy(path, copy).unwrap();
            continue;
        }
        let mut text = String::new();
        for line in std::fs::read_to_string(path).unwrap().lines() {
            match habit {
                Habit::Lines => text.push_str(&whole_value(line)),
                Habit::MatchedVars => text.push_str(&after_another(line)),
            }
            text.push('\n');
        }
        std::fs::write(copy, text).unwrap();
    }
}

/// A line of a rule whose pattern has its value as a whole.
fn whole_value(line: &str) -> String {
    let changed = line.replace("\"@rx ", "\"@rx (?-m)").replace("\"!@rx ", "\"!@rx (?-m)");
    match changed.strip_suffix("$\" \\") {
        Some(start) if changed != line && !start.ends_with('\\') => format!("{start}\\z\" \\"),
        _ => changed,
    }
}

/// A line; in front of the first of a rule, another rule that does not match.
fn after_another(line: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(10_000_000);
    if !line.starts_with("SecRule ") {
        return line.to_owned();
    }
    let id = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("SecRule REQUEST_METHOD \"@streq none\" \"id:{id},phase:2,pass,nolog\"\n{line}")
}

/// Why the engines differ on a request, by what only one of them can have seen.
fn difference(request: &Request, ours: &Verdict, theirs: &Verdict) -> Option<&'static str> {
    let body = String::from_utf8_lossy(&request.body);
    let media = request.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let media = media.map_or("", |(_, media)| media);
    let more = ours.rules.is_superset(&theirs.rules) && ours.score > theirs.score;
    if media.contains("xml") && body.contains("xmlns") && more && ours.score - theirs.score == 3 {
        let only: Vec<_> = ours.rules.difference(&theirs.rules).collect();
        return matches!(only[..], [] | [942_432]).then_some("`xmlns` is an attribute");
    }
    if media.contains("xml") && body.contains("<!DOCTYPE") && ours.rules.contains(&200_002) {
        return Some("document types are refused");
    }
    (media.starts_with("multipart/") && more).then_some("line ends in a field of a multipart body")
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
    for (habit, cause) in
        [(Habit::Lines, "`^` and `$` at line ends"), (Habit::MatchedVars, "MATCHED_VARS of earlier rules")]
    {
        let altered = folder.join(format!("without-{}", habit as u8));
        without(habit, &altered);
        let rules = rules(altered.with_extension("conf"), &altered);
        let requests: Vec<_> = open.iter().map(|(request, ..)| request.clone()).collect();
        let mut verdicts = theirs(&driver, &rules, &requests).into_iter();
        open.retain(|(_, ours, _)| {
            let gone = verdicts.next().is_some_and(|theirs| theirs == *ours);
            *causes.entry(cause).or_default() += usize::from(gone);
            !gone
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
