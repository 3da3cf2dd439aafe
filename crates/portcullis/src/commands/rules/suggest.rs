//! `portcullis rules suggest-exclusion`.

mod exclusion;
mod log;
mod search;

use super::subject::{self, Exchange, Subject, SubjectArgs};
use crate::commands::print;
use clap::Args;
use exclusion::Exclusion;
use search::{Outcome, search};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const HELP: &str = "The smallest set of exclusions with which the request is let through is searched by judging it \
    again, and printed as text to paste: for gateway.toml and in SecLang. From an access log, which does not have the \
    request, all rules that looked at something of it are named, and nothing can be verified.\n\n\
    Examples:\n  \
    portcullis rules suggest-exclusion -c gateway.toml --route search request.http\n  \
    portcullis rules suggest-exclusion -c gateway.toml 0194c1f2a7b3 --log access.log\n  \
    journalctl -u portcullis -o cat | portcullis rules suggest-exclusion 0194c1f2a7b3\n  \
    portcullis rules suggest-exclusion --rules crs --curl \"curl 'https://shop.example/?q=union+select'\"";

/// Options of `portcullis rules suggest-exclusion`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Suggest {
    /// The id of a request in a log, or a file with the request as HTTP/1.1 has it.
    #[arg(value_name = "REQUEST-ID|FILE", required_unless_present = "curl", conflicts_with = "curl")]
    request: Option<String>,
    /// The request as a curl command.
    #[arg(long, value_name = "COMMAND")]
    curl: Option<String>,
    /// The log that has the request: the access log in JSON, or the firewall's audit log. Without it, or as `-`, standard
    /// input.
    #[arg(long, value_name = "FILE", requires = "request")]
    log: Option<PathBuf>,
    #[command(flatten)]
    subject: SubjectArgs,
}

impl Suggest {
    pub(super) fn run(self) -> Result<(), String> {
        if let Some(command) = &self.curl {
            return self.for_request(&subject::from_curl(command)?, None);
        }
        let Some(request) = &self.request else { return Err("no request is named".to_owned()) };
        if self.log.is_none() && Path::new(request).is_file() {
            return self.for_request(&subject::from_files(Path::new(request), None)?, None);
        }
        let entry = log::find(self.log.as_deref(), request)?;
        if let Some(exchange) = entry.exchange.as_ref() {
            return self.for_request(exchange, Some(&entry));
        }
        self.for_record(&entry)
    }

    /// For a request that can be judged again.
    fn for_request(&self, exchange: &Exchange, entry: Option<&log::Entry>) -> Result<(), String> {
        let subject = self.subject.load(entry.and_then(|entry| entry.route.as_deref()))?;
        let found = search(&subject, exchange)?;
        if let Some(entry) = entry
            && !entry.matches.iter().all(|logged| found.matched.contains(&logged.rule))
        {
            // Secrets are masked in the log, and bodies often left out: this is not the request that was sent.
            return self.for_record(entry);
        }
        let text = match &found.outcome {
            Outcome::Passes => {
                let (score, route) = (found.before.score, named(subject.route.as_deref()));
                format!(
                    "The request is let through{route} as it is (score {score}): nothing is to be excluded.\n"
                )
            }
            Outcome::Helpless(why) => return Err(why.clone()),
            Outcome::Excluded(exclusions) => {
                let mut text = pasted(&subject, exclusions, &exchange.request.path());
                text.push_str(&verified(&found, exclusions));
                text
            }
        };
        print(&text)
    }

    /// For a request of which only the log's record is there.
    fn for_record(&self, entry: &log::Entry) -> Result<(), String> {
        let subject = self.subject.load(entry.route.as_deref())?;
        let exclusions = entry.exclusions(&subject);
        if exclusions.is_empty() {
            return Err(format!("{}: no rule matched that an exclusion would be for", entry.id));
        }
        let mut text = pasted(&subject, &exclusions, entry.path.as_deref().unwrap_or("/"));
        text.push_str(
            "\n# Not verified: the log does not have the request as it was sent. All rules it names are excluded for what \
             they\n# matched; give the request itself (a file, or --curl) for the smallest set, and to be sure.\n",
        );
        for exclusion in &exclusions {
            let _ = writeln!(text, "# Given up: {}", exclusion.given_up());
        }
        print(&text)
    }
}

fn named(route: Option<&str>) -> String {
    route.map(|route| format!(" on the route `{route}`")).unwrap_or_default()
}

/// The exclusions, as text for gateway.toml and in SecLang.
fn pasted(subject: &Subject, exclusions: &[Exclusion], path: &str) -> String {
    let mut text = match &subject.route {
        Some(route) => format!("# gateway.toml, below the [[route]] named `{route}`:\n"),
        None => {
            "# gateway.toml, below the [[route]] that the request takes (--route NAME uses its settings):\n"
                .to_owned()
        }
    };
    for exclusion in exclusions {
        text.push_str(&exclusion.toml());
    }
    let _ = write!(text, "\n# Or in SecLang, before the rules, for this path alone:\n");
    text.push_str(&exclusion::seclang_for_path(exclusions, path, &subject.program));
    let _ = write!(text, "\n# Or in SecLang, after the rules, for all requests:\n");
    for exclusion in exclusions {
        text.push_str(&exclusion.seclang());
    }
    text
}

fn verified(found: &search::Found, exclusions: &[Exclusion]) -> String {
    let (before, after) = (&found.before, &found.after);
    let refused = match before.rule {
        0 => "a limit".to_owned(),
        rule => format!("rule {rule}"),
    };
    let mut text = format!(
        "\n# Verified: with the exclusions for gateway.toml the request is let through, with a score of {}; without, \
         it\n# is refused by {refused}, with a score of {}.\n",
        after.score, before.score
    );
    for exclusion in exclusions {
        let _ = write!(text, "# Given up: {}", exclusion.given_up());
        let _ = match found.still.get(exclusion) {
            Some(0) | None => writeln!(text, "; no other rule looks at that"),
            Some(rules) => writeln!(text, "; {rules} other rules still do"),
        };
    }
    text
}
