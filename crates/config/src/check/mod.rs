//! Checks of meaning: what the types alone cannot say.
//!
//! Each check reports at the field it is about, and names the other place where two fields are at odds.

mod acme;
mod balance;
mod canary;
mod cors;
mod discovery;
mod firewall;
mod health;
mod identity;
mod listener;
mod protocol;
mod retry;
mod route;
mod tie;
mod upstream;

use std::collections::BTreeMap;
use std::path::Path;

use portcullis_diag::{Code, Diagnostic, Diagnostics, suggest};

use crate::codes;
use crate::model::Config;
use crate::spans::Spans;
use crate::walk::Walked;

/// Runs all checks. With `files`, what the configuration names must also exist on disk.
pub(crate) fn check(config: &Config, walked: &Walked, files: bool) -> Diagnostics {
    let mut checker = Checker {
        config,
        spans: &walked.spans,
        poisoned: &walked.poisoned,
        open_secrets: &walked.open_secrets,
        files,
        found: Diagnostics::new(),
        unused: Vec::new(),
    };
    checker.server();
    checker.listeners();
    checker.upstreams();
    checker.firewall();
    checker.identities();
    checker.global_limits();
    checker.header_names("response_headers.set", config.response_headers.set.keys());
    checker.deadline_header();
    checker.routes();
    checker.sensitive();
    checker.ties();
    let Checker { mut found, unused, poisoned, .. } = checker;
    if poisoned.is_empty() && !found.has_errors() {
        found.extend(unused);
    }
    found
}

/// Headers that say how a message is framed or where it goes: only the gateway itself may set them.
const RESERVED_HEADERS: [&str; 11] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// One run over a configuration.
struct Checker<'a> {
    config: &'a Config,
    spans: &'a Spans,
    poisoned: &'a [String],
    open_secrets: &'a [String],
    files: bool,
    found: Diagnostics,
    unused: Vec<Diagnostic>,
}

