//! `portcullis probe`.

use clap::Args;
use portcullis_http::{Framing, RequestHead, ResponseHead, Target, Version};
use portcullis_upstream::{EndpointSettings, Outbound, Trail, Upstream, UpstreamSettings};
use std::time::Duration;

/// Options of `portcullis probe`.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// An `http` URL.
    url: String,
    /// Seconds to wait for the answer.
    #[arg(long, default_value_t = 3)]
    timeout: u64,
}

impl Probe {
    /// Asks once.
    ///
    /// # Errors
    /// When there is no answer in time, or another than 200.
    pub(super) fn run(self) -> Result<(), String> {
        let target =
            Target::parse(self.url.as_bytes()).map_err(|error| format!("{}: no URL: {error}", self.url))?;
        let authority = target.authority().filter(|_| self.url.starts_with("http://"));
        let authority = authority.ok_or_else(|| format!("{}: a URL begins with http://", self.url))?;
        let host = portcullis_http::Host::parse(authority)
            .ok_or_else(|| format!("{authority}: no host and port"))?;
        let endpoint = EndpointSettings::new(host.name().trim_matches(['[', ']']), host.port().unwrap_or(80));
        let upstream = Upstream::new(UpstreamSettings::new("probe", vec![endpoint]), None)
            .map_err(|error| error.to_string())?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let mut head = RequestHead::default();
        head.set_line(b"GET", target.path().as_bytes(), Version::Http11);
        head.framing = Framing::None;
        head.fields.append("host", authority).map_err(|error| error.to_string())?;
        let status = runtime.block_on(async {
            let mut answer = ResponseHead::default();
            let (outbound, mut trail) = (Outbound::new(&head), Trail::default());
            let sent = upstream.send(&outbound, None, &mut answer, &mut trail);
            match tokio::time::timeout(Duration::from_secs(self.timeout), sent).await {
                Ok(Ok(_)) => Ok(answer.status),
                Ok(Err(failure)) => Err(format!("{}: {}", self.url, failure.as_str())),
                Err(_) => Err(format!("{}: no answer within {} s", self.url, self.timeout)),
            }
        })?;
        if status == 200 { Ok(()) } else { Err(format!("{}: answered {status}", self.url)) }
    }
}
