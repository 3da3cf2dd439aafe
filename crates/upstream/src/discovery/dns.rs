//! Asking the domain name system.

use super::settings::IpFamily;
use super::slot::Outcome;
use super::srv::Service;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// How long one name server may take for one try.
const TRY: Duration = Duration::from_secs(2);
/// How long a question may take, all servers and tries together.
const QUESTION: Duration = Duration::from_secs(5);

/// What came of a question, and what was wrong with it, in words.
#[derive(Clone, Debug)]
pub(crate) struct Asked<T> {
    pub(crate) outcome: Outcome<T>,
    pub(crate) problem: Option<String>,
}

/// Who is asked. It keeps nothing of the answers: how long they are true is [`Slot`](super::slot::Slot)'s to say.
#[derive(Clone, Debug)]
pub(crate) struct NameServers {
    servers: Box<[SocketAddr]>,
    resolver: Option<TokioResolver>,
}

impl NameServers {
    /// These servers; without any, those of `/etc/resolv.conf`, with its search domains.
    pub(crate) fn new(servers: &[SocketAddr]) -> Self {
        NameServers { servers: servers.into(), resolver: None }
    }

    /// The resolver, made where there is none.
    pub(crate) fn resolver(&mut self) -> Result<TokioResolver, String> {
        if let Some(resolver) = &self.resolver {
            return Ok(resolver.clone());
        }
        let resolver = build(&self.servers).map_err(|error| match error {
            error if self.servers.is_empty() => format!("/etc/resolv.conf: {error}"),
            error => error.to_string(),
        })?;
        self.resolver = Some(resolver.clone());
        Ok(resolver)
    }

    /// Reads the system's configuration again before the next question: it may name other servers by now.
    pub(crate) fn forget(&mut self) {
        self.resolver = None;
    }
}

fn build(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let (config, mut options) = if servers.is_empty() {
        hickory_resolver::system_conf::read_system_conf()?
    } else {
        let server = |address: &SocketAddr| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = address.port();
                connection
            });
            NameServerConfig::new(address.ip(), true, connections.into())
        };
        let servers = servers.iter().map(server).collect();
        (ResolverConfig::from_name_servers(servers), ResolverOpts::default())
    };
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = TRY.min(options.timeout);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build()
}

/// The addresses of a name, of the families that are wanted. `known` are those it had: they stand in for a family whose
/// records cannot be had while the other's can.
pub(crate) async fn addresses(
    resolver: &TokioResolver,
    name: &str,
    family: IpFamily,
    known: &[IpAddr],
) -> Asked<IpAddr> {
    let ask = |kind| {
        question(resolver, name, kind, |data| match data {
            RData::A(ip) => Some(IpAddr::V4(ip.0)),
            RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
            _ => None,
        })
    };
    match family {
        IpFamily::V4Only => ask(RecordType::A).await,
        IpFamily::V6Only => ask(RecordType::AAAA).await,
        IpFamily::V4Preferred => first(ask(RecordType::A), ask(RecordType::AAAA)).await,
        IpFamily::V6Preferred => first(ask(RecordType::AAAA), ask(RecordType::A)).await,
        IpFamily::All => {
            let (v4, v6) = tokio::join!(ask(RecordType::A), ask(RecordType::AAAA));
            both(v4, v6, known)
        }
    }
}

/// The second family counts only where the first is said not to be there: a server that fails must not move all
/// traffic to the other family.
async fn first(
    one: impl Future<Output = Asked<IpAddr>>,
    other: impl Future<Output = Asked<IpAddr>>,
) -> Asked<IpAddr> {
    match one.await {
        Asked { outcome: Outcome::Empty(_), .. } => other.await,
        asked => asked,
    }
}

fn both(v4: Asked<IpAddr>, v6: Asked<IpAddr>, known: &[IpAddr]) -> Asked<IpAddr> {
    let problem = v4.problem.or(v6.problem);
    let kept = |is_v4: bool| known.iter().copied().filter(move |ip| ip.is_ipv4() == is_v4);
    match (v4.outcome, v6.outcome) {
        (Outcome::Found(v4, one), Outcome::Found(v6, other)) => {
            let found = v4.into_iter().chain(v6).collect();
            Asked { outcome: Outcome::Found(found, one.min(other)), problem: None }
        }
        (found @ Outcome::Found(..), Outcome::Empty(_)) | (Outcome::Empty(_), found @ Outcome::Found(..)) => {
            Asked { outcome: found, problem: None }
        }
        // Asked again soon, for the sake of the family that failed.
        (Outcome::Found(v4, _), Outcome::Failed) => {
            let found = v4.into_iter().chain(kept(false)).collect();
            Asked { outcome: Outcome::Found(found, Duration::ZERO), problem }
        }
        (Outcome::Failed, Outcome::Found(v6, _)) => {
            let found = v6.into_iter().chain(kept(true)).collect();
            Asked { outcome: Outcome::Found(found, Duration::ZERO), problem }
        }
        (Outcome::Empty(one), Outcome::Empty(other)) => {
            Asked { outcome: Outcome::Empty(one.min(other)), problem }
        }
        (Outcome::Failed, _) | (_, Outcome::Failed) => Asked { outcome: Outcome::Failed, problem },
    }
}

