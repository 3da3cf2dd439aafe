//! What routes want of the firewall: mode, exclusions, sampling, rules on trial; and the logs of its own.

use super::Compiler;
use crate::rules::Rules;
use crate::shared::Shared;
use portcullis_config as config;
use portcullis_config::Config;
use portcullis_telemetry::{AuditParts, ErrorFormat, FirewallLog, LogQueue, Producer, ShadowMetrics};
use portcullis_waf::{
    AuditEngine, AuditSettings, ExclusionSettings, Mode, Overlay, OverlaySettings, Parsers, Program, Report,
    RuleSelection,
};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

/// The rules and what a route wants of them.
#[derive(Debug)]
pub(crate) struct FirewallPlan {
    pub(crate) program: Arc<Program>,
    pub(crate) overlay: Arc<Overlay>,
    /// Which requests that overlay is for.
    pub(crate) sample: Sample,
    /// What the others get: the same in detection, or nothing.
    pub(crate) rest: Option<Arc<Overlay>>,
    pub(crate) shadow: Option<Arc<ShadowPlan>>,
}

/// Rules on trial.
#[derive(Debug)]
pub(crate) struct ShadowPlan {
    pub(crate) program: Arc<Program>,
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) sample: Sample,
    /// Whether it is also of interest that other rules matched, when the verdict is the same.
    pub(crate) compare_rules: bool,
    pub(crate) metrics: ShadowMetrics,
}

/// A share of requests, chosen at random.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample(config::Share);

impl Sample {
    pub(crate) fn new(share: config::Share) -> Self {
        Sample(share)
    }

    /// Whether this request is one of them.
    pub(crate) fn takes(self) -> bool {
        let Sample(share) = self;
        share == config::Share::ALL || fastrand::u32(0..config::Share::WHOLE) < share.parts()
    }
}

impl Compiler<'_> {
    pub(super) fn firewall(&self, route: &config::Route) -> Result<Option<FirewallPlan>, String> {
        let (firewall, own) = (&self.config.firewall, &route.firewall);
        let mode = own.mode.unwrap_or(firewall.mode);
        let (Some(program), false) = (&self.rules.program, mode == config::FirewallMode::Off) else {
            return Ok(None);
        };
        let settings = super::route_firewall(self.config, route);
        let compile = |settings: &OverlaySettings| {
            Overlay::compile(program, settings).map(Arc::new).map_err(|error| error.to_string())
        };
        let sample = own.sample.unwrap_or(firewall.sample);
        let in_detection = sample != config::Share::ALL
            && own.unsampled.unwrap_or(firewall.unsampled) == config::Unsampled::Detect;
        let rest = OverlaySettings { mode: Some(Mode::Detect), ..settings.clone() };
        Ok(Some(FirewallPlan {
            program: program.clone(),
            overlay: compile(&settings)?,
            sample: Sample(sample),
            rest: in_detection.then(|| compile(&rest)).transpose()?,
            shadow: self.shadow(route, settings)?.map(Arc::new),
        }))
    }

    fn shadow(&self, route: &config::Route, live: OverlaySettings) -> Result<Option<ShadowPlan>, String> {
        let (Some(shadow), Some(program)) = (&self.config.firewall.shadow, &self.rules.shadow) else {
            return Ok(None);
        };
        let default = config::RouteShadow::default();
        let own = route.firewall.shadow.as_ref().unwrap_or(&default);
        let sample = own.sample.unwrap_or(shadow.sample);
        if sample.parts() == 0 {
            return Ok(None);
        }
        let exclusions = match own.exclusions.as_ref().or(shadow.exclusions.as_ref()) {
            Some(exclusions) => exclusions.iter().flat_map(exclusion).collect(),
            // Those in force may be about rules that are not on trial.
            None => live.exclusions.iter().filter(|one| applies(program, one)).cloned().collect(),
        };
        let settings = OverlaySettings {
            // As if it were in force: what it decides is looked at and not followed.
            mode: Some(Mode::Block),
            paranoia: own.paranoia.or(shadow.paranoia).or(live.paranoia),
            inbound_threshold: own.inbound_threshold.or(shadow.inbound_threshold).or(live.inbound_threshold),
            outbound_threshold: own
                .outbound_threshold
                .or(shadow.outbound_threshold)
                .or(live.outbound_threshold),
            exclusions,
            on_trial: true,
            ..live
        };
        let overlay = Overlay::compile(program, &settings).map_err(|error| format!("shadow: {error}"))?;
        Ok(Some(ShadowPlan {
            program: program.clone(),
            overlay: Arc::new(overlay),
            sample: Sample(sample),
            compare_rules: shadow.compare == config::Compare::Rules,
            metrics: self.shared.metrics.shadow(&route.name),
        }))
    }
}

