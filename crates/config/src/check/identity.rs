//! Token issuers and keys.

use super::Checker;
use crate::codes;
use crate::model::{Identity, Key};

impl Checker<'_> {
    pub(super) fn identities(&mut self) {
        let config = self.config;
        for (name, identity) in &config.identity {
            let path = format!("identity.{name}");
            self.key_sources(&path, identity);
            for (at, key) in identity.keys.iter().enumerate() {
                self.key(&format!("{path}.keys[{at}]"), key, identity);
            }
            let kids = identity.keys.iter().enumerate();
            let kids =
                kids.filter_map(|(at, key)| Some((format!("{path}.keys[{at}].kid"), key.kid.clone()?)));
            self.unique("the key id", kids);
        }
        self.secrets_in_the_file();
        let used = |name: &str| {
            let mut auths = config.route.iter().filter_map(|route| route.auth.as_ref());
            auths.any(|auth| auth.providers.iter().any(|provider| provider == name))
        };
        for name in config.identity.keys().filter(|name| !used(name)) {
            self.unused("identity", name);
        }
    }

    fn key_sources(&mut self, path: &str, identity: &Identity) {
        self.file(&format!("{path}.jwks_file"), identity.jwks_file.as_deref());
        if identity.jwks_file.is_some() && identity.jwks_url.is_some() {
            let (url, file) = (format!("{path}.jwks_url"), format!("{path}.jwks_file"));
            let diagnostic =
                self.error(codes::CONFLICT, &url, "`jwks_url` and `jwks_file` exclude each other");
            let diagnostic = self.also(diagnostic, &file, "the other one");
            self.push(&[&url, &file], diagnostic);
        }
        if identity.keys.is_empty() && identity.jwks_file.is_none() && identity.jwks_url.is_none() {
            let diagnostic = self
                .error(
                    codes::MISSING_FIELD,
                    path,
                    format!("`{path}` has no keys, so no token could be checked"),
                )
                .help("give `keys`, `jwks_file` or `jwks_url`");
            self.push(&[path], diagnostic);
        }
        if identity.jwks_max_stale.get() < identity.jwks_refresh.get() {
            let (stale, refresh) = (format!("{path}.jwks_max_stale"), format!("{path}.jwks_refresh"));
            let message = "`jwks_max_stale` is less than `jwks_refresh`: keys would expire before they are fetched again";
            let diagnostic = self.error(codes::CONFLICT, &stale, message);
            self.push(&[&stale, &refresh], diagnostic);
        }
        let Some(url) = &identity.jwks_url else { return };
        if identity.algorithms.iter().all(|algorithm| algorithm.min_secret_len().is_some()) {
            let at = format!("{path}.algorithms");
            let diagnostic =
                self.error(codes::CONFLICT, &at, "a published key set never holds shared secrets");
            let diagnostic = self.also(diagnostic, &format!("{path}.jwks_url"), "the key set");
            self.push(
                &[&at],
                diagnostic.help("list the algorithms of the issuer's key pairs, such as \"RS256\""),
            );
        }
        let is_safe = url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty())
            || url.strip_prefix("http://").is_some_and(is_loopback);
        if !is_safe {
            let path = format!("{path}.jwks_url");
            let diagnostic = self
                .error(codes::UNSAFE, &path, "keys must come over `https`")
                .note("whoever can change the key set on its way can sign tokens");
            self.push(&[&path], diagnostic);
        }
    }

    fn key(&mut self, path: &str, key: &Key, identity: &Identity) {
        self.file(&format!("{path}.public_key_file"), key.public_key_file.as_deref());
        self.file(&format!("{path}.private_key_file"), key.private_key_file.as_deref());
        let name = key.algorithm.as_str();
        if !identity.algorithms.contains(&key.algorithm) {
            let at = format!("{path}.algorithm");
            let list =
                format!("{}.algorithms", path.rsplit_once(".keys").map_or(path, |(identity, _)| identity));
            let diagnostic =
                self.error(codes::CONFLICT, &at, format!("`{name}` is not among the accepted algorithms"));
            let diagnostic = self.also(diagnostic, &list, "these are accepted");
            self.push(&[&at, &list], diagnostic);
        }
        let public = usize::from(key.public_key.is_some()) + usize::from(key.public_key_file.is_some());
        let problem = match (key.algorithm.min_secret_len(), &key.secret) {
            (Some(_), None) => format!("a key for `{name}` needs a `secret`"),
            (Some(_), Some(_)) if public > 0 || key.private_key_file.is_some() => {
                format!("`{name}` works with a shared secret, not with a key pair")
            }
            (Some(least), Some(secret)) if secret.expose().len() < least => {
                format!("the secret is too short: `{name}` needs {least} bytes (RFC 7518, 3.2)")
            }
            (Some(_), Some(_)) => return,
            (None, Some(_)) => format!("`{name}` works with a key pair, not with a shared secret"),
            (None, None) if public != 1 => {
                format!("a key for `{name}` needs `public_key_file` or `public_key`, one of them")
            }
            (None, None) => return,
        };
        let diagnostic = self.error(codes::CONFLICT, path, problem);
        self.push(&[path], diagnostic);
    }

    /// A secret that stands in the file is known to whoever reads the file, and those of the shipped file to
    /// everybody. On this machine alone that is a warning; towards others it is an error.
    fn secrets_in_the_file(&mut self) {
        let exposed = self.config.listener.iter().find(|listener| !listener.address.ip().is_loopback());
        for path in self.open_secrets {
            let message = format!("the secret `{path}` stands in the file");
            let mut diagnostic = self.error(codes::UNSAFE, path, message);
            match exposed {
                Some(listener) => {
                    diagnostic = diagnostic.note(format!(
                        "the listener `{}` on {} is open to other machines: everybody who reads this file could sign \
                         tokens for it",
                        listener.name, listener.address
                    ));
                }
                None => {
                    diagnostic.severity = portcullis_diag::Severity::Warning;
                    diagnostic =
                        diagnostic.note("it is taken because all listeners are on the loopback interface");
                }
            }
            let diagnostic = diagnostic.help("write `${NAME}` and set the environment variable");
            self.push(&[path], diagnostic);
        }
    }
}

/// Whether what follows `http://` leads to this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn loopback_authorities() {
        for rest in ["127.0.0.1:8000/keys", "localhost/keys", "[::1]:80/", "LOCALHOST:1"] {
            assert!(is_loopback(rest), "{rest}");
        }
        for rest in ["example.com/", "127.0.0.1@example.com/", "127.0.0.1.example.com", "", "[fe80::1]/"] {
            assert!(!is_loopback(rest), "{rest}");
        }
    }
}
