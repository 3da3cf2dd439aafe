//! Learning endpoints while the gateway runs: from the domain name system, or from a file.
//!
//! A [`Discovery`] belongs to an upstream's name and settings, and outlives reloads that change neither. It asks its
//! source when answers grow old, keeps the last good ones ([`slot`]), leaves out what may not be connected to
//! ([`DestinationPolicy`]), and has the upstream's endpoints replaced where they are others than before. What it found
//! are addresses, and those are connected to: nothing is looked up again on a request's way.

mod dns;
mod document;
mod file;
mod files;
mod names;
mod settings;
mod slot;
mod srv;

pub use document::{DocumentError, DocumentFormat, parse_endpoints};
pub use settings::{DiscoverySettings, DiscoverySource, DiscoveryStatus, IpFamily, LookupCounts};

use crate::{EndpointSettings, SettingsError, TlsSettings};
use files::FileSearch;
use names::NameSearch;
use portcullis_http::{DestinationPolicy, Forbidden};
use slot::Pace;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The endpoints of one upstream, learnt.
#[derive(Debug)]
pub(crate) struct Discovery {
    upstream: String,
    settings: DiscoverySettings,
    destinations: DestinationPolicy,
    search: tokio::sync::Mutex<Search>,
    known: Mutex<Known>,
}

#[derive(Debug)]
enum Search {
    Names(Box<NameSearch>),
    File(Box<FileSearch>),
}

/// What is known, for whoever asks.
#[derive(Debug, Default)]
struct Known {
    /// Grows with each change of the endpoints.
    version: u64,
    endpoints: Arc<[EndpointSettings]>,
    asked: bool,
    good: Option<Instant>,
    problem: Option<String>,
    counts: LookupCounts,
}

/// What came of asking what was due.
struct Round {
    endpoints: Vec<EndpointSettings>,
    /// When something will be due again.
    next: Instant,
    /// Whether there was a good answer.
    good: bool,
    counts: LookupCounts,
    /// What is wrong, be it found just now or before.
    problem: Option<String>,
}

impl Discovery {
    pub(crate) fn new(upstream: &str, settings: DiscoverySettings, destinations: DestinationPolicy) -> Self {
        let search = match &settings.source {
            DiscoverySource::File { path } => Search::File(Box::new(FileSearch::new(path.clone()))),
            _ => Search::Names(Box::new(NameSearch::new(&settings))),
        };
        Discovery {
            upstream: upstream.to_owned(),
            settings,
            destinations,
            search: tokio::sync::Mutex::new(search),
            known: Mutex::default(),
        }
    }

    /// Whether it is what these settings ask for.
    pub(crate) fn is_for(&self, settings: &DiscoverySettings, destinations: &DestinationPolicy) -> bool {
        self.settings == *settings && self.destinations == *destinations
    }

    /// Sets the name that endpoints prove, where none is set and the source has one.
    ///
    /// # Errors
    /// Where no certificate can be for it.
    pub(crate) fn name_for(&self, upstream: &str, tls: &mut TlsSettings) -> Result<(), SettingsError> {
        if let (None, Some(name)) = (&tls.server_name, self.settings.source.server_name()) {
            tls.server_name = Some(name.to_owned());
            tls.server_name(upstream, name)?;
        }
        Ok(())
    }

    /// Whether the source has been asked, whatever came of it.
    pub(crate) fn was_asked(&self) -> bool {
        self.known().asked
    }

    /// The endpoints, and a number that is another where they are others.
    pub(crate) fn endpoints(&self) -> (u64, Arc<[EndpointSettings]>) {
        let known = self.known();
        (known.version, Arc::clone(&known.endpoints))
    }

    pub(crate) fn status(&self) -> DiscoveryStatus {
        let known = self.known();
        DiscoveryStatus {
            source: self.settings.source.to_string(),
            endpoints: known.endpoints.len(),
            age: known.good.map(|good| good.elapsed()),
            problem: known.problem.clone(),
        }
    }

    /// What has been counted since this was last asked.
    pub(crate) fn take_counts(&self) -> LookupCounts {
        std::mem::take(&mut self.known().counts)
    }

    /// Asks what is due; says when something will be again. Rounds do not overlap.
    pub(crate) async fn refresh(&self) -> Instant {
        let round = self.search.lock().await.round(&self.settings, &self.destinations).await;
        self.take_up(round)
    }

    fn take_up(&self, round: Round) -> Instant {
        let Round { endpoints, next, good, counts, problem } = round;
        let mut known = self.known();
        if known.problem != problem {
            let (upstream, source) = (&self.upstream, &self.settings.source);
            match &problem {
                Some(problem) => tracing::warn!(
                    %upstream, %source, problem,
                    "endpoints cannot be learnt as they should; the last good ones stay in use"
                ),
                None => tracing::info!(%upstream, %source, "endpoints can be learnt again"),
            }
        }
        known.asked = true;
        known.problem = problem;
        if good {
            known.good = Some(Instant::now());
        }
        known.counts.ok += counts.ok;
        known.counts.empty += counts.empty;
        known.counts.failed += counts.failed;
        known.counts.forbidden += counts.forbidden;
        if *known.endpoints != *endpoints {
            self.tell(&known.endpoints, &endpoints);
            known.version += 1;
            known.endpoints = endpoints.into();
        }
        next
    }

