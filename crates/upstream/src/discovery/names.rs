//! Endpoints out of names.

use super::Round;
use super::dns::{self, Asked, NameServers};
use super::settings::{DiscoverySettings, DiscoverySource, LookupCounts};
use super::slot::{Outcome, Pace, Slot};
use super::srv::{self, Service};
use crate::EndpointSettings;
use hickory_resolver::TokioResolver;
use portcullis_http::DestinationPolicy;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;
use tokio::task::JoinSet;

/// Questions that are asked at the same time.
const PARALLEL: usize = 16;

/// What is known of a name, and of the names that it leads to. Each question has a time to live and a last good answer of
/// its own.
#[derive(Debug)]
pub(crate) struct NameSearch {
    servers: NameServers,
    services: Slot<Service>,
    addresses: BTreeMap<String, Slot<IpAddr>>,
    /// What is wrong with which name.
    problems: BTreeMap<String, String>,
}

/// One round of asking.
struct Asking<'a> {
    settings: &'a DiscoverySettings,
    destinations: &'a DestinationPolicy,
    resolver: Result<TokioResolver, String>,
    pace: Pace,
    good: bool,
    counts: LookupCounts,
}

impl NameSearch {
    pub(crate) fn new(settings: &DiscoverySettings) -> Self {
        NameSearch {
            servers: NameServers::new(&settings.nameservers),
            services: Slot::default(),
            addresses: BTreeMap::new(),
            problems: BTreeMap::new(),
        }
    }

    /// Asks what is due.
    pub(crate) async fn round(
        &mut self,
        settings: &DiscoverySettings,
        destinations: &DestinationPolicy,
        pace: Pace,
    ) -> Round {
        let resolver = self.servers.resolver();
        let mut asking =
            Asking { settings, destinations, resolver, pace, good: false, counts: LookupCounts::default() };
        let targets = match &settings.source {
            DiscoverySource::Services { name } => {
                self.ask_services(&mut asking, name).await;
                self.services.known().iter().map(|service| service.target.clone()).collect()
            }
            DiscoverySource::Addresses { name, .. } => BTreeSet::from([name.clone()]),
            DiscoverySource::File { .. } => BTreeSet::new(),
        };
        let source = settings.source.name();
        self.addresses.retain(|name, _| targets.contains(name));
        self.problems.retain(|name, _| Some(name.as_str()) == source || targets.contains(name));
        self.ask_addresses(&mut asking, targets).await;
        if asking.counts.failed > 0 && settings.nameservers.is_empty() {
            self.servers.forget();
        }
        let slots = self.addresses.values().filter_map(Slot::due);
        let services =
            matches!(settings.source, DiscoverySource::Services { .. }).then(|| self.services.due());
        Round {
            endpoints: self.endpoints(&settings.source),
            next: slots.chain(services.flatten()).min().unwrap_or_else(|| Instant::now() + pace.min),
            good: asking.good,
            counts: asking.counts,
            problem: self.problems.values().next().cloned(),
        }
    }

    async fn ask_services(&mut self, asking: &mut Asking<'_>, name: &str) {
        if !self.services.is_due(Instant::now()) {
            return;
        }
        let asked = match &asking.resolver {
            Ok(resolver) => dns::services(resolver, name).await,
            Err(problem) => Asked { outcome: Outcome::Failed, problem: Some(problem.clone()) },
        };
        asking.count(&asked);
        note(&mut self.problems, name, asked.problem);
        self.services.note(asked.outcome, Instant::now(), &asking.pace);
    }

    async fn ask_addresses(&mut self, asking: &mut Asking<'_>, targets: BTreeSet<String>) {
        let now = Instant::now();
        let mut tasks: JoinSet<(String, Asked<IpAddr>)> = JoinSet::new();
        for name in targets {
            let slot = self.addresses.entry(name.clone()).or_default();
            if !slot.is_due(now) {
                continue;
            }
            let known = slot.known().to_vec();
            match &asking.resolver {
                Err(problem) => {
                    let asked = Asked { outcome: Outcome::Failed, problem: Some(problem.clone()) };
                    self.take_up(asking, &name, asked);
                }
                Ok(resolver) => {
                    // What a record names is absolute: no search domain applies to it.
                    let query = match &asking.settings.source {
                        DiscoverySource::Services { .. } => format!("{name}."),
                        _ => name.clone(),
                    };
                    let (resolver, family) = (resolver.clone(), asking.settings.family);
                    if tasks.len() >= PARALLEL
                        && let Some(Ok((name, asked))) = tasks.join_next().await
                    {
                        self.take_up(asking, &name, asked);
                    }
                    tasks.spawn(async move {
                        let asked = dns::addresses(&resolver, &query, family, &known).await;
                        (name, asked)
                    });
                }
            }
        }
        while let Some(done) = tasks.join_next().await {
            if let Ok((name, asked)) = done {
                self.take_up(asking, &name, asked);
            }
        }
    }

    fn take_up(&mut self, asking: &mut Asking<'_>, name: &str, asked: Asked<IpAddr>) {
        let asked = asking.judge(name, asked);
        asking.count(&asked);
        note(&mut self.problems, name, asked.problem);
        self.addresses.entry(name.to_owned()).or_default().note(asked.outcome, Instant::now(), &asking.pace);
    }

    fn endpoints(&self, source: &DiscoverySource) -> Vec<EndpointSettings> {
        let known = |name: &str| self.addresses.get(name).map_or(&[][..], Slot::known);
        match source {
            DiscoverySource::Addresses { name, port } => {
                known(name).iter().map(|ip| EndpointSettings::new(ip.to_string(), *port)).collect()
            }
            DiscoverySource::Services { .. } => srv::endpoints(self.services.known(), known),
            DiscoverySource::File { .. } => Vec::new(),
        }
    }
}

fn note(problems: &mut BTreeMap<String, String>, name: &str, problem: Option<String>) {
    match problem {
        Some(problem) => problems.insert(name.to_owned(), problem),
        None => problems.remove(name),
    };
}

impl Asking<'_> {
    fn count<T>(&mut self, asked: &Asked<T>) {
        match asked.outcome {
            Outcome::Found(..) => {
                self.good = true;
                self.counts.ok += 1;
            }
            Outcome::Empty(_) => self.counts.empty += 1,
            Outcome::Failed => self.counts.failed += 1,
        }
    }

    /// Takes out what may not be connected to. An answer of nothing else is none: whoever gave it does not get the last
    /// good one out of the way.
    fn judge(&mut self, name: &str, mut asked: Asked<IpAddr>) -> Asked<IpAddr> {
        let Outcome::Found(found, _) = &mut asked.outcome else { return asked };
        // Only the operator's own word makes a name the loopback's.
        let check = |ip: IpAddr| match self.settings.source {
            DiscoverySource::Addresses { .. } => self.destinations.check_name(name, ip),
            _ => self.destinations.check(ip),
        };
        let mut forbidden = 0;
        found.retain(|ip| match check(*ip) {
            Ok(()) => true,
            Err(why) => {
                forbidden += 1;
                asked.problem = Some(super::forbidden(&format!("{name} stands for {ip}"), why));
                false
            }
        });
        self.counts.forbidden += forbidden;
        if found.is_empty() {
            asked.outcome = Outcome::Failed;
        }
        asked
    }
}
