//! Listeners and the admin listener.

use super::Checker;
use crate::codes;

impl Checker<'_> {
    pub(super) fn listeners(&mut self) {
        let config = self.config;
        let listeners = || config.listener.iter().enumerate();
        self.unique(
            "the listener",
            listeners().map(|(at, one)| (format!("listener[{at}].name"), one.name.clone())),
        );
        let public = listeners().map(|(at, one)| (format!("listener[{at}].address"), one.address));
        // Port 0 takes any free port, so two of them are two sockets.
        let sockets = std::iter::once(("admin.listen".to_owned(), config.admin.listen)).chain(public);
        self.unique("the address", sockets.filter(|(_, address)| address.port() != 0));
        for (at, listener) in listeners() {
            if let Some(tls) = &listener.tls {
                self.certificates(&format!("listener[{at}].tls"), tls);
            }
            for (index, pair) in listener.tls.iter().flat_map(|tls| &tls.certificates).enumerate() {
                let path = format!("listener[{at}].tls.certificates[{index}]");
                self.file(&format!("{path}.certificate"), Some(&pair.certificate));
                self.file(&format!("{path}.key"), Some(&pair.key));
            }
            if let Some(auth) = listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()) {
                let path = format!("listener[{at}].tls.client_auth");
                self.file(&format!("{path}.ca_file"), Some(&auth.ca_file));
                for (index, file) in auth.crl_files.iter().enumerate() {
                    self.file(&format!("{path}.crl_files[{index}]"), Some(file));
                }
            }
        }
        if !config.admin.listen.ip().is_loopback() {
            let message =
                format!("the admin listener on {} is not confined to this machine", config.admin.listen);
            let diagnostic = self
                .warning(codes::UNSAFE, "admin.listen", message)
                .note("it has no authentication: whoever reaches it sees metrics and readiness")
                .help("let only the monitoring network reach this port");
            self.push(&["admin.listen"], diagnostic);
        }
    }
}
