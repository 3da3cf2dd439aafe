//! One request before the rules of one route: what `explain` and `suggest-exclusion` are about.

use super::message::{Request, Response};
use super::{NamedRules, curl};
use crate::plan;
use clap::Args;
use portcullis_config::FirewallMode;
use portcullis_waf::trace::{Trace, Watch};
use portcullis_waf::{Mode, Overlay, OverlaySettings, Program, Report, Transaction};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which rules, with whose settings.
#[derive(Debug, Args)]
pub(super) struct SubjectArgs {
    #[command(flatten)]
    rules: NamedRules,
    /// The route of the configuration whose settings and exclusions apply; without it, those of `[firewall]`.
    #[arg(long, value_name = "NAME", conflicts_with = "files")]
    route: Option<String>,
    /// Paranoia level, instead of that of the configuration or of the rule files.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=4))]
    paranoia: Option<u8>,
    /// The client's address.
    #[arg(long, value_name = "IP", default_value = "203.0.113.7")]
    client: IpAddr,
}

/// Rules, and what a route wants of them.
pub(super) struct Subject {
    pub(super) program: Arc<Program>,
    pub(super) settings: OverlaySettings,
    /// `None` for the settings of `[firewall]`, and where no configuration was used.
    pub(super) route: Option<String>,
    client: IpAddr,
}

/// A request, with the response to it if that is at hand.
pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) response: Option<Response>,
}

impl SubjectArgs {
    /// Loads the rules. `route` stands in where the command line names no route.
    ///
    /// # Errors
    /// What is wrong with the rules or the configuration; a route that it does not have.
    pub(super) fn load(&self, route: Option<&str>) -> Result<Subject, String> {
        let (program, config) = self.rules.load()?;
        let route = self.route.as_deref().or(route.filter(|_| config.is_some()));
        let mut settings = OverlaySettings::default();
        if let Some(config) = &config {
            settings = match route {
                None => plan::firewall(&config.firewall),
                Some(name) => {
                    let found = config.route.iter().find(|route| route.name == name);
                    let known = config.route.iter().map(|route| route.name.as_str());
                    let hint = || portcullis_diag::suggest(name, known);
                    let route = found.ok_or_else(|| {
                        let hint = hint().map(|hint| format!("; did you mean `{hint}`?")).unwrap_or_default();
                        format!("the configuration has no route `{name}`{hint}")
                    })?;
                    if route.firewall.mode.unwrap_or(config.firewall.mode) == FirewallMode::Off {
                        return Err(format!("the firewall is off on the route `{name}`"));
                    }
                    plan::route_firewall(config, route)
                }
            };
        }
        settings.paranoia = self.paranoia.or(settings.paranoia);
        Ok(Subject { program, settings, route: route.map(str::to_owned), client: self.client })
    }
}

impl Subject {
    /// The settings, compiled.
    ///
    /// # Errors
    /// What an exclusion names and the rules do not have.
    pub(super) fn overlay(&self, settings: &OverlaySettings) -> Result<Arc<Overlay>, String> {
        Overlay::compile(&self.program, settings).map(Arc::new).map_err(|error| error.to_string())
    }

    /// Takes the exchange through the rules, with an eye on them.
    pub(super) fn watch(&self, overlay: &Arc<Overlay>, exchange: &Exchange, watch: Watch) -> (Report, Trace) {
        let mut transaction = self.begin(overlay).watched(watch);
        exchange.request.judge(&mut transaction, self.client, exchange.response.as_ref());
        transaction.finish_watched()
    }

    /// Takes the exchange through the rules.
    pub(super) fn judge(&self, overlay: &Arc<Overlay>, exchange: &Exchange) -> Report {
        let mut transaction = self.begin(overlay);
        exchange.request.judge(&mut transaction, self.client, exchange.response.as_ref());
        transaction.finish()
    }

    fn begin(&self, overlay: &Arc<Overlay>) -> Transaction {
        Transaction::new(Arc::clone(&self.program), Arc::clone(overlay), "0194c1f2a7")
    }

    /// The mode of the route, or of the rule files.
    pub(super) fn mode(&self) -> Mode {
        self.settings.mode.unwrap_or(self.program.mode())
    }
}

/// Reads a request from a `curl` command.
///
/// # Errors
/// What is not understood of it.
pub(super) fn from_curl(command: &str) -> Result<Exchange, String> {
    Ok(Exchange { request: curl::request(command)?, response: None })
}

/// Reads a request, and the response if there is one, from files.
///
/// # Errors
/// What cannot be read.
pub(super) fn from_files(request: &Path, response: Option<&PathBuf>) -> Result<Exchange, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let place = |path: &Path, error: String| format!("{}: {error}", path.display());
    let response = match response {
        None => None,
        Some(path) => Some(Response::parse(&read(path)?).map_err(|error| place(path, error))?),
    };
    let request = Request::parse(&read(request)?).map_err(|error| place(request, error))?;
    Ok(Exchange { request, response })
}
