//! `[upstream.NAME.discovery]` and `[upstream.NAME.destinations]`: endpoints that are learnt while the gateway runs, and
//! which addresses they may have.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{Cidr, DnsName, Duration, NameServer, Timeout};

/// Where the endpoints of an upstream are learnt from, in the place of `endpoints`. What is learnt is taken up while
/// requests run; what goes is drained. While nothing good can be learnt, the last good endpoints stay in use.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Discovery {
    /// What is asked.
    #[serde(rename = "type")]
    pub kind: DiscoveryKind,
    /// The name that is asked for; with `dns` and `srv`. A name without dots is tried in the search domains of
    /// `/etc/resolv.conf` first, if its name servers are the ones that are asked.
    pub name: Option<DnsName>,
    /// The port of all endpoints; with `dns`.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The file; with `file`. It may come later than the gateway.
    pub path: Option<PathBuf>,
    /// The name servers that are asked, over UDP, and TCP where an answer does not fit. Empty: those of
    /// `/etc/resolv.conf`.
    #[serde(default)]
    pub nameservers: Vec<NameServer>,
    /// Which addresses of a name become endpoints.
    #[serde(default)]
    pub ip_family: IpFamily,
    /// The least time for which an answer counts, whatever its time to live says.
    #[serde(default = "seconds::<1>")]
    pub min_ttl: Timeout,
    /// The longest time for which an answer counts, whatever its time to live says.
    #[serde(default = "seconds::<300>")]
    pub max_ttl: Timeout,
    /// For how long the last good endpoints stay in use when there are said to be none any more: no such name, no such
    /// records, an empty list. Failures to get an answer keep them without end.
    #[serde(default = "hold_empty")]
    pub hold_empty: Duration,
}

const fn seconds<const COUNT: u64>() -> Timeout {
    Timeout::from_secs(COUNT)
}

const fn hold_empty() -> Duration {
    Duration::from_secs(30)
}

/// What is asked for endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiscoveryKind {
    /// The domain name system, for addresses (A and AAAA): each is an endpoint.
    Dns,
    /// The domain name system, for services (SRV, RFC 2782): hosts with ports, weights and priorities.
    Srv,
    /// A file of endpoints that somebody else writes, such as Consul-template or a side container: JSON, or TOML where
    /// its name ends in `.toml`.
    File,
}

/// Which addresses of a name become endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
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

/// Which addresses the gateway connects to, where somebody else says so: whoever answers for a name, or writes the file
/// of endpoints. An address that stands in `endpoints` is not judged. Never taken, unless allowed, are: the loopback
/// (except for the name `localhost` in `endpoints` and `discovery.name`), link-local addresses and the metadata services
/// of clouds, unspecified, multicast and reserved addresses, and IPv6 addresses that carry one of these.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Destinations {
    /// Networks that are taken although they are among those that never are.
    pub allow: Vec<Cidr>,
    /// Networks that are not taken, not even if they are allowed.
    pub deny: Vec<Cidr>,
    /// Whether private networks are taken: RFC 1918, RFC 6598, RFC 4193, and RFC 2544's for benchmarks.
    pub private: bool,
}

impl Default for Destinations {
    fn default() -> Self {
        Destinations { allow: Vec::new(), deny: Vec::new(), private: true }
    }
}
