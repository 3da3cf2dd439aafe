//! One immutable compiled configuration, and the one place from which it is read.

use crate::acme::Managed;
use crate::arrival::ProxyPlan;
use crate::health;
use crate::inputs::Inputs;
use crate::plan::{self, RoutePlan};
use crate::router::Router;
use crate::rules::{self, Rules};
use crate::shared::Shared;
use crate::term::Term;
use crate::tls::TlsPlan;
use arc_swap::ArcSwap;
use portcullis_config::{Config, ResponseHeaders};
use portcullis_diag::{Diagnostics, SourceMap};
use portcullis_http::{DestinationPolicy, Fields, Tolerance, TrustedProxies};
use portcullis_identity::{Moment, Provider};
use portcullis_limits::AddressList;
use portcullis_telemetry::{AccessLog, ListenerMetrics, RouteMetrics};
use portcullis_upstream::Upstreams;
use portcullis_waf::BuildOptions;
use portcullis_wire::server::ServerSettings;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// All that a request needs to know of the configuration, compiled.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) shared: Arc<Shared>,
    /// Names the content of all files it was made from.
    pub(crate) hash: String,
    /// Those files, for watching them.
    pub(crate) inputs: BTreeSet<PathBuf>,
    /// Settings that take a restart to change, by name.
    pub(crate) fixed: BTreeMap<String, String>,
    pub(crate) threads: usize,
    pub(crate) grace: Duration,
    /// How long all is served as before once the process is no longer ready.
    pub(crate) shutdown_delay: Duration,
    /// How long what streams may go on when it is to end.
    pub(crate) stream_grace: Duration,
    /// The memory from which load is shed, where the configuration names it.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) admin: SocketAddr,
    pub(crate) via: String,
    /// Where the names that the gateway itself calls may lead to.
    pub(crate) destinations: DestinationPolicy,
    /// The field in which callers say how many milliseconds they wait, and upstreams are told.
    pub(crate) deadline_header: Option<Box<str>>,
    pub(crate) listeners: Vec<Arc<ListenerPlan>>,
    pub(crate) trusted_proxies: TrustedProxies,
    pub(crate) addresses: AddressList,
    pub(crate) coarse_rate: Option<plan::RatePlan>,
    pub(crate) router: Router,
    pub(crate) routes: Vec<Arc<RoutePlan>>,
    /// What any route tolerates of a target, which is read before its route is known.
    pub(crate) tolerance: Tolerance,
    /// Whether any route has a firewall: only its rules read what hygiene drops.
    pub(crate) inspects: bool,
    pub(crate) upstreams: Upstreams,
    providers: Vec<Arc<Provider>>,
    pub(crate) response_fields: ResponseFields,
    pub(crate) unmatched: RouteMetrics,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) firewall_log: Option<plan::FirewallLogPlan>,
    /// What is odd but not wrong, in the files or by the self-test.
    pub(crate) warnings: Vec<String>,
}

/// A listener's settings, compiled.
#[derive(Debug)]
pub(crate) struct ListenerPlan {
    pub(crate) name: Arc<str>,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<Arc<TlsPlan>>,
    /// The certificate that it gets by ACME.
    pub(crate) acme: Option<Arc<Managed>>,
    pub(crate) handshake: Duration,
    /// Load balancers that announce their clients, where the listener is theirs.
    pub(crate) proxy: Option<ProxyPlan>,
    /// Connections of one client, where they are limited.
    pub(crate) per_address: Option<u32>,
    /// One permit for each connection, where the listener has a limit of its own.
    pub(crate) connections: Option<Arc<Semaphore>>,
    pub(crate) settings: Arc<ServerSettings>,
    pub(crate) metrics: ListenerMetrics,
}

/// What is taken off answers and put on them.
#[derive(Debug, Default)]
pub(crate) struct ResponseFields {
    pub(crate) remove: Vec<String>,
    set: Vec<(String, String)>,
}

impl ResponseFields {
    fn new(config: &ResponseHeaders) -> Self {
        ResponseFields {
            remove: config.remove.iter().map(|name| name.as_str().to_owned()).collect(),
            set: config.set.iter().map(|(name, value)| (name.clone(), value.as_str().to_owned())).collect(),
        }
    }

