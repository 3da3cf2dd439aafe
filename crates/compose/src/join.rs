//! Several futures in one task.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// A future among others.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs futures at the same time until all are ready, or `enough` says that those which are suffice; `None` stands
/// for one that is not ready then. Each wake polls all that are not ready: a composition has few parts.
pub(crate) async fn join<T>(
    mut futures: Vec<Pending<'_, T>>,
    enough: impl Fn(&[Option<T>]) -> bool,
) -> Vec<Option<T>> {
    let mut results: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *result = Some(ready);
            }
        }
        if results.iter().all(Option::is_some) || enough(&results) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results
}
