//! Certificates that the gateway orders itself.

use super::Checker;
use crate::codes;
use crate::model::{Acme, AcmeChallenge, ClientAuthMode, ListenerTls};

impl Checker<'_> {
    /// Where certificates of a listener come from: files, an authority, or both.
    pub(super) fn certificates(&mut self, path: &str, tls: &ListenerTls) {
        let Some(acme) = &tls.acme else {
            if tls.certificates.is_empty() {
                let diagnostic =
                    self.error(codes::MISSING_FIELD, path, "a listener with TLS has no certificate");
                let help = "give `certificates`, or `[listener.tls.acme]` to have them issued";
                self.push(&[path], diagnostic.help(help));
            }
            return;
        };
        self.acme(&format!("{path}.acme"), acme);
        let required = tls.client_auth.as_ref().is_some_and(|auth| auth.mode == ClientAuthMode::Required);
        if required && acme.challenge == AcmeChallenge::TlsAlpn01 {
            let (at, mode) = (format!("{path}.acme.challenge"), format!("{path}.client_auth.mode"));
            let message =
                "tls-alpn-01 is a handshake without a client certificate, which this listener refuses";
            let diagnostic = self.error(codes::CONFLICT, &at, message);
            let diagnostic = self.also(diagnostic, &mode, "required here");
            self.push(&[&at, &mode], diagnostic.help("write `challenge = \"http-01\"`"));
        }
    }

    fn acme(&mut self, path: &str, acme: &Acme) {
        let at = format!("{path}.directory_url");
        if !acme
            .directory_url
            .strip_prefix("https://")
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'))
        {
            let message = format!("`{}` is no https URL", acme.directory_url);
            let diagnostic = self.error(codes::BAD_VALUE, &at, message);
            self.push(&[&at], diagnostic.help("ACME is spoken over https only (RFC 8555, 6.1)"));
        }
        for (index, domain) in acme.domains.iter().enumerate() {
            let is_address = domain.as_str().trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
            if domain.wildcard_suffix().is_some() || is_address {
                let at = format!("{path}.domains[{index}]");
                let message = format!("`{}` cannot be proven by {}", domain.as_str(), acme.challenge);
                let diagnostic = self.error(codes::BAD_VALUE, &at, message);
                self.push(&[&at], diagnostic.help("write DNS names without a wildcard, one by one"));
            }
        }
        let names = acme.domains.iter().enumerate();
        self.unique(
            "the domain",
            names.map(|(index, one)| (format!("{path}.domains[{index}]"), one.as_str().to_owned())),
        );
        for (index, contact) in acme.contact.iter().enumerate() {
            if !contact.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty()) {
                let at = format!("{path}.contact[{index}]");
                let diagnostic = self.error(codes::BAD_VALUE, &at, format!("`{contact}` is no URL"));
                self.push(&[&at], diagnostic.help(format!("write \"mailto:{contact}\"")));
            }
        }
        if !acme.terms_of_service_agreed {
            let at = format!("{path}.terms_of_service_agreed");
            let diagnostic =
                self.error(codes::CONFLICT, &at, "no authority issues certificates without agreement");
            self.push(
                &[&at],
                diagnostic.help("read the terms that the directory links to, and write `true`"),
            );
        }
        let plain = self.config.listener.iter().any(|listener| listener.tls.is_none());
        if acme.challenge == AcmeChallenge::Http01 && !plain {
            let given = format!("{path}.challenge");
            let at = if self.spans.contains(&given) { given.as_str() } else { path };
            let message = "http-01 is asked in clear, and no listener is without TLS";
            let help = "add a `[[listener]]` without `tls` that port 80 leads to, or write `challenge = \"tls-alpn-01\"`";
            let diagnostic = self.error(codes::CONFLICT, at, message).help(help);
            self.push(&[&given], diagnostic);
        }
        self.file(&format!("{path}.ca_file"), acme.ca_file.as_deref());
        if let Some(external) = &acme.external_account {
            let key = external.hmac_key.expose().trim_end_matches('=');
            let is_key =
                !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if !is_key {
                let at = format!("{path}.external_account.hmac_key");
                let diagnostic = self.error(codes::BAD_VALUE, &at, "the key is not base64url");
                self.push(&[&at], diagnostic.help("take it as the authority gave it out"));
            }
        }
    }
}
