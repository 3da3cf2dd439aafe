//! The account of a request, for people.

use super::account::{Account, Condition, Removal, Rule, Value, Verdict};
use std::fmt::Write as _;

/// Longest value and argument that are shown in a line, in characters.
const WIDTH: usize = 100;
/// Most rules that are named in a line.
const RULES: usize = 10;

/// `brief`: of values, only those that matched or were excluded.
pub(super) fn of(account: &Account, brief: bool) -> String {
    let mut out = String::new();
    let request = &account.request;
    let _ = write!(out, "{} {} {}", request.method, request.target, request.version);
    let _ = write!(out, ", {} fields, {} bytes of body", request.headers.len(), request.body_bytes);
    let _ = match &account.route {
        Some(route) => writeln!(out, ", route `{route}`"),
        None => writeln!(out),
    };
    for rule in &account.rules {
        out.push('\n');
        write_rule(rule, brief, &mut out);
    }
    out.push('\n');
    for removal in account.removed.iter().chain(&account.excluded) {
        write_removal(removal, &mut out);
    }
    if !account.partly.is_empty() {
        let shown: Vec<String> = account
            .partly
            .iter()
            .map(|rule| format!("{} ({} of {})", rule.id, rule.held, rule.chain))
            .collect();
        let _ = writeln!(out, "matched in part: {}", shown.join(", "));
    }
    let counts = &account.counts;
    let _ = writeln!(
        out,
        "{} rules matched, {} did not, {} were skipped, {} removed, {} not reached; {:.1} µs",
        counts.matched,
        counts.not_matched,
        counts.skipped,
        counts.removed,
        counts.not_reached,
        account.nanoseconds as f64 / 1000.0
    );
    write_verdict(&account.verdict, &mut out);
    out
}

fn write_rule(rule: &Rule, brief: bool, out: &mut String) {
    let asked = rule.conditions.len();
    let outcome = match (rule.outcome, rule.by) {
        ("not_matched", _) if rule.chain > 1 => format!("no match at condition {asked} of {}", rule.chain),
        ("not_matched", _) => "no match".to_owned(),
        ("skipped", Some(by)) => format!("skipped by rule {by}"),
        ("removed", Some(by)) => format!("removed by rule {by}"),
        ("removed", None) => "removed by an exclusion of the route".to_owned(),
        ("not_reached", _) => "not reached: the phase had ended".to_owned(),
        (outcome, _) => outcome.to_owned(),
    };
    let _ = write!(out, "{} {outcome}", rule.id);
    for (name, amount) in &rule.scores {
        let _ = write!(out, ", {name} {amount:+}");
    }
    let _ = writeln!(out, ", phase {}, {:.1} µs", rule.phase, rule.nanoseconds as f64 / 1000.0);
    if !rule.message.is_empty() {
        let _ = writeln!(out, "  {}", rule.message);
    }
    let _ = writeln!(out, "  {}:{}", rule.file, rule.line);
    for condition in &rule.conditions {
        write_condition(condition, brief, out);
    }
}

fn write_condition(condition: &Condition, brief: bool, out: &mut String) {
    if condition.targets.is_empty() {
        out.push_str("  SecAction: always\n");
        return;
    }
    let not = if condition.operator.starts_with('!') { "!" } else { "" };
    let operator = condition.operator.trim_start_matches('!');
    let _ = write!(out, "  {} {not}@{operator} {}", cut(&condition.targets), cut(&condition.argument));
    if !condition.transformations.is_empty() {
        let _ = write!(out, "  (after {})", condition.transformations.join(", "));
    }
    out.push('\n');
    if condition.values.is_empty() {
        out.push_str("    there is no such variable in this request\n");
    }
    let mut more = condition.more;
    for value in &condition.values {
        if brief && !matches!(value.outcome, "matched" | "excluded") {
            more += 1;
            continue;
        }
        let _ = writeln!(out, "    {:<10}  {} = {}", outcome(value), value.variable, cut(&value.value));
    }
    match more {
        0 => {}
        1 => out.push_str("    and 1 more value without a match\n"),
        more => {
            let _ = writeln!(out, "    and {more} more values without a match");
        }
    }
}

fn write_removal(removal: &Removal, out: &mut String) {
    let by = removal.by.map_or_else(|| "exclusions of the route".to_owned(), |by| format!("rule {by}"));
    let ids: Vec<String> = removal.rules.iter().take(RULES).map(u32::to_string).collect();
    let _ = match &removal.variable {
        Some(variable) => write!(out, "{variable} kept by {by} from {}", ids.join(", ")),
        None => write!(out, "removed by {by}: {}", ids.join(", ")),
    };
    match removal.rules.len() - ids.len() {
        0 => out.push('\n'),
        more => {
            let _ = writeln!(out, " and {more} more");
        }
    }
}

fn outcome(value: &Value) -> String {
    match (value.outcome, value.by) {
        ("excluded", Some(by)) => format!("excluded by rule {by}"),
        ("excluded", None) => "excluded by the route".to_owned(),
        (outcome, _) => outcome.to_owned(),
    }
}

fn write_verdict(verdict: &Verdict, out: &mut String) {
    let _ = write!(out, "score {}", verdict.inbound_score);
    if let Some(threshold) = verdict.inbound_threshold {
        let _ = write!(out, " of {threshold}");
    }
    if verdict.outbound_score != 0 {
        let _ = write!(out, ", of the response {}", verdict.outbound_score);
    }
    if let Some(level) = verdict.blocking_paranoia {
        let _ = write!(out, ", paranoia level {level}");
        if let Some(detection) = verdict.detection_paranoia.filter(|detection| *detection != level) {
            let _ = write!(out, " (rules run up to {detection})");
        }
    }
    out.push('\n');
    for note in &verdict.notes {
        let _ = writeln!(out, "note: {note}");
    }
    let (Some(rule), Some(status)) = (verdict.rule, verdict.status) else {
        out.push_str("verdict: pass\n");
        return;
    };
    let would = if verdict.mode == "detect" { " (it only detects: it is let through)" } else { "" };
    let by = if rule == 0 { "a limit".to_owned() } else { format!("rule {rule}") };
    let _ = write!(out, "verdict: {} with {status} by {by}{would}", verdict.action);
    match verdict.message.as_deref().filter(|message| !message.is_empty()) {
        Some(message) => {
            let _ = writeln!(out, ": {message}");
        }
        None => out.push('\n'),
    }
}

/// The beginning of a text that is too long for a line.
fn cut(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
