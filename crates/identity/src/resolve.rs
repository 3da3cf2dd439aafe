//! Looking up the names that the gateway itself calls.

use arc_swap::ArcSwap;
use portcullis_http::{DestinationPolicy, Forbidden};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The operating system's resolver, without addresses that no name in a URL may stand for (matrix J1): the addresses
/// that are left are those that are connected to, and nothing is looked up again in between. By default private networks
/// are taken, since that is where many an identity provider is. Clones share the policy, which a reload may change.
#[derive(Clone, Debug, Default)]
pub struct GuardedResolver(Arc<ArcSwap<DestinationPolicy>>);

impl GuardedResolver {
    /// Goes by another policy from the next name on.
    pub fn go_by(&self, policy: DestinationPolicy) {
        self.0.store(Arc::new(policy));
    }

    /// Whether an address may be connected to that nobody looked up, but that somebody else wrote into a URL.
    ///
    /// # Errors
    /// [`Forbidden`], why not.
    pub fn check(&self, address: IpAddr) -> Result<(), Forbidden> {
        self.0.load().check(address)
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.0.load_full();
        Box::pin(async move {
            let mut refused = None;
            // Whoever connects knows the port.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let admitted: Vec<SocketAddr> = found
                .filter(|address| match policy.check_name(name.as_str(), address.ip()) {
                    Ok(()) => true,
                    Err(why) => {
                        refused = Some((address.ip(), why));
                        false
                    }
                })
                .collect();
            match refused {
                Some((address, why)) if admitted.is_empty() => {
                    let name = name.as_str();
                    tracing::warn!(name, %address, %why, "the name stands for an address that is not connected to");
                    Err(format!("{name} stands for {address}, which is {why} and not connected to").into())
                }
                _ => Ok(Box::new(admitted.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn j1_names_that_stand_for_the_loopback_are_not_called() {
        let resolver = GuardedResolver::default();
        let resolve = |name: &str| resolver.resolve(name.parse().unwrap());
        assert!(resolve("localhost").await.unwrap().all(|address| address.ip().is_loopback()));
        // The system's resolver reads these as addresses of the loopback. A URL's parser does so before it.
        for name in ["2130706433", "0x7f000001", "0177.0.0.1"] {
            let error = resolve(name).await.err().unwrap().to_string();
            assert!(error.contains("which is loopback"), "{name}: {error}");
        }
        let error = resolve("0xa9fea9fe").await.err().unwrap().to_string();
        assert!(error.contains("which is metadata service"), "{error}");
    }

    #[tokio::test]
    async fn j1_what_the_operator_takes_or_denies_is_his_to_say() {
        let resolver = GuardedResolver::default();
        let shared = resolver.clone();
        let loopback = ["127.0.0.0/8".parse().unwrap()];
        shared.go_by(DestinationPolicy::new(loopback, [], true));
        assert!(resolver.resolve("0x7f000001".parse().unwrap()).await.is_ok());
        assert_eq!(resolver.check("10.0.0.1".parse().unwrap()), Ok(()));
        shared.go_by(DestinationPolicy::new([], loopback, false));
        let error = resolver.resolve("localhost".parse().unwrap()).await.err().unwrap().to_string();
        assert!(error.contains("not connected to"), "denied goes before all: {error}");
        assert_eq!(resolver.check("10.0.0.1".parse().unwrap()), Err(Forbidden::Private));
    }
}
