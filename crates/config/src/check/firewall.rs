//! The firewall: rules, exclusions, logs of its own, rules on trial.

use std::path::Path;

use super::Checker;
use crate::codes;
use crate::files;
use crate::model::{Exclusion, FirewallMode};

impl Checker<'_> {
    pub(super) fn firewall(&mut self) {
        let firewall = &self.config.firewall;
        self.exclusions("firewall.exclusions", &firewall.exclusions);
        if let Some(shadow) = &firewall.shadow {
            self.exclusions("firewall.shadow.exclusions", shadow.exclusions.as_deref().unwrap_or_default());
        }
        self.firewall_log();
        if !self.files || firewall.mode == FirewallMode::Off {
            return;
        }
        self.rule_globs("firewall.rules", &firewall.rules);
        if let Some(rules) = firewall.shadow.as_ref().and_then(|shadow| shadow.rules.as_deref()) {
            self.rule_globs("firewall.shadow.rules", rules);
        }
    }

    /// What a route says of the firewall.
    pub(super) fn route_firewall(&mut self, path: &str, firewall: &crate::model::RouteFirewall) {
        self.exclusions(&format!("{path}.exclusions"), &firewall.exclusions);
        let Some(shadow) = &firewall.shadow else { return };
        let path = format!("{path}.shadow");
        self.exclusions(&format!("{path}.exclusions"), shadow.exclusions.as_deref().unwrap_or_default());
        if self.config.firewall.shadow.is_none() {
            let diagnostic =
                self.error(codes::CONFLICT, &path, "there is no shadow that the route could change");
            self.push(&[&path], diagnostic.help("add `[firewall.shadow]`"));
        }
    }

    fn rule_globs(&mut self, path: &str, patterns: &[String]) {
        for (index, pattern) in patterns.iter().enumerate() {
            if let Err(error) = files::expand(&self.config.base, pattern) {
                let path = format!("{path}[{index}]");
                let diagnostic =
                    self.error(codes::MISSING_FILE, &path, format!("no rules from `{pattern}`")).label(error);
                let diagnostic = diagnostic.note(format!("looked in `{}`", self.config.base.display()));
                self.push(&[&path], diagnostic);
            }
        }
    }

    fn firewall_log(&mut self) {
        let log = &self.config.firewall.log;
        let (error_log, audit_log) = ("firewall.log.error_log", "firewall.log.audit_log");
        self.log_file(error_log, log.error_log.as_deref());
        self.log_file(audit_log, log.audit_log.as_deref());
        if log.audit_log.is_some() && log.audit_log == log.error_log {
            let diagnostic = self.error(codes::CONFLICT, audit_log, "two logs cannot share one file");
            let diagnostic = self.also(diagnostic, error_log, "the other one");
            self.push(&[error_log, audit_log], diagnostic);
        }
        let audited = [
            ("audit", log.audit.is_some()),
            ("parts", log.parts.is_some()),
            ("relevant_status", !log.relevant_status.is_empty()),
        ];
        for (name, _) in audited.into_iter().filter(|(_, given)| *given && log.audit_log.is_none()) {
            let path = format!("firewall.log.{name}");
            let diagnostic = self
                .warning(codes::UNUSED, &path, format!("`{path}` has no effect without `{audit_log}`"))
                .help("give the file that audit entries are written to");
            self.push(&[&path], diagnostic);
        }
    }

    /// Reports a log file that cannot be written: the file itself may be absent, its folder may not.
    fn log_file(&mut self, path: &str, file: Option<&Path>) {
        let Some(file) = file.filter(|_| self.files) else { return };
        let full = self.config.resolve(file);
        let folder = full.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let problem = if !folder.is_dir() {
            format!("there is no folder `{}`", folder.display())
        } else if full.is_dir() {
            "it is a folder".to_owned()
        } else {
            return;
        };
        let message = format!("cannot write to `{}`", file.display());
        let diagnostic = self.error(codes::MISSING_FILE, path, message).label(problem);
        self.push(&[path], diagnostic.help("create the folder, writable for the gateway's user"));
    }

    fn exclusions(&mut self, path: &str, exclusions: &[Exclusion]) {
        for (index, exclusion) in exclusions.iter().enumerate() {
            self.exclusion(&format!("{path}[{index}]"), exclusion);
        }
    }

    fn exclusion(&mut self, path: &str, exclusion: &Exclusion) {
        let problem = match (&exclusion.rule, &exclusion.tag, &exclusion.target) {
            (None, None, None) => {
                Some(("the exclusion is empty", "give `rule` or `tag`, and `target` for a part"))
            }
            (Some(_), Some(_), _) => Some(("`rule` and `tag` exclude each other", "write two exclusions")),
            _ => None,
        };
        if let Some((problem, help)) = problem {
            let diagnostic = self.error(codes::CONFLICT, path, problem).help(help);
            self.push(&[path], diagnostic);
        }
        if exclusion.target.as_ref().is_some_and(|target| target.trim().is_empty()) {
            let path = format!("{path}.target");
            let diagnostic = self.error(codes::BAD_VALUE, &path, "the target is empty");
            self.push(&[&path], diagnostic.help("leave `target` out to exclude whole rules"));
        }
    }
}