    /// These, with a route's changes on top.
    pub(crate) fn with(&self, changes: &portcullis_config::HeaderChanges) -> Self {
        let removed = |name: &str| changes.remove.iter().any(|r| r.as_str().eq_ignore_ascii_case(name));
        let changed = |name: &str| changes.set.keys().any(|s| s.eq_ignore_ascii_case(name));
        let kept = self.set.iter().filter(|(name, _)| !removed(name) && !changed(name)).cloned();
        let set = changes.set.iter().map(|(name, value)| (name.clone(), value.as_str().to_owned()));
        let remove = changes.remove.iter().map(|name| name.as_str().to_owned());
        ResponseFields {
            remove: self.remove.iter().cloned().chain(remove).collect(),
            set: kept.chain(set).collect(),
        }
    }

    /// Puts the fields on an answer, in place of what the upstream sent under their names.
    pub(crate) fn write(&self, fields: &mut Fields) {
        for (name, value) in &self.set {
            fields.remove(name);
            fields.append_parsed(name.as_bytes(), value.as_bytes());
        }
    }
}

/// Why a configuration cannot be taken up: every finding, rendered with its place in the file.
#[derive(Debug)]
pub(crate) struct LoadError {
    text: String,
    /// The files of which one may mend it.
    pub(crate) inputs: BTreeSet<PathBuf>,
}

impl LoadError {
    pub(crate) fn new(text: impl Into<String>, inputs: BTreeSet<PathBuf>) -> Self {
        LoadError { text: text.into(), inputs }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end())
    }
}

impl std::error::Error for LoadError {}

/// A configuration and its rules, read and found sound, before anything of the process is touched.
pub(crate) struct Source {
    pub(crate) config: Config,
    pub(crate) rules: Rules,
    /// Findings that are no errors, rendered.
    warnings: Option<String>,
    hash: String,
    inputs: BTreeSet<PathBuf>,
}

impl Source {
    /// Reads the configuration and every file that it names.
    ///
    /// # Errors
    /// Everything that is wrong, in the configuration and in the rules.
    pub(crate) fn read(path: &Path) -> Result<Self, LoadError> {
        let (mut sources, inputs) = (SourceMap::new(), Inputs::new());
        match Self::load(path, &mut sources, &inputs) {
            Ok((config, rules, warnings)) => Ok(Source {
                hash: inputs.fingerprint(),
                inputs: inputs.files(),
                warnings: (!warnings.is_empty()).then(|| warnings.to_text(&sources).trim_end().to_owned()),
                config,
                rules,
            }),
            Err(found) => Err(LoadError::new(found.to_text(&sources), inputs.files())),
        }
    }

    fn load(
        path: &Path,
        sources: &mut SourceMap,
        inputs: &Inputs,
    ) -> Result<(Config, Rules, Diagnostics), Diagnostics> {
        inputs.note(path);
        let loaded = portcullis_config::load(path, sources, &portcullis_config::process_env).map_err(
            |mut found| {
                // Who has to mend the one wants to know of the other.
                let rules = rules::compile(
                    &portcullis_config::rule_files(path),
                    sources,
                    inputs,
                    BuildOptions::default(),
                );
                found.append(rules.err().unwrap_or_default());
                found
            },
        )?;
        for file in named_files(&loaded.config) {
            inputs.note(&file);
        }
        let mut warnings = loaded.warnings;
        match rules::load(&loaded.config, sources, inputs) {
            Ok(rules) => {
                warnings.append(rules.warnings.clone());
                Ok((loaded.config, rules, warnings))
            }
            Err(mut found) => {
                found.append(warnings);
                Err(found)
            }
        }
    }
}

/// Certificates and keys that the configuration names.
fn named_files(config: &Config) -> Vec<PathBuf> {
    let mut files: Vec<&Path> = Vec::new();
    for tls in config.listener.iter().filter_map(|listener| listener.tls.as_ref()) {
        files.extend(
            tls.certificates.iter().flat_map(|pair| [pair.certificate.as_path(), pair.key.as_path()]),
        );
        let clients = tls.client_auth.iter();
        files.extend(
            clients.flat_map(|auth| auth.crl_files.iter().chain([&auth.ca_file])).map(PathBuf::as_path),
        );
        files.extend(tls.acme.iter().filter_map(|acme| acme.ca_file.as_deref()));
    }
    for tls in config.upstream.values().filter_map(|upstream| upstream.tls.as_ref()) {
        files.extend([&tls.ca_file, &tls.certificate, &tls.key].into_iter().flatten().map(PathBuf::as_path));
    }
    for identity in config.identity.values() {
        files.extend(identity.jwks_file.as_deref());
        files.extend(identity.keys.iter().filter_map(|key| key.public_key_file.as_deref()));
    }
    files.into_iter().map(|file| config.resolve(file)).collect()
}

