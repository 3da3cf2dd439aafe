//! Rule sets as their authors ship them: CRS's configuration with whatever of it is switched on, includes, and the base
//! configurations that ModSecurity and Coraza recommend.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_diag::SourceMap;
use portcullis_seclang::{Disk, load};
use portcullis_waf::{DataFiles, FileSystem, Overlay, OverlaySettings, Program, Report, Transaction, build};

const CRS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/crs");
const DATABASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/GeoLite2-City-Test.mmdb");

/// A file of a Debian package: installed, or as `tests/run` unpacks it. Says so where it is neither.
fn debian(path: &str, package: &str) -> Option<PathBuf> {
    let unpacked = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debian")).join(path);
    let found = [unpacked, Path::new("/").join(path)].into_iter().find(|place| place.exists());
    if found.is_none() {
        eprintln!("SKIPPED: /{path} is absent (Debian's package {package})");
    }
    found
}

/// Files as they are, but for databases of addresses, of which there is one.
struct Data;

impl DataFiles for Data {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let is_database = path.extension().is_some_and(|extension| extension == "mmdb" || extension == "dat");
        FileSystem.read(if is_database { Path::new(DATABASE) } else { path })
    }
}

/// The program of these rules, and what was said on the way.
fn compile(rules: &str, beside: &Path) -> Result<(Arc<Program>, Vec<String>), String> {
    let mut sources = SourceMap::new();
    let file = sources.add(beside.join("setup.conf").display().to_string(), rules);
    let parsed = portcullis_seclang::parse(&sources, file);
    if parsed.diagnostics.has_errors() {
        return Err(parsed.diagnostics.to_text(&sources));
    }
    let (program, found) =
        build(&parsed.directives, &sources, &Data).map_err(|found| found.to_text(&sources))?;
    Ok((Arc::new(program), found.iter().map(|finding| finding.message.clone()).collect()))
}

/// The program of a file and all that it includes.
fn compile_file(file: &Path) -> Arc<Program> {
    let mut sources = SourceMap::new();
    let loaded = load(&[file.to_owned()], &Disk, &mut sources);
    assert!(!loaded.diagnostics.has_errors(), "{}", loaded.diagnostics.to_text(&sources));
    match build(&loaded.directives, &sources, &Data) {
        Ok((program, _)) => Arc::new(program),
        Err(found) => panic!("{}", found.to_text(&sources)),
    }
}

/// The parts of a configuration that are commented out: the lines from a directive on, as long as they are continued or
/// begin the next link of a chain.
fn commented(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let (mut continued, mut chained) = (false, false);
    for line in text.lines() {
        let bare = line.trim_start().strip_prefix('#').map(str::trim);
        let name = bare.and_then(|bare| bare.split_whitespace().next()).unwrap_or_default();
        let begins = name.starts_with("Sec") && name.chars().all(char::is_alphanumeric);
        match bare {
            Some(bare) if continued || (chained && begins) => {
                let part = parts.last_mut().unwrap();
                part.push('\n');
                part.push_str(bare);
            }
            Some(bare) if begins && bare.split_whitespace().count() > 1 => parts.push(bare.to_owned()),
            _ => continue,
        }
        let bare = bare.unwrap_or_default();
        continued = bare.ends_with('\\');
        if !continued {
            chained = parts.last().is_some_and(|part| part.ends_with("chain\""));
        }
    }
    // Prose that begins with the name of a directive, and a rule without an id, which no engine takes.
    parts.retain(|part| {
        !part.contains("processing.") && (!part.starts_with("SecRule ") || part.contains("id:"))
    });
    parts
}

#[test]
fn each_commented_part_of_the_configuration_of_crs() {
    let own = Path::new(CRS).join("crs-setup.conf.example");
    let files = [
        (own.is_file().then_some(own), 36),
        (debian("etc/modsecurity/crs/crs-setup.conf", "modsecurity-crs"), 37),
    ];
    for (file, expected) in files {
        let Some(file) = file else { continue };
        let text = std::fs::read_to_string(&file).unwrap();
        let parts = commented(&text);
        for part in &parts {
            let compiled = compile(&format!("{text}\n{part}\n"), file.parent().unwrap());
            assert!(compiled.is_ok(), "{part}\n{}", compiled.unwrap_err());
        }
        eprintln!("{}: each of {} commented parts loads", file.display(), parts.len());
        assert_eq!(parts.len(), expected, "{}", parts.join("\n---\n"));
    }
}

