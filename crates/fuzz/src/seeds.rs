//! Inputs to begin with: the kept corpora, and what is made of the data beside the checkout.

use portcullis_diag::SourceMap;
use portcullis_seclang::{Directive, DirectiveKind, Disk};
use std::fs;
use std::path::{Path, PathBuf};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The folder of a target's kept inputs.
#[must_use]
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// The kept inputs of a target with their names, sorted.
#[must_use]
pub fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = files(&folder(target), &[]);
    files.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

/// What the data beside the checkout (rules, tests, vectors of others) and our own files give to a target; empty for
/// targets that need none. At most some hundreds, the same ones each time.
#[must_use]
pub fn found(target: &str) -> Vec<Vec<u8>> {
    let all = match target {
        "config_toml" => texts(Path::new(ROOT), &["toml"]),
        "contract_json" | "contract_media" => Vec::new(),
        "ftw_yaml" => texts(&data("crs/tests"), &["yaml"]),
        "seclang_parse" | "waf_compile" => directives(),
        "waf_body" => bodies(),
        "waf_crs" | "wire_framing" | "wire_request" => requests(),
        "waf_libinjection" => payloads(),
        "waf_operator" => {
            vectors("operators", |case| line(&[text(case, "name")?, text(case, "param")?], case))
        }
        "waf_prefilter" => {
            let mut all = vectors("operators", |case| Some(text(case, "input")?.into_bytes()));
            all.extend(payloads());
            all.extend(bodies());
            all
        }
        "waf_regex" => patterns(),
        "waf_transform" => vectors("transformations", |case| Some(text(case, "input")?.into_bytes())),
        _ => Vec::new(),
    };
    let step = all.len().div_ceil(600).max(1);
    all.into_iter().step_by(step).filter(|input| input.len() <= 4096).collect()
}

fn data(name: &str) -> PathBuf {
    Path::new(DATA).join(name)
}

/// The files below a folder with one of these endings (all, if none is given), sorted; none where there is no folder.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && name != ".git" {
            files.extend(self::files(&path, endings));
        } else if path.is_file() && (endings.is_empty() || endings.contains(&ending)) {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn texts(folder: &Path, endings: &[&str]) -> Vec<Vec<u8>> {
    files(folder, endings).iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The directives of CRS and of our own rules.
fn rules() -> Vec<Directive> {
    let mut paths = files(&data("crs/rules"), &["conf"]);
    paths.extend(files(&Path::new(ROOT).join("rules"), &["conf"]));
    portcullis_seclang::load(&paths, &Disk, &mut SourceMap::new()).directives
}

/// Each of them by itself.
fn directives() -> Vec<Vec<u8>> {
    rules().iter().map(|directive| directive.to_string().into_bytes()).collect()
}

/// The expressions of the vectors with their values, and those of the rules with themselves for a value.
fn patterns() -> Vec<Vec<u8>> {
    let mut all = vectors("operators", |case| {
        (text(case, "name")? == "rx").then(|| line(&[text(case, "param")?], case)).flatten()
    });
    for directive in rules() {
        if let DirectiveKind::Rule(rule) = &directive.kind
            && rule.operator.name.eq_ignore_ascii_case("rx")
        {
            all.push([rule.operator.argument.as_str(); 2].join("\n").into_bytes());
        }
    }
    all
}

/// The requests of CRS's own tests, as they go over the wire.
fn requests() -> Vec<Vec<u8>> {
    let tests = portcullis_ftw::load(&data("crs/tests")).unwrap_or_default();
    let stages = tests.iter().flat_map(|file| &file.tests).flat_map(|test| &test.stages);
    stages.map(|stage| stage.input.wire()).collect()
}

/// Media type and body of those requests that have one.
fn bodies() -> Vec<Vec<u8>> {
    let read = |wire: &Vec<u8>| {
        let request = portcullis_ftw::Request::from_wire(wire);
        let media_type = request.field("Content-Type").unwrap_or_default().to_vec();
        (!request.body.is_empty()).then(|| [media_type, request.body].join(&b'\n'))
    };
    requests().iter().filter_map(read).collect()
}

/// The inputs of libinjection's tests.
fn payloads() -> Vec<Vec<u8>> {
    let cut = |text: Vec<u8>| {
        let text = String::from_utf8_lossy(&text).into_owned();
        let (_, rest) = text.split_once("--INPUT--\n")?;
        Some(rest.split_once("\n--EXPECTED--")?.0.as_bytes().to_vec())
    };
    texts(&data("libinjection/tests"), &["txt"]).into_iter().filter_map(cut).collect()
}

/// The cases of vectors in the form that ModSecurity and Coraza share.
fn vectors(folder: &str, read: impl Fn(&serde_json::Value) -> Option<Vec<u8>>) -> Vec<Vec<u8>> {
    let files = texts(&data("seclang-vectors").join(folder), &["json"]);
    let cases = files.iter().filter_map(|file| serde_json::from_slice::<Vec<serde_json::Value>>(file).ok());
    cases.flatten().filter_map(|case| read(&case)).collect()
}

fn text(case: &serde_json::Value, name: &str) -> Option<String> {
    Some(case.get(name)?.as_str()?.to_owned())
}

/// These words on a line, and the case's input on the next.
fn line(words: &[String], case: &serde_json::Value) -> Option<Vec<u8>> {
    let words = words.join(" ");
    (!words.contains('\n')).then(|| Some([words, text(case, "input")?].join("\n").into_bytes())).flatten()
}