/// The service records of a name. A target of `.` says that there is no such service (RFC 2782).
pub(crate) async fn services(resolver: &TokioResolver, name: &str) -> Asked<Service> {
    let mut asked = question(resolver, name, RecordType::SRV, |data| match data {
        RData::SRV(record) => Some(Service {
            priority: record.priority,
            weight: record.weight,
            port: record.port,
            target: record.target.to_ascii().trim_end_matches('.').to_ascii_lowercase(),
        }),
        _ => None,
    })
    .await;
    if let Outcome::Found(found, lifetime) = &mut asked.outcome {
        found.retain(|service| !service.target.is_empty() && service.port != 0);
        if found.is_empty() {
            let problem = format!("{name}: its service records say that there is no such service");
            return Asked { outcome: Outcome::Empty(Some(*lifetime)), problem: Some(problem) };
        }
    }
    asked
}

async fn question<T>(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
    read: impl Fn(&RData) -> Option<T>,
) -> Asked<T> {
    let problem = |what: String| Some(format!("{name} {kind}: {what}"));
    match timeout(QUESTION, resolver.lookup(name, kind)).await {
        Err(_) => Asked { outcome: Outcome::Failed, problem: problem("no answer within 5 s".to_owned()) },
        Ok(Ok(lookup)) => {
            let found: Vec<T> = lookup.answers().iter().filter_map(|record| read(&record.data)).collect();
            if found.is_empty() {
                return Asked {
                    outcome: Outcome::Empty(None),
                    problem: problem("no such records".to_owned()),
                };
            }
            Asked { outcome: Outcome::Found(found, lifetime(&lookup)), problem: None }
        }
        Ok(Err(error)) => match &error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => {
                let ttl = none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()));
                let what = if error.is_nx_domain() { "no such name" } else { "no such records" };
                Asked { outcome: Outcome::Empty(ttl), problem: problem(what.to_owned()) }
            }
            _ => Asked { outcome: Outcome::Failed, problem: problem(error.to_string()) },
        },
    }
}

/// The shortest time to live of an answer's records, aliases among them.
fn lifetime(lookup: &Lookup) -> Duration {
    let seconds = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    Duration::from_secs(seconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(outcome: Outcome<IpAddr>) -> Asked<IpAddr> {
        let problem = matches!(outcome, Outcome::Failed | Outcome::Empty(_)).then(|| "why".to_owned());
        Asked { outcome, problem }
    }

    fn found(ips: &[&str], seconds: u64) -> Outcome<IpAddr> {
        Outcome::Found(ips.iter().map(|ip| ip.parse().unwrap()).collect(), Duration::from_secs(seconds))
    }

    #[test]
    fn two_families_make_one_answer() {
        let known: Vec<IpAddr> = ["10.0.0.9", "fd00::9"].map(|ip| ip.parse().unwrap()).into();
        let empty = || Outcome::Empty(None);
        for (v4, v6, outcome, has_problem) in [
            (found(&["10.0.0.1"], 9), found(&["fd00::1"], 5), found(&["10.0.0.1", "fd00::1"], 5), false),
            (found(&["10.0.0.1"], 9), empty(), found(&["10.0.0.1"], 9), false),
            (empty(), found(&["fd00::1"], 5), found(&["fd00::1"], 5), false),
            (found(&["10.0.0.1"], 9), Outcome::Failed, found(&["10.0.0.1", "fd00::9"], 0), true),
            (Outcome::Failed, found(&["fd00::1"], 5), found(&["fd00::1", "10.0.0.9"], 0), true),
            (empty(), empty(), empty(), true),
            (empty(), Outcome::Failed, Outcome::Failed, true),
            (Outcome::Failed, Outcome::Failed, Outcome::Failed, true),
        ] {
            let Asked { outcome: got, problem } = both(asked(v4), asked(v6), &known);
            assert_eq!((got, problem.is_some()), (outcome, has_problem));
        }
    }

    #[tokio::test]
    async fn the_other_family_is_asked_only_where_the_first_is_not_there() {
        for (one, expected) in [
            (found(&["10.0.0.1"], 9), found(&["10.0.0.1"], 9)),
            (Outcome::Failed, Outcome::Failed),
            (Outcome::Empty(None), found(&["fd00::1"], 5)),
        ] {
            let other = async { asked(found(&["fd00::1"], 5)) };
            assert_eq!(first(async { asked(one) }, other).await.outcome, expected);
        }
    }
}
