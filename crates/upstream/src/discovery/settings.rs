//! What discovery is told, and what it tells.

use super::srv;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the endpoints of an upstream are learnt from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoverySource {
    /// The addresses of a name, all with one port.
    Addresses {
        /// The name.
        name: String,
        /// The port of every endpoint.
        port: u16,
    },
    /// The service records of a name (RFC 2782): their targets' addresses, with their ports, weights and priorities.
    Services {
        /// The name, usually with service and protocol in front: `_http._tcp.shop.example.com`.
        name: String,
    },
    /// A file that somebody else writes: JSON, or TOML where its name ends in `.toml`.
    File {
        /// Where it is.
        path: PathBuf,
    },
}

impl DiscoverySource {
    /// The name that is asked for, where one is.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            DiscoverySource::Addresses { name, .. } | DiscoverySource::Services { name } => Some(name),
            DiscoverySource::File { .. } => None,
        }
    }

    /// The name that endpoints prove over TLS where none is set: the one that was asked for, since what they are
    /// found as is whoever answered's choice. Endpoints of a file prove their own.
    pub(crate) fn server_name(&self) -> Option<&str> {
        match self {
            DiscoverySource::Addresses { name, .. } => Some(name.strip_suffix('.').unwrap_or(name)),
            DiscoverySource::Services { name } => Some(srv::domain(name)),
            DiscoverySource::File { .. } => None,
        }
    }
}

impl fmt::Display for DiscoverySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiscoverySource::Addresses { name, port } => write!(f, "dns {name}:{port}"),
            DiscoverySource::Services { name } => write!(f, "srv {name}"),
            DiscoverySource::File { path } => write!(f, "file {}", path.display()),
        }
    }
}

/// Which addresses of a name count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpFamily {
    /// IPv4; IPv6 where the name has no IPv4.
    #[default]
    V4Preferred,
    /// IPv6; IPv4 where the name has no IPv6.
    V6Preferred,
    /// IPv4 alone.
    V4Only,
    /// IPv6 alone.
    V6Only,
    /// Both: a machine with two addresses is two endpoints.
    All,
}

/// How the endpoints of an upstream are learnt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoverySettings {
    /// Where from.
    pub source: DiscoverySource,
    /// The name servers to ask; without any, those of `/etc/resolv.conf`.
    pub nameservers: Vec<SocketAddr>,
    /// Which addresses count.
    pub family: IpFamily,
    /// The least time for which an answer is taken to be true, whatever its time to live says.
    pub min_ttl: Duration,
    /// The longest.
    pub max_ttl: Duration,
    /// How long the last good answer counts where there are said to be no endpoints any more.
    pub hold_empty: Duration,
}

impl DiscoverySettings {
    /// Settings with the defaults: the system's name servers, IPv4 before IPv6, asked again after 1 s to 5 min, 30 s
    /// of patience with empty answers.
    #[must_use]
    pub fn new(source: DiscoverySource) -> Self {
        DiscoverySettings {
            source,
            nameservers: Vec::new(),
            family: IpFamily::default(),
            min_ttl: Duration::from_secs(1),
            max_ttl: Duration::from_secs(300),
            hold_empty: Duration::from_secs(30),
        }
    }
}

/// How discovery fares, for readiness and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryStatus {
    /// Where from: `dns NAME:PORT`, `srv NAME` or `file PATH`.
    pub source: String,
    /// Endpoints that are known.
    pub endpoints: usize,
    /// How long ago the source last gave a good answer.
    pub age: Option<Duration>,
    /// What is wrong, where something is.
    pub problem: Option<String>,
}

/// What came of asking, in numbers. For a file each change counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupCounts {
    /// Good answers.
    pub ok: u64,
    /// There is nothing: no such name, no such records, an empty list.
    pub empty: u64,
    /// No answer, an error, a file that cannot be read.
    pub failed: u64,
    /// Addresses that were found and may not be connected to.
    pub forbidden: u64,
}
