//! How endpoints are chosen.

use super::Checker;
use crate::codes;
use crate::model::{Balance, SameSite, Sticky, Upstream};

/// Bytes of a secret that cannot be guessed.
const LEAST_SECRET: usize = 16;

impl Checker<'_> {
    pub(super) fn balance(&mut self, path: &str, name: &str, upstream: &Upstream) {
        let (balance, at) = (format!("{path}.balance"), format!("{path}.hash"));
        let by_hash = upstream.balance == Balance::RingHash;
        match &upstream.hash {
            None if by_hash => {
                let message = "nothing says what of a request is hashed";
                let diagnostic = self.error(codes::MISSING_FIELD, &balance, message);
                let help = format!("add `[{at}]` with `by`, such as `by = \"header:x-tenant\"`");
                self.push(&[&balance, &at], diagnostic.help(help));
            }
            Some(_) if !by_hash => {
                let diagnostic = self.error(codes::CONFLICT, &at, "endpoints are not chosen by hash");
                let diagnostic = self.also(diagnostic, &balance, "they are chosen so");
                let help = format!("write `balance = \"ring_hash\"` in `[{path}]`, or leave it out");
                self.push(&[&at, &balance], diagnostic.help(help));
            }
            Some(hash) if (1..=100).contains(&hash.balance_factor) => {
                let at = format!("{at}.balance_factor");
                let message = "with no more than its share, an endpoint leaves no room for its keys";
                let diagnostic = self.error(codes::BAD_VALUE, &at, message);
                self.push(&[&at], diagnostic.help("write more than 100, such as 125, or 0 for no bound"));
            }
            _ => {}
        }
        if let Some(hash) = &upstream.hash {
            let config = self.config;
            for (index, route) in config.route.iter().enumerate() {
                let route_path = format!("route[{index}]");
                if route.upstreams(&route_path).any(|(_, used)| used == name) {
                    self.hash_key_of_route(&format!("{at}.by"), &hash.by, &route_path, route);
                }
            }
        }
        if let Some(sticky) = &upstream.sticky {
            self.sticky(&format!("{path}.sticky"), sticky);
        }
    }

    fn sticky(&mut self, at: &str, sticky: &Sticky) {
        let secret = format!("{at}.secret");
        if sticky.secret.as_ref().is_some_and(|secret| secret.expose().len() < LEAST_SECRET) {
            let message = format!("the secret has less than {LEAST_SECRET} bytes");
            let diagnostic = self.error(codes::UNSAFE, &secret, message);
            self.push(&[&secret], diagnostic.help("take one from `openssl rand -hex 32`"));
        }
        let path = format!("{at}.path");
        let is_path = |byte: u8| matches!(byte, b' '..=b'~') && byte != b';';
        if !sticky.path.starts_with('/') || !sticky.path.bytes().all(is_path) {
            let diagnostic = self.error(codes::BAD_VALUE, &path, "this is no path of a cookie");
            self.push(&[&path], diagnostic.help("begin with `/`, and use printable ASCII without `;`"));
        }
        if sticky.same_site == SameSite::None && !sticky.secure {
            let (same_site, secure) = (format!("{at}.same_site"), format!("{at}.secure"));
            let message = "browsers refuse a cookie for all sites that is not `secure`";
            let diagnostic = self.error(codes::CONFLICT, &same_site, message);
            self.push(&[&same_site, &secure], diagnostic.help("leave `secure` out, or write \"lax\""));
        }
    }
}