    fn tell(&self, before: &[EndpointSettings], after: &[EndpointSettings]) {
        let missing = |from: &[EndpointSettings], other: &[EndpointSettings]| {
            let known: std::collections::HashSet<String> =
                other.iter().map(EndpointSettings::address).collect();
            from.iter().filter(|endpoint| !known.contains(&endpoint.address())).count()
        };
        tracing::info!(
            upstream = %self.upstream,
            endpoints = after.len(),
            added = missing(after, before),
            removed = missing(before, after),
            "endpoints have changed"
        );
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Search {
    async fn round(&mut self, settings: &DiscoverySettings, destinations: &DestinationPolicy) -> Round {
        let pace = Pace { min: settings.min_ttl, max: settings.max_ttl, hold_empty: settings.hold_empty };
        match self {
            Search::Names(names) => names.round(settings, destinations, pace).await,
            Search::File(file) => file.round(destinations, pace).await,
        }
    }
}

/// What to say of an address that is left out.
fn forbidden(what: &str, why: Forbidden) -> String {
    format!("{what}, which is {why} and not connected to; if it is meant, allow it by `destinations.allow`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn discovery(path: &std::path::Path, hold: Duration, allow: &[&str]) -> Discovery {
        let settings = DiscoverySettings {
            hold_empty: hold,
            min_ttl: Duration::from_millis(1),
            ..DiscoverySettings::new(DiscoverySource::File { path: path.to_owned() })
        };
        let allow: Vec<_> = allow.iter().map(|network| network.parse().unwrap()).collect();
        Discovery::new("catalogue", settings, DestinationPolicy::new(allow, [], true))
    }

    fn addresses(discovery: &Discovery) -> Vec<String> {
        discovery.endpoints().1.iter().map(EndpointSettings::address).collect()
    }

    #[tokio::test]
    async fn a_file_from_its_first_reading_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endpoints.json");
        let discovery = discovery(&path, Duration::from_millis(300), &[]);
        assert!(!discovery.was_asked());
        discovery.refresh().await;
        assert!(discovery.was_asked() && addresses(&discovery).is_empty());
        assert!(discovery.status().problem.unwrap().contains("endpoints.json"));

        std::fs::write(&path, r#"["10.0.0.1:80", "10.0.0.2:80"]"#).unwrap();
        let next = discovery.refresh().await;
        assert!(next <= Instant::now() + Duration::from_secs(1));
        let (version, _) = discovery.endpoints();
        assert_eq!(addresses(&discovery), ["10.0.0.1:80", "10.0.0.2:80"]);
        discovery.refresh().await;
        assert_eq!(discovery.endpoints().0, version, "nothing has changed");

        std::fs::write(&path, "[").unwrap();
        discovery.refresh().await;
        let DiscoveryStatus { endpoints, problem, age, source } = discovery.status();
        let counts = discovery.take_counts();
        assert_eq!((endpoints, source), (2, format!("file {}", path.display())));
        assert!(problem.unwrap().contains("endpoints.json:1:1: EOF"));
        assert!(age.is_some());
        assert_eq!((counts.ok, counts.empty, counts.failed), (1, 0, 2));

        std::fs::write(&path, "[]").unwrap();
        discovery.refresh().await;
        assert_eq!(discovery.status().endpoints, 2, "held");
        tokio::time::sleep(Duration::from_millis(350)).await;
        discovery.refresh().await;
        assert_eq!(discovery.status().endpoints, 0);
        assert_eq!(
            discovery.take_counts(),
            LookupCounts { empty: 1, ..LookupCounts::default() },
            "said once"
        );

        std::fs::write(&path, r#"["10.0.0.3:80"]"#).unwrap();
        discovery.refresh().await;
        assert_eq!(addresses(&discovery), ["10.0.0.3:80"]);
        assert_eq!(discovery.status().problem, None);
    }

    #[tokio::test]
    async fn j1_what_a_file_may_not_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endpoints.json");
        let write = |text: &str| std::fs::write(&path, text).unwrap();
        let strict = discovery(&path, Duration::ZERO, &[]);
        write(
            r#"["10.0.0.1:80", "127.0.0.1:9090", "[::ffff:169.254.169.254]:80", "localhost:9090", "a.example:80"]"#,
        );
        strict.refresh().await;
        assert_eq!(addresses(&strict), ["10.0.0.1:80", "a.example:80"]);
        assert_eq!(strict.take_counts().forbidden, 3);
        assert!(strict.status().problem.unwrap().contains("loopback"));
        // Nothing but what is forbidden does not take the good ones away.
        write(r#"["169.254.169.254:80"]"#);
        strict.refresh().await;
        assert_eq!(addresses(&strict), ["10.0.0.1:80", "a.example:80"]);

        let local = discovery(&path, Duration::ZERO, &["127.0.0.0/8"]);
        write(r#"["127.0.0.1:9090", "localhost:9090", "[::1]:9090"]"#);
        local.refresh().await;
        assert_eq!(addresses(&local), ["127.0.0.1:9090", "localhost:9090"]);
    }
}
