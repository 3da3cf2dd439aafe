//! The tests of rule sets, in the YAML schema of [go-ftw](https://github.com/coreruleset/go-ftw) that the OWASP Core
//! Rule Set uses.
//!
//! A file holds the tests of one rule, a test its stages, a stage a request and what the log must say about it.
//! [`load`] reads files, [`Input::request`] makes the request, [`Request::as_served`] makes of it what a server hands
//! to its firewall, [`Request::reflection`] is the response of the backend `/reflect`, which answers what the request's
//! JSON body describes, and [`Log::unmet`] compares a log with what was expected. Who runs the rules is the caller's
//! business; nothing here knows a rule engine.
//!
//! ```
//! let file = portcullis_ftw::parse(r#"
//! rule_id: 942100
//! tests:
//!   - test_id: 1
//!     stages:
//!       - input: { uri: "/?id=1%27%20or%201=1", headers: { Host: localhost } }
//!         output: { log: { expect_ids: [942100], no_expect_ids: [920100] } }
//! "#).unwrap();
//! let stage = &file.tests[0].stages[0];
//! let request = stage.input.request().as_served().unwrap();
//! assert_eq!(request.target, b"/?id=1%27%20or%201=1");
//! assert_eq!(stage.output.log.unmet(r#"[id "942100"]"#).unwrap(), Vec::<String>::new());
//! assert_eq!(stage.output.log.unmet(r#"[id "920100"]"#).unwrap(), ["942100 did not fire", "920100 fired"]);
//! ```
#![forbid(unsafe_code)]

mod request;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use request::{Reflection, Request};
use serde::Deserialize;

/// One file: the tests of one rule.
#[derive(Clone, Debug, Deserialize)]
pub struct TestFile {
    /// The rule; 0 in a file that names none (CRS has one without tests).
    #[serde(default)]
    pub rule_id: u32,
    /// Its tests.
    #[serde(default)]
    pub tests: Vec<Test>,
    /// Where the file lies; empty for a text that was no file.
    #[serde(skip)]
    pub path: PathBuf,
}

/// One test.
#[derive(Clone, Debug, Deserialize)]
pub struct Test {
    /// Its number within the file.
    pub test_id: u32,
    /// What it is about.
    #[serde(default)]
    pub desc: String,
    /// The requests, one after the other.
    #[serde(default)]
    pub stages: Vec<Stage>,
}

/// A request and what must come of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Stage {
    /// The request.
    pub input: Input,
    /// What must come of it.
    #[serde(default)]
    pub output: Output,
}

/// A request as the file describes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Input {
    /// The method; `GET` when absent.
    pub method: Option<String>,
    /// The target; `/` when absent.
    pub uri: Option<String>,
    /// The protocol; `HTTP/1.1` when absent.
    pub version: Option<String>,
    /// The fields in order.
    pub headers: serde_norway::Mapping,
    /// The body.
    pub data: Option<String>,
    /// The whole request, base64-encoded; then nothing else counts.
    pub encoded_request: Option<String>,
    /// Whether Content-Length, Content-Type and Connection are added; they are when absent.
    pub autocomplete_headers: Option<bool>,
}

/// What must come of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Output {
    /// What the log must and must not say.
    pub log: Log,
    /// The status of the answer.
    pub status: Option<u16>,
    /// Whether the connection is expected to fail.
    pub expect_error: bool,
}

/// What the log must and must not say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Rules that must be logged.
    pub expect_ids: Vec<u32>,
    /// Rules that must not be logged.
    pub no_expect_ids: Vec<u32>,
    /// A pattern some line must match.
    pub match_regex: Option<String>,
    /// A pattern no line may match.
    pub no_match_regex: Option<String>,
}