impl Snapshot {
    /// Reads and compiles a configuration.
    ///
    /// # Errors
    /// As [`Source::read`] and [`Snapshot::compile`].
    pub(crate) fn load(
        path: &Path,
        shared: &Arc<Shared>,
        previous: Option<&Snapshot>,
    ) -> Result<Self, LoadError> {
        Snapshot::compile(Source::read(path)?, shared, previous)
    }

    /// Compiles what was read. Upstreams carry over the pools and counters of `previous`.
    ///
    /// # Errors
    /// All that only shows now: certificates, keys, patterns, exclusions of rules that do not exist.
    pub(crate) fn compile(
        source: Source,
        shared: &Arc<Shared>,
        previous: Option<&Snapshot>,
    ) -> Result<Self, LoadError> {
        let Source { config, rules, hash, inputs, warnings } = source;
        let mut errors = Vec::new();
        let upstreams =
            keep(&mut errors, plan::upstreams(&config, previous.map(|snapshot| &snapshot.upstreams)))
                .unwrap_or_default();
        let providers = keep(&mut errors, plan::providers(&config, shared)).unwrap_or_default();
        let response_fields = ResponseFields::new(&config.response_headers);
        let compiler = plan::Compiler {
            config: &config,
            shared,
            upstreams: &upstreams,
            providers: &providers,
            rules: &rules,
            response_fields: &response_fields,
            terms: previous
                .iter()
                .flat_map(|snapshot| &snapshot.routes)
                .map(|route| (&*route.name, &route.term))
                .collect(),
        };
        let mut router = Router::default();
        let mut routes = Vec::with_capacity(config.route.len());
        for (at, route) in config.route.iter().enumerate() {
            keep(
                &mut errors,
                router
                    .add(at, &route.matches)
                    .map_err(|error| vec![format!("route `{}`: {error}", route.name)]),
            );
            routes.extend(keep(&mut errors, compiler.route(route)).map(Arc::new));
        }
        let mut listeners = Vec::with_capacity(config.listener.len());
        for listener in &config.listener {
            let before = previous.and_then(|snapshot| snapshot.listener(&listener.name));
            let plan = plan::listener(&config, listener, shared, before.as_deref());
            listeners.extend(keep(&mut errors, plan).map(Arc::new));
        }
        let firewall_log = keep(&mut errors, plan::firewall_log(&config, shared, &rules)).flatten();
        let coarse_rate = keep(&mut errors, plan::rate(shared, None, &config.rate_limit)).flatten();
        if !errors.is_empty() {
            let odd = warnings.iter().map(|warning| format!("{warning}\n"));
            return Err(LoadError::new(
                odd.chain(errors.iter().map(|error| format!("error: {error}\n"))).collect::<String>(),
                inputs,
            ));
        }
        let odd = routes.iter().filter_map(|route| crate::selftest::plain_request(route));
        let doubtful = listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let doubtful = doubtful.flat_map(|tls| tls.warnings.iter().cloned());
        let warnings = warnings.into_iter().chain(odd).chain(doubtful).collect();
        Ok(Snapshot {
            warnings,
            hash,
            inputs,
            fixed: fixed(&config),
            threads: threads(&config),
            grace: config.server.grace.get(),
            shutdown_delay: config.server.shutdown_delay.get(),
            stream_grace: config.server.stream_grace.get(),
            memory_limit: config.server.memory_limit.map(portcullis_config::ByteSize::get),
            admin: config.admin.listen,
            via: config.server.name.clone(),
            destinations: plan::destinations(&config.server.destinations),
            deadline_header: config.server.deadline_header.as_ref().map(|name| name.as_str().into()),
            listeners,
            trusted_proxies: plan::trusted_proxies(&config.server),
            addresses: plan::addresses(&config.addresses),
            coarse_rate,
            router,
            inspects: routes.iter().any(|route| route.firewall.is_some()),
            tolerance: routes.iter().fold(Tolerance::default(), |all, route| all.or(route.reads())),
            routes,
            upstreams,
            providers: providers.into_values().collect(),
            response_fields,
            unmatched: shared.metrics.unmatched(),
            firewall_log,
            access_log: config.log.access.then(|| AccessLog::new(shared.log.clone(), shared.log_format)),
            shared: shared.clone(),
        })
    }