impl Checker<'_> {
    /// An error at a field's value.
    fn error(&self, code: Code, path: &str, message: impl Into<String>) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(code, message);
        diagnostic.span = self.spans.value(path);
        diagnostic
    }

    /// A warning at a field's value.
    fn warning(&self, code: Code, path: &str, message: impl Into<String>) -> Diagnostic {
        let mut diagnostic = Diagnostic::warning(code, message);
        diagnostic.span = self.spans.value(path);
        diagnostic
    }

    /// Adds a finding about these fields, unless the walk has put a placeholder into one of them.
    fn push(&mut self, paths: &[&str], diagnostic: Diagnostic) {
        if !paths.iter().any(|path| self.is_poisoned(path)) {
            self.found.push(diagnostic);
        }
    }

    fn is_poisoned(&self, path: &str) -> bool {
        let inside = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        self.poisoned.iter().any(|bad| inside(bad, path) || inside(path, bad))
    }

    /// Adds the place of another field to a finding.
    fn also(&self, diagnostic: Diagnostic, path: &str, text: &str) -> Diagnostic {
        match self.spans.value(path) {
            Some(span) => diagnostic.also(span, text),
            None => diagnostic,
        }
    }

    /// Reports values that stand twice. Gives nothing to what is poisoned.
    fn unique<V: Ord + std::fmt::Display>(&mut self, what: &str, items: impl Iterator<Item = (String, V)>) {
        let mut seen: BTreeMap<V, String> = BTreeMap::new();
        for (path, value) in items {
            if let Some(first) = seen.get(&value) {
                let diagnostic =
                    self.error(codes::DUPLICATE, &path, format!("{what} `{value}` stands twice"));
                let diagnostic = self.also(diagnostic, first, "first given here");
                self.push(&[&path, first], diagnostic);
            } else {
                seen.insert(value, path);
            }
        }
    }

    /// Reports a name that nothing defines.
    fn defined<'n>(
        &mut self,
        what: &str,
        name: &str,
        path: &str,
        names: impl Iterator<Item = &'n String> + Clone,
    ) {
        if names.clone().any(|known| known == name) {
            return;
        }
        let diagnostic = self.error(codes::UNDEFINED, path, format!("there is no {what} `{name}`"));
        let similar = suggest(name, names.clone().map(String::as_str)).map(|name| format!("\"{name}\""));
        let known: Vec<_> = names.map(|name| format!("`{name}`")).collect();
        let diagnostic = match (similar, known.is_empty()) {
            (Some(similar), _) => diagnostic.suggest(Some(similar)),
            (None, false) => diagnostic.note(format!("defined are {}", known.join(", "))),
            (None, true) => diagnostic.help(format!("define it with `[{what}.{name}]`")),
        };
        self.push(&[path], diagnostic);
    }

    /// Warns of something that no route uses. Not in a file with errors: a misspelt reference looks the same.
    fn unused(&mut self, what: &str, name: &str) {
        let path = format!("{what}.{name}");
        let diagnostic = self.warning(codes::UNUSED, &path, format!("no route uses the {what} `{name}`"));
        self.unused.push(diagnostic);
    }

    /// Reports a file that is not there.
    fn file(&mut self, path: &str, file: Option<&Path>) {
        let Some(file) = file.filter(|_| self.files) else { return };
        let full = self.config.resolve(file);
        // Asked first: opening a named pipe would wait for somebody to write into it.
        let problem = match std::fs::metadata(&full) {
            Ok(about) if about.is_file() => match std::fs::File::open(&full) {
                Ok(_) => return,
                Err(error) => error.to_string(),
            },
            Ok(_) => "it is not a file".to_owned(),
            Err(error) => error.to_string(),
        };
        let message = format!("cannot open `{}`", file.display());
        let diagnostic = self.error(codes::MISSING_FILE, path, message).label(problem);
        self.push(&[path], diagnostic.note(format!("looked for `{}`", full.display())));
    }

    /// Reports headers of a map that only the gateway may set.
    fn header_names<'n>(&mut self, path: &str, names: impl Iterator<Item = &'n String>) {
        for name in names {
            if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                let path = format!("{path}.{name}");
                let message = format!("the gateway itself sets `{name}`");
                let diagnostic = self.error(codes::UNSAFE, &path, message).help("leave it out");
                self.push(&[&path], diagnostic);
            }
        }
    }

    fn server(&mut self) {
        let config = self.config;
        if config.listener.is_empty() {
            let diagnostic = self
                .error(codes::MISSING_FIELD, "listener", "no listener takes requests")
                .help("add `[[listener]]` with a `name` and an `address`");
            self.push(&["listener"], diagnostic);
        }
        let budget = config.server.body_budget;
        let mut fits = |path: &str, size: crate::value::ByteSize| {
            if size > budget {
                let message = format!("`{path}` is more than the whole process may hold ({budget})");
                let diagnostic = self.error(codes::CONFLICT, path, message);
                let diagnostic = self.also(diagnostic, "server.body_budget", "the budget of the process");
                self.push(&[path, "server.body_budget"], diagnostic);
            }
        };
        fits("firewall.request_body_limit", config.firewall.request_body_limit);
        fits("firewall.response_body_limit", config.firewall.response_body_limit);
        for (index, route) in config.route.iter().enumerate() {
            if let (Some(limit), crate::model::BodyMode::Buffer) = (route.body_limit(), route.body.mode) {
                fits(&format!("route[{index}].body.limit"), limit);
            }
        }
    }

    fn global_limits(&mut self) {
        let limits = &self.config.rate_limit;
        for (index, limit) in limits.iter().enumerate() {
            if limit.key != crate::value::RateKey::Address {
                let path = format!("rate_limit[{index}].key");
                let message = format!("a limit over all routes cannot count by `{}`", limit.key);
                let diagnostic = self
                    .error(codes::CONFLICT, &path, message)
                    .help("it runs before anybody is identified: write \"address\", or put it on a route");
                self.push(&[&path], diagnostic);
            }
        }
        let names = limits.iter().enumerate();
        let names = names
            .filter_map(|(index, limit)| Some((format!("rate_limit[{index}].name"), limit.name.clone()?)));
        self.unique("the rate limit", names);
    }
}
