//! HTTPS to the authority, tightly bounded: it is asked for little, and answers with little.

use bytes::Bytes;
use http_body_util::BodyExt as _;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use portcullis_identity::GuardedResolver;
use reqwest::{Client, Url, redirect};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// How long one request may take, from connecting to the last byte.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer: a chain of certificates.
const MAX_ANSWER: usize = 256 * 1024;

/// Asks the authority. No redirects, no proxy from the environment, and no address that it may not refer to.
pub(super) struct Https {
    client: Client,
    resolver: GuardedResolver,
    /// The host that the operator named.
    directory: Option<String>,
}

impl Https {
    /// A client for this directory that trusts these authorities (PEM) for the directory's own certificate, else the
    /// system's.
    ///
    /// # Errors
    /// When there are none.
    pub(super) fn new(
        directory_url: &str,
        authorities: Option<&[u8]>,
        resolver: &GuardedResolver,
    ) -> Result<Self, String> {
        let mut roots = rustls::RootCertStore::empty();
        match authorities {
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
            Some(pem) => {
                let told = |error: String| format!("`ca_file`: {error}");
                let certificates =
                    portcullis_tls::pem::certificates(pem).map_err(|error| told(error.to_string()));
                for certificate in certificates? {
                    roots.add(certificate).map_err(|error| told(error.to_string()))?;
                }
            }
        }
        if roots.is_empty() {
            return Err("there are no authorities to judge the directory's certificate by".to_owned());
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .dns_resolver(resolver.clone())
            .timeout(PATIENCE)
            .build();
        let client = client.map_err(|error| error.to_string())?;
        let directory = Url::parse(directory_url).ok().and_then(|url| url.host_str().map(str::to_owned));
        Ok(Https { client, resolver: resolver.clone(), directory })
    }

    /// Addresses that stand in the URLs of a directory are its word, not the operator's; names are the resolver's to judge.
    fn check(&self, url: &Url) -> Result<(), Failure> {
        let host = url.host_str().unwrap_or_default();
        let Ok(address) = host.trim_matches(['[', ']']).parse() else { return Ok(()) };
        if self.directory.as_deref() == Some(host) {
            return Ok(());
        }
        let refused = |why| format!("the authority refers to {address}, which is {why} and not connected to");
        self.resolver.check(address).map_err(|why| refused(why).into())
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.client.clone();
        // As reqwest reads it: a host may be written in several ways.
        let url = Url::parse(&request.uri().to_string());
        if let Err(refused) = url.map_err(Failure::from).and_then(|url| self.check(&url)) {
            return Box::pin(async { Err(Error::Other(refused)) });
        }
        Box::pin(async move { exchange(&client, request).await.map_err(Error::Other) })
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn exchange(
    client: &Client,
    request: http::Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, Failure> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let request = reqwest::Request::try_from(http::Request::from_parts(parts, body))?;
    let mut answer = client.execute(request).await.map_err(told)?;
    let mut head = http::Response::builder().status(answer.status());
    if let Some(fields) = head.headers_mut() {
        fields.clone_from(answer.headers());
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err("the authority answered with more than 256 KiB".into());
        }
        body.extend_from_slice(&chunk);
    }
    let (parts, ()) = head.body(())?.into_parts();
    Ok(BytesResponse { parts, body: Box::new(Bytes::from(body)) })
}

/// A failure with its cause: reqwest's own text names the URL only.
fn told(error: reqwest::Error) -> Failure {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j1_a_directory_refers_to_no_address_that_is_not_connected_to() {
        let authority = portcullis_testkit::Authority::new();
        let https = |directory: &str| {
            Https::new(directory, Some(authority.pem().as_bytes()), &GuardedResolver::default()).unwrap()
        };
        let ours = https("https://127.0.0.1:14000/dir");
        for (url, passes) in [
            ("https://127.0.0.1:14000/order", true),
            ("https://127.0.0.1/order", true),
            ("https://ca.test/order", true),
            ("https://192.168.1.1/order", true),
            ("https://127.0.0.2/order", false),
            ("https://2130706434/order", false),
            ("https://[::1]/order", false),
            ("https://[::ffff:169.254.169.254]/order", false),
            ("https://169.254.169.254/order", false),
        ] {
            assert_eq!(ours.check(&Url::parse(url).unwrap()).is_ok(), passes, "{url}");
        }
        assert!(https("https://ca.test/dir").check(&Url::parse("https://127.0.0.1/x").unwrap()).is_err());
    }
}