fn applies(program: &Program, exclusion: &ExclusionSettings) -> bool {
    let alone = OverlaySettings { exclusions: vec![exclusion.clone()], ..OverlaySettings::default() };
    Overlay::compile(program, &alone).is_ok()
}

/// What a route wants of the firewall: the global settings with its own on top.
pub(super) fn overlay(
    firewall: &config::Firewall,
    route: &config::RouteFirewall,
    mode: config::FirewallMode,
    body_limit: Option<config::ByteSize>,
) -> OverlaySettings {
    OverlaySettings {
        mode: Some(match mode {
            config::FirewallMode::Block => Mode::Block,
            config::FirewallMode::Detect => Mode::Detect,
            config::FirewallMode::Off => Mode::Off,
        }),
        paranoia: Some(route.paranoia.unwrap_or(firewall.paranoia)),
        inbound_threshold: Some(route.inbound_threshold.unwrap_or(firewall.inbound_threshold)),
        outbound_threshold: Some(route.outbound_threshold.unwrap_or(firewall.outbound_threshold)),
        // The route's own cap has already refused what is larger.
        request_body_limit: Some(
            firewall.request_body_limit.as_usize().max(body_limit.map_or(0, config::ByteSize::as_usize)),
        ),
        parsers: Parsers {
            json: route.parsers.contains(&config::Parser::Json),
            graphql: route.parsers.contains(&config::Parser::Graphql),
        },
        exclusions: firewall.exclusions.iter().chain(&route.exclusions).flat_map(exclusion).collect(),
        ..OverlaySettings::default()
    }
}

fn exclusion(exclusion: &config::Exclusion) -> Vec<ExclusionSettings> {
    let by_id = exclusion.rule.map(|rule| RuleSelection::Range(*rule.ids().start(), *rule.ids().end()));
    let by_tag = exclusion.tag.clone().map(RuleSelection::Tag);
    let all =
        (by_id.is_none() && by_tag.is_none() && exclusion.target.is_some()).then_some(RuleSelection::All);
    let rules = by_id.into_iter().chain(by_tag).chain(all);
    rules.map(|rules| ExclusionSettings { rules, target: exclusion.target.clone() }).collect()
}

/// The firewall's own logs and what they hold.
#[derive(Debug)]
pub(crate) struct FirewallLogPlan {
    pub(crate) log: FirewallLog,
    audit: Option<AuditPlan>,
}

/// Which requests get an audit entry and what of each: as the configuration says, and where it says nothing, as the
/// rules do.
#[derive(Debug)]
struct AuditPlan {
    audit: Option<config::Audit>,
    parts: Option<AuditParts>,
    relevant: Vec<(RangeInclusive<u16>, bool)>,
    by_rules: AuditSettings,
}

