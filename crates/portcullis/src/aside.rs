//! Work that would hold up all connections of a thread goes to the blocking pool.

use portcullis_http::Rejection;

/// Bytes above which work on a head or a body goes aside. The dearest text of this size takes the firewall a few
/// milliseconds (`docs/performance.md`); handing it over takes some microseconds.
pub(crate) const LARGE: usize = 16 * 1024;

/// Runs `work` on the blocking pool.
///
/// # Errors
/// 500 where it panicked, or the process is about to end.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Rejection> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Rejection::Internal)
}