impl Log {
    /// Whether nothing is said about the log.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expect_ids.is_empty()
            && self.no_expect_ids.is_empty()
            && self.match_regex.is_none()
            && self.no_match_regex.is_none()
    }

    /// What was expected of the log and is not so, a few words each. `lines` is the log of the request in ModSecurity's
    /// form; a rule has fired when it is in there as `[id "942100"]`.
    ///
    /// # Errors
    /// When a pattern is none.
    pub fn unmet(&self, lines: &str) -> Result<Vec<String>, regex::Error> {
        let fired = |id: &&u32| lines.contains(&format!("[id \"{id}\"]"));
        let says = |pattern: &str| Ok::<_, regex::Error>(regex::Regex::new(pattern)?.is_match(lines));
        let mut unmet: Vec<String> = Vec::new();
        unmet.extend(self.expect_ids.iter().filter(|id| !fired(id)).map(|id| format!("{id} did not fire")));
        unmet.extend(self.no_expect_ids.iter().filter(fired).map(|id| format!("{id} fired")));
        if let Some(pattern) = &self.match_regex
            && !says(pattern)?
        {
            unmet.push(format!("the log does not match `{pattern}`"));
        }
        if let Some(pattern) = &self.no_match_regex
            && says(pattern)?
        {
            unmet.push(format!("the log matches `{pattern}`"));
        }
        Ok(unmet)
    }
}

/// Why tests cannot be read.
#[derive(Debug)]
pub enum LoadError {
    /// A file or folder cannot be read.
    Read(PathBuf, io::Error),
    /// A file does not follow the schema: the reason, with line and column.
    Schema(PathBuf, String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Schema(path, reason) => {
                write!(f, "{}: not a file of go-ftw tests: {reason}", path.display())
            }
        }
    }
}

impl std::error::Error for LoadError {}

/// Reads a file of tests, or all `.yaml` and `.yml` files below a folder, sorted by path.
///
/// # Errors
/// When something cannot be read or does not follow the schema: the first such file.
pub fn load(path: &Path) -> Result<Vec<TestFile>, LoadError> {
    let mut paths = Vec::new();
    if path.is_dir() {
        collect(path, &mut paths)?;
        paths.sort();
    } else {
        paths.push(path.to_owned());
    }
    paths.into_iter().map(read).collect()
}

fn collect(root: &Path, paths: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        let failed = |error| LoadError::Read(folder.clone(), error);
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
                paths.push(path);
            }
        }
    }
    Ok(())
}

fn read(path: PathBuf) -> Result<TestFile, LoadError> {
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Err(LoadError::Read(path, error)),
    };
    match parse(&text) {
        Ok(file) => Ok(TestFile { path, ..file }),
        Err(reason) => Err(LoadError::Schema(path, reason)),
    }
}

/// Reads the text of one file of tests.
///
/// # Errors
/// When it does not follow the schema: the reason, with line and column.
pub fn parse(text: &str) -> Result<TestFile, String> {
    serde_norway::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_compared_with_all_that_was_expected_of_it() {
        let log = Log {
            expect_ids: vec![1, 22],
            no_expect_ids: vec![2, 3],
            match_regex: Some("data \"a+\"".to_owned()),
            no_match_regex: Some("^x".to_owned()),
        };
        let unmet = log.unmet("[id \"1\"] [data \"aa\"]\n[id \"3\"]\n").unwrap();
        assert_eq!(unmet, ["22 did not fire", "3 fired"]);
        let unmet = log.unmet("x[id \"1\"] [id \"22\"]").unwrap();
        assert_eq!(unmet, ["the log does not match `data \"a+\"`", "the log matches `^x`"]);
        assert!(Log { match_regex: Some("(".to_owned()), ..Log::default() }.unmet("").is_err());
        assert!(Log::default().is_empty() && !log.is_empty());
    }

    #[test]
    fn folders_are_read_whole_and_in_order_and_mistakes_name_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        write("b.yaml", "rule_id: 2");
        write("a/c.yml", "rule_id: 1");
        write("a/README.md", "no test");
        let ids = |path: &Path| load(path).unwrap().iter().map(|file| file.rule_id).collect::<Vec<_>>();
        assert_eq!(ids(folder.path()), [1, 2]);
        assert_eq!(ids(&folder.path().join("b.yaml")), [2]);
        write("d.yaml", "rule_id: many");
        let said = load(folder.path()).unwrap_err().to_string();
        assert!(said.contains("d.yaml") && said.contains("line 1"), "{said}");
        let said = load(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(said.contains("absent"), "{said}");
    }
}