/// Opens the firewall's own logs; `None` where there are none.
///
/// # Errors
/// Which file cannot be opened, and why.
pub(crate) fn firewall_log(
    config: &Config,
    shared: &Shared,
    rules: &Rules,
) -> Result<Option<FirewallLogPlan>, Vec<String>> {
    let settings = &config.firewall.log;
    let Some(program) = &rules.program else { return Ok(None) };
    let open = |name: &str, file: &Path, log: &'static str| -> Result<LogQueue, Vec<String>> {
        let path = config.resolve(file);
        let opened = shared.logs.open(&path, log, &shared.metrics);
        opened
            .map_err(|error| vec![format!("firewall.log.{name}: cannot open `{}`: {error}", path.display())])
    };
    let format = match settings.error_format {
        config::ErrorFormat::Nginx => ErrorFormat::Nginx,
        config::ErrorFormat::Apache => ErrorFormat::Apache,
    };
    let error = match &settings.error_log {
        Some(file) => Some((open("error_log", file, "error")?, format)),
        None => None,
    };
    let audit = match settings.audit_log.as_ref().filter(|_| settings.audit != Some(config::Audit::Off)) {
        Some(file) => {
            let components = program.components().to_vec();
            let producer = Producer { server_id: config.server.name.clone(), components };
            Some((open("audit_log", file, "audit")?, producer))
        }
        None => None,
    };
    if error.is_none() && audit.is_none() {
        return Ok(None);
    }
    let audit_plan = audit.is_some().then(|| AuditPlan {
        audit: settings.audit,
        parts: settings.parts.as_ref().map(|parts| AuditParts::of(|letter| parts.has(letter))),
        relevant: settings
            .relevant_status
            .iter()
            .map(|status| (status.statuses(), !status.is_negated()))
            .collect(),
        by_rules: program.audit().clone(),
    });
    Ok(Some(FirewallLogPlan { log: FirewallLog::new(error, audit), audit: audit_plan }))
}

impl FirewallLogPlan {
    /// The parts of which evidence is to be kept, before the last rules have run: of a request that may become relevant.
    pub(crate) fn wants_evidence(&self, status: u16, any_match: bool) -> Option<AuditParts> {
        let audit = self.audit.as_ref()?;
        let parts = audit.parts.unwrap_or_else(|| without_bodies(audit.by_rules.parts));
        let relevant = any_match
            || audit.audit == Some(config::Audit::On)
            || audit.by_rules.engine == AuditEngine::On
            || audit.is_relevant(status);
        (parts.need_evidence() && relevant).then_some(parts)
    }

    /// The parts of the request's audit entry; `None` where it gets none.
    pub(crate) fn audited(&self, report: &Report, status: u16) -> Option<AuditParts> {
        let audit = self.audit.as_ref()?;
        let relevant = || report.matches.iter().any(|matched| matched.audit) || audit.is_relevant(status);
        let by_rules = || match report.audit_engine {
            AuditEngine::On => true,
            // Taken back for this request by `ctl:auditEngine`.
            AuditEngine::Off if audit.by_rules.engine != AuditEngine::Off => false,
            AuditEngine::Off | AuditEngine::RelevantOnly => relevant(),
        };
        let wanted = match audit.audit {
            Some(config::Audit::On) => true,
            Some(config::Audit::Relevant) => relevant(),
            Some(config::Audit::Off) => false,
            None => by_rules(),
        };
        wanted.then(|| audit.parts.unwrap_or_else(|| without_bodies(report.audit_parts)))
    }
}

impl AuditPlan {
    fn is_relevant(&self, status: u16) -> bool {
        if self.relevant.is_empty() {
            return self.by_rules.relevant_status.as_ref().is_some_and(|statuses| statuses.matches(status));
        }
        let last = self.relevant.iter().rfind(|(statuses, _)| statuses.contains(&status));
        last.is_some_and(|(_, relevant)| *relevant)
    }
}

/// Bodies are written only where the configuration asks for them.
fn without_bodies(parts: portcullis_waf::AuditParts) -> AuditParts {
    AuditParts::of(|letter| !matches!(letter, 'C' | 'E') && parts.contains(letter))
}