    /// Logs what is odd but not wrong.
    pub(crate) fn warn(&self) {
        for warning in &self.warnings {
            tracing::warn!("the configuration is odd:\n{warning}");
        }
    }

    /// Takes up where names may lead to, fetches the key sets that are not there yet, so that the first request need not wait for them, and sees to it that
    /// certificates are ordered.
    pub(crate) fn warm_up(&self) {
        let managed: Vec<_> = self.listeners.iter().filter_map(|listener| listener.acme.clone()).collect();
        self.shared.resolver.go_by(self.destinations.clone());
        self.shared.acme.follow(&managed);
        for provider in &self.providers {
            let provider = provider.clone();
            tokio::spawn(async move { provider.warm_up(Moment::now()).await });
        }
    }

    /// How many firewall rules there are, in words.
    pub(crate) fn describe_rules(&self) -> String {
        let count = self
            .routes
            .iter()
            .find_map(|route| route.firewall.as_ref())
            .map(|firewall| firewall.program.rule_count());
        count.map_or_else(|| "no firewall rules".to_owned(), |count| format!("{count} firewall rules"))
    }

    /// Brings what is told of endpoints and their pools up to date, as a scrape asks for.
    pub(crate) fn publish_pools(&self) {
        for upstream in self.upstreams.iter() {
            let metrics = &self.shared.metrics;
            upstream.drain_requests(|endpoint, count| metrics.endpoint(upstream.name(), endpoint, count));
            let gauges = metrics.upstream(upstream.name());
            let (open, idle) = upstream
                .stats()
                .iter()
                .fold((0, 0), |(open, idle), endpoint| (open + endpoint.open, idle + endpoint.idle));
            gauges.open.set(i64::try_from(open).unwrap_or(i64::MAX));
            gauges.idle.set(i64::try_from(idle).unwrap_or(i64::MAX));
            health::publish(upstream, &self.shared.metrics);
        }
    }

    /// Brings the gauges of what expires up to date, as a scrape asks for.
    pub(crate) fn publish_expiries(&self) {
        for listener in &self.listeners {
            if let Some(tls) = &listener.tls {
                self.shared.metrics.expiries(
                    &listener.name,
                    tls.certificates_expire,
                    tls.revocation_lists_expire,
                );
            }
        }
    }

    /// The listener of this name.
    pub(crate) fn listener(&self, name: &str) -> Option<Arc<ListenerPlan>> {
        self.listeners.iter().find(|plan| &*plan.name == name).cloned()
    }
}

/// Collects errors instead of stopping at the first.
fn keep<T>(errors: &mut Vec<String>, result: Result<T, Vec<String>>) -> Option<T> {
    result.map_err(|mut found| errors.append(&mut found)).ok()
}

/// What of a configuration is settled when the process starts: sockets, threads, and what is sized once.
fn fixed(config: &Config) -> BTreeMap<String, String> {
    let server = &config.server;
    let addresses = config.listener.iter().map(|listener| {
        (format!("the address of listener `{}`", listener.name), listener.address.to_string())
    });
    let process = [
        ("`admin.listen`", config.admin.listen.to_string()),
        ("`server.threads`", threads(config).to_string()),
        (
            "`server.max_connections`",
            server.max_connections.map_or_else(String::new, |most| most.to_string()),
        ),
        ("`server.body_budget`", server.body_budget.to_string()),
        ("`log.format`", format!("{:?}", config.log.format)),
        ("`log.level`", config.log.level.as_str().to_owned()),
    ];
    addresses.chain(process.map(|(name, value)| (name.to_owned(), value))).collect()
}

fn threads(config: &Config) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    config.server.threads.map_or(cores, usize::from)
}

/// The running snapshot. Clones share it; reading it takes no lock.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots(Arc<ArcSwap<Snapshot>>);

impl Snapshots {
    pub(crate) fn new(first: Snapshot) -> Self {
        Snapshots(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// The snapshot to serve a request with, from its first byte to its last.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts another in its place. Requests that have begun end on the one they began with; what streams on routes that
    /// are no longer what they were has its grace.
    pub(crate) fn swap(&self, next: Snapshot) {
        let kept: HashSet<*const Term> = next.routes.iter().map(|route| Arc::as_ptr(&route.term)).collect();
        let before = self.0.swap(Arc::new(next));
        for route in &before.routes {
            if !kept.contains(&Arc::as_ptr(&route.term)) {
                route.term.end();
            }
        }
    }
}