#[test]
fn the_whole_configuration_of_crs_at_once() {
    let setup = Path::new(CRS).join("crs-setup.conf.example");
    if !setup.is_file() {
        eprintln!("SKIPPED: {} is absent", setup.display());
        return;
    }
    let text = std::fs::read_to_string(&setup).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Parts that stand for one another come in variants with the same id; the first is taken.
    let mut ids = std::collections::HashSet::new();
    let mut all = text.clone();
    for part in commented(&text) {
        let id = part.split("id:").nth(1).and_then(|rest| rest.split(',').next()).map(str::to_owned);
        if id.is_none_or(|id| ids.insert(id)) {
            all.push('\n');
            all.push_str(&part);
        }
    }
    std::fs::write(folder.path().join("crs-setup.conf"), all).unwrap();
    std::fs::create_dir(folder.path().join("own")).unwrap();
    for (name, id) in [("20-b.conf", 2), ("10-a.conf", 1), ("none.txt", 3)] {
        let rule = format!("SecAction \"id:{id},phase:1,nolog,pass\"\n");
        std::fs::write(folder.path().join("own").join(name), rule).unwrap();
    }
    let main = format!(
        "Include crs-setup.conf\nInclude {CRS}/rules/*.conf\nInclude own/*.conf\nIncludeOptional no/*.conf\n"
    );
    std::fs::write(folder.path().join("main.conf"), main).unwrap();
    let program = compile_file(&folder.path().join("main.conf"));
    let rules: Vec<u32> = program.rules().map(|rule| rule.id).collect();
    assert_eq!(rules[rules.len() - 2..], [1, 2], "included in the order of their names");
    assert!(ids.len() > 20 && rules.len() == 630 + ids.len() + 2, "{} {}", ids.len(), rules.len());
}

/// How Debian's Apache loads the package.
#[test]
fn crs_by_debians_own_file() {
    let Some(file) = debian("usr/share/modsecurity-crs/owasp-crs.load", "modsecurity-crs") else { return };
    if !file.starts_with("/usr") {
        eprintln!("SKIPPED: {} includes files by their absolute paths", file.display());
        return;
    }
    let program = compile_file(&file);
    let links: usize = program.rules().map(|rule| rule.links).sum();
    eprintln!("{}: {links} rules in {} chains", file.display(), program.rule_count());
    assert_eq!(links, 800);
    // Their patterns are compiled otherwise than those of the current release: attacks and ordinary requests as a check.
    for (target, score) in [
        ("/?q=ordinary+words", 0),
        ("/?q=%3Cscript%3Ealert(1)%3C/script%3E", 5),
        ("/?file=../../../../etc/passwd", 5),
        ("/?q=1'+or+1=1--+-", 5),
    ] {
        let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
        let mut transaction = Transaction::new(Arc::clone(&program), overlay, "id-1");
        transaction.request_line(b"GET", target.as_bytes(), b"HTTP/1.1");
        for (name, value) in [("Host", "shop.example"), ("Accept", "*/*"), ("User-Agent", "Mozilla/5.0")] {
            transaction.request_header(name.as_bytes(), value.as_bytes());
        }
        transaction.check_request_headers();
        transaction.check_request_body();
        let report = transaction.finish();
        let found: Vec<u32> = report.matches.iter().map(|found| found.rule_id).collect();
        assert_eq!(found.contains(&949110), score > 0, "{target} {found:?}");
    }
}

/// What a request comes to under rules that block.
fn send(program: &Arc<Program>, content_type: &str, body: &str) -> Report {
    let settings = OverlaySettings { mode: Some(portcullis_waf::Mode::Block), ..OverlaySettings::default() };
    let overlay = Arc::new(Overlay::compile(program, &settings).unwrap());
    let mut transaction = Transaction::new(Arc::clone(program), overlay, "id-1");
    transaction.request_line(b"POST", b"/?q=1", b"HTTP/1.1");
    transaction.request_header(b"Host", b"shop.example");
    transaction.request_header(b"Content-Type", content_type.as_bytes());
    transaction.check_request_headers();
    transaction.write_request_body(body.as_bytes());
    transaction.check_request_body();
    transaction.finish()
}

fn verdict(report: &Report) -> Option<(u32, u16)> {
    report.interruption.as_ref().map(|interruption| (interruption.rule_id, interruption.status))
}

