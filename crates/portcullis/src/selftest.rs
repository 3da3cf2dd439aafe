//! Trying a snapshot before anybody is served by it.

use crate::plan::{FirewallPlan, RoutePlan};
use portcullis_waf::{Interruption, Mode, Transaction};
use std::net::{IpAddr, Ipv4Addr};

/// Passes a plain `GET /`, as `curl` sends it, through the route's rules. A rule set that refuses it refuses nearly
/// everything, which a mistake in an exclusion, a threshold or an initial value brings about without being wrong in
/// itself. So it is a warning, not an error: rules may mean it.
pub(crate) fn plain_request(route: &RoutePlan) -> Option<String> {
    let firewall = route.firewall.as_ref().filter(|firewall| firewall.overlay.mode() == Mode::Block)?;
    let interruption = try_out(firewall)?;
    Some(format!(
        "warning: route `{}`: rule {} refuses even a plain `GET /` ({}); look at the thresholds and exclusions, or set `mode = \"detect\"`",
        route.name, interruption.rule_id, interruption.msg
    ))
}

fn try_out(firewall: &FirewallPlan) -> Option<Interruption> {
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut transaction = Transaction::new(firewall.program.clone(), firewall.overlay.clone(), "selftest");
    transaction.connection(HERE, 40000, HERE, 80);
    transaction.request_line(b"GET", b"/", b"HTTP/1.1");
    for (name, value) in [("host", "example.com"), ("user-agent", "curl/8.14.1"), ("accept", "*/*")] {
        transaction.request_header(name.as_bytes(), value.as_bytes());
    }
    transaction.check_request_headers().or_else(|| transaction.check_request_body())
}
