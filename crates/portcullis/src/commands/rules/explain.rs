//! `portcullis rules explain`.

mod account;
mod text;

use super::subject::{self, Exchange, Subject, SubjectArgs};
use crate::commands::print;
use account::Account;
use clap::Args;
use portcullis_waf::trace::{RuleTrace, Trace, Watch};
use portcullis_waf::{Overlay, Report};
use std::path::PathBuf;
use std::sync::Arc;

/// How often the request is judged for its times.
const TIMED: usize = 20;

const HELP: &str = "Each rule is shown with what it saw after transformations and why it did or did not match:\n  \
    matched       the operator held for this value\n  \
    no match      the operator was asked and did not hold\n  \
    no literal    the value has none of the texts that every match of the pattern has: the pattern was not asked\n  \
    too little    the value is too short for the pattern, or lacks bytes that every match has: not asked\n  \
    excluded      an exclusion of the route, or a ctl of the rule named, keeps the value from the rule\n\
    Times are of the fastest of 20 runs; what several rules share is paid by the first of them.\n\n\
    Examples:\n  \
    portcullis rules explain --curl \"curl 'https://shop.example/search?q=union+select' -H 'Accept: */*'\"\n  \
    portcullis rules explain -c gateway.toml --route search --request request.http --rule 942100\n  \
    portcullis rules explain --rules crs-setup.conf --rules crs/rules --request request.http --all --json";

/// Options of `portcullis rules explain`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Explain {
    /// The request as a curl command, such as a browser's "Copy as cURL (bash)" gives.
    #[arg(long, value_name = "COMMAND", required_unless_present = "request")]
    curl: Option<String>,
    /// A file with the request as HTTP/1.1 has it: request line, fields, empty line, body.
    #[arg(long, value_name = "FILE", conflicts_with = "curl")]
    request: Option<PathBuf>,
    /// A file with the response in the same way: status line, fields, empty line, body. Without it, only the rules for
    /// requests run.
    #[arg(long, value_name = "FILE", requires = "request")]
    response: Option<PathBuf>,
    #[command(flatten)]
    subject: SubjectArgs,
    /// Only these rules, whatever came of them. May be given several times.
    #[arg(long = "rule", value_name = "ID")]
    ids: Vec<u32>,
    /// All rules; otherwise those that were reported, chains that matched in part, and those that exclusions kept a value from.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Result<(), String> {
        let exchange = match (&self.curl, &self.request) {
            (Some(command), _) => subject::from_curl(command)?,
            (None, Some(path)) => subject::from_files(path, self.response.as_ref())?,
            (None, None) => return Err("no request is named".to_owned()),
        };
        let subject = self.subject.load(None)?;
        if let Some(id) = self.ids.iter().find(|id| !subject.program.rules().any(|rule| rule.id == **id)) {
            return Err(format!("there is no rule {id}"));
        }
        let overlay = subject.overlay(&subject.settings)?;
        let (report, mut trace) = subject.watch(&overlay, &exchange, Watch::Everything);
        time(&subject, &overlay, &exchange, &mut trace);
        let account = Account::new(&subject, &exchange, &report, &trace, |rule| self.shows(rule, &report));
        if self.json {
            let text = serde_json::to_string_pretty(&account).map_err(|error| error.to_string())?;
            return print(&format!("{text}\n"));
        }
        print(&text::of(&account, !self.all && self.ids.is_empty()))
    }

    fn shows(&self, rule: &RuleTrace, report: &Report) -> bool {
        if !self.ids.is_empty() {
            return self.ids.contains(&rule.id);
        }
        self.all || account::is_telling(rule, report)
    }
}

/// Puts the times into the trace: the least of a few runs, as nothing makes a rule faster than it is.
fn time(subject: &Subject, overlay: &Arc<Overlay>, exchange: &Exchange, trace: &mut Trace) {
    for run in 0..TIMED {
        let (_, timed) = subject.watch(overlay, exchange, Watch::Costs);
        for (rule, timed) in trace.rules.iter_mut().zip(&timed.rules) {
            let least = if run == 0 { u64::MAX } else { rule.nanoseconds };
            rule.nanoseconds = least.min(timed.nanoseconds);
        }
    }
}