/// One row for each of the recommended rules: media type, body, the rule that decides and its status.
fn recommended_rules_decide(program: &Arc<Program>, multipart: &[(&str, &str, u32, u16)]) {
    for (content_type, body, expected) in [
        ("application/x-www-form-urlencoded", "a=1&b=2", None),
        ("application/json", r#"{"a": [1, "b"]}"#, None),
        ("application/json; charset=utf-8", r#"{"a": "#, Some((200002, 400))),
        ("text/xml", "<a><b>c</b></a>", None),
        ("application/soap+xml", "<a><b>c</a>", Some((200002, 400))),
        (
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--\r\n",
            None,
        ),
    ] {
        assert_eq!(verdict(&send(program, content_type, body)), expected, "{content_type} {body:?}");
    }
    for (content_type, body, rule, status) in multipart {
        assert_eq!(
            verdict(&send(program, content_type, body)),
            Some((*rule, *status)),
            "{content_type} {body:?}"
        );
    }
    let much = format!("a={}", "b".repeat(140_000));
    let report = send(program, "application/x-www-form-urlencoded", &much);
    assert_eq!(verdict(&report), Some((200002, 400)), "SecRequestBodyNoFilesLimit");
}

const BENT: &[(&str, &str, u32, u16)] = &[
    (
        "multipart/form-data; boundary=b",
        "x\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--\r\n",
        200003,
        400,
    ),
    (
        "multipart/form-data; boundary=b",
        "--b\r\nContent-Disposition: form-data; name='a'\r\n\r\n1\r\n--b--\r\n",
        200003,
        400,
    ),
    (
        "multipart/form-data; boundary=b",
        "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n--c\r\n--b--\r\n",
        200004,
        403,
    ),
];

#[test]
fn modsecuritys_recommended_configuration() {
    let path = "etc/modsecurity/modsecurity.conf-recommended";
    let Some(file) = debian(path, "libapache2-mod-security2") else { return };
    let program = compile_file(&file);
    let ids: Vec<u32> = program.rules().map(|rule| rule.id).collect();
    assert_eq!(ids, [200000, 200001, 200002, 200003, 200004, 200005]);
    recommended_rules_decide(&program, BENT);
    let audit = program.audit();
    let relevant = |status| audit.relevant_status.as_ref().unwrap().matches(status);
    assert_eq!([200, 403, 404, 405, 500].map(relevant), [false, true, false, true, true]);
    assert_eq!(audit.parts.to_string(), "ABDEFHIJZ");
}

/// The rules that later versions added, and the way in which rule 200005 learns of errors.
#[test]
fn later_recommended_rules() {
    let rules = r#"
        SecArgumentsLimit 3
        SecRule REQUEST_HEADERS:Content-Type "^application/[a-z0-9.-]+[+]json" "id:200006,phase:1,pass,nolog,t:none,t:lowercase,ctl:requestBodyProcessor=JSON"
        SecRule &ARGS "@ge 3" "id:200007,phase:2,deny,status:400,t:none,log,severity:2"
        SecRule ARGS:set "@streq msc" "id:1,phase:2,pass,nolog,setvar:tx.MSC_ERROR=1"
        SecRule TX:/^MSC_/ "!@streq 0" "id:200005,phase:2,t:none,deny,msg:'flagged: %{MATCHED_VAR_NAME}'"
        SecRule ARGS:json.a "@streq 1" "id:2,phase:2,deny,status:409"
    "#;
    let (program, warnings) = compile(rules, Path::new("")).unwrap();
    assert_eq!(warnings, [""; 0]);
    let form = "application/x-www-form-urlencoded";
    assert_eq!(verdict(&send(&program, "application/problem+JSON", r#"{"a": 1}"#)), Some((2, 409)));
    assert_eq!(verdict(&send(&program, form, "a=1&b=2")), Some((200007, 400)), "with the query's");
    assert_eq!(verdict(&send(&program, form, "a=1")), None);
    let report = send(&program, form, "set=msc");
    assert_eq!(verdict(&report), Some((200005, 403)));
    assert_eq!(report.matches[0].msg, "flagged: TX:msc_error");
}

/// What is peculiar to Coraza's recommended configuration: ids in quotes, a quote that is never closed.
#[test]
fn corazas_way_of_writing() {
    let rules = "SecRule MULTIPART_STRICT_ERROR \"!@eq 0\" \\\n    \"id:'200003',phase:2,t:none,log,deny,status:400, \\\n    msg:'Multipart request body failed strict validation.\"\nSecAuditLogRelevantStatus \"^(?:(5|4)(0|1)[0-9])$\"\n";
    let (program, _) = compile(rules, Path::new("")).unwrap();
    let (content_type, body, rule, status) = BENT[0];
    let report = send(&program, content_type, body);
    assert_eq!(verdict(&report), Some((rule, status)));
    assert_eq!(report.matches[0].msg, "Multipart request body failed strict validation.");
}
