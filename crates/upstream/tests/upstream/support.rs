//! What the tests have in common.

use bytes::Bytes;
use portcullis_http::{BodyError, Frame, RequestHead, ResponseHead, UpstreamFailure, Version};
use portcullis_testkit::{H2Origin, H2Request, Origin};
use portcullis_upstream::{
    EndpointSettings, EndpointStats, Lease, Outbound, Trail, Upstream, UpstreamSettings,
};
use portcullis_wire::Source as _;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Bounds each test's waits; far above what any of them takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn settings(addresses: &[SocketAddr]) -> UpstreamSettings {
    let endpoint = |address: &SocketAddr| EndpointSettings::new(address.ip().to_string(), address.port());
    UpstreamSettings::new("test", addresses.iter().map(endpoint).collect())
}

pub(crate) fn upstream(settings: UpstreamSettings) -> Upstream {
    Upstream::new(settings, None).unwrap()
}

pub(crate) fn to(origin: &Origin) -> Upstream {
    upstream(settings(&[origin.address()]))
}

pub(crate) fn request(method: &str, target: &str) -> RequestHead {
    let mut head = RequestHead::default();
    head.set_line(method.as_bytes(), target.as_bytes(), Version::Http11);
    head.fields.append("host", "gateway.test").unwrap();
    head
}

pub(crate) async fn read(lease: &mut Lease) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(frame) = poll_fn(|cx| lease.poll_frame(cx)).await {
        if let Frame::Data(data) = frame? {
            body.extend_from_slice(&data);
        }
    }
    Ok(body)
}

/// One whole exchange: status and body.
pub(crate) async fn exchange(
    upstream: &Upstream,
    method: &str,
    body: Option<&[u8]>,
) -> Result<(u16, Result<Vec<u8>, BodyError>), UpstreamFailure> {
    let body = body.map(Bytes::copy_from_slice);
    let mut answer = ResponseHead::default();
    let call = async {
        let mut lease = upstream
            .send(&Outbound::new(&request(method, "/x")), body.as_ref(), &mut answer, &mut Trail::default())
            .await?;
        Ok((answer.status, read(&mut lease).await))
    };
    tokio::time::timeout(PATIENCE, call).await.expect("a call never hangs")
}

pub(crate) async fn get(upstream: &Upstream) -> Result<(u16, Vec<u8>), UpstreamFailure> {
    exchange(upstream, "GET", None).await.map(|(status, body)| (status, body.unwrap()))
}

pub(crate) fn stats(upstream: &Upstream) -> EndpointStats {
    upstream.stats().remove(0)
}

/// Waits until something holds that other threads or tasks bring about.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

/// An HTTP/2 origin; it makes a runtime of its own, which cannot be done inside another.
pub(crate) fn http2_origin(
    tls: Option<Arc<rustls::ServerConfig>>,
    script: impl Fn(&H2Request) -> http::Response<Bytes> + Send + Sync + 'static,
) -> H2Origin {
    std::thread::spawn(|| H2Origin::start(tls, script)).join().unwrap()
}
