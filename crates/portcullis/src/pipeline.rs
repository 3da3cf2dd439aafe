//! The way of a request, from its head to the last byte of its answer. Order exists here and nowhere else.

use crate::acme;
use crate::answer;
use crate::body;
use crate::composed;
use crate::connection::Connection;
use crate::cors;
use crate::deadline::Time;
use crate::forward::{self, Origin};
use crate::inspection::{Inspection, Verdict};
use crate::normalize::{Normalized, normalize};
use crate::options;
use crate::plan::{Action, HeadPlan, RoutePlan};
use crate::record::{Record, Subject};
use crate::respond::{self, Stream, respond};
use crate::rest::{Lasting, Rest};
use crate::snapshot::{Snapshot, Snapshots};
use crate::tunnel::{self, Reply};
use bytes::Bytes;
use portcullis_http::forwarding::Inherited;
use portcullis_http::{Exchange, Guard as _, Malformed, Rejection, RequestHead, RequestId, UpstreamFailure};
use portcullis_wire::{Downstream, Service};
use std::future::poll_fn;
use std::ops::DerefMut;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use tokio::time::Instant;

/// Serves the requests of one client connection.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    snapshots: Snapshots,
    connection: Arc<Connection>,
}

impl Gateway {
    pub(crate) fn new(snapshots: Snapshots, connection: Connection) -> Self {
        Gateway { snapshots, connection: Arc::new(connection) }
    }
}

/// Everything that happens to a request, in order.
///
/// What comes before, because it concerns connections and not requests: the TLS handshake, connection limits and
/// deadlines (`listener`, `portcullis-wire`). What comes after every request, whatever became of it: the firewall's
/// phase 5, the metrics and the log line (`Gateway::call`).
async fn pass<D: Downstream>(
    snapshot: &Snapshot,
    exchange: &mut Exchange,
    inherited: &Inherited,
    firewall: &mut Inspection,
    downstream: &mut D,
    record: &mut Record,
) -> Result<Option<Rest>, Rejection> {
    if let Some(proof) = acme::answer(&snapshot.shared.acme, exchange) {
        record.sent(answer::whole(snapshot, exchange, 200, proof, downstream).await);
        return Ok(None);
    }
    if exchange.target.is_asterisk() {
        return about_server(snapshot, exchange, downstream, record).await.map(|()| None);
    }
    let route = route(snapshot, exchange, record)?;
    let time = Time::new(&route, &exchange.request, snapshot.deadline_header.as_deref(), record.began);
    let deadline = time.total.map(|total| Instant::from_std(record.began) + total);
    let matched = Matched { route: &route, time };
    let lasting = {
        // Not to be moved from here: with all that a request may come to wait for it is large.
        let stages = pin!(stages(snapshot, matched, exchange, inherited, firewall, downstream, record));
        match deadline {
            None => stages.await,
            // A timeout looks at what it bounds first, and that might be done in no time.
            Some(_) if time.total.is_some_and(|total| total.is_zero()) => {
                Err(Rejection::Upstream(UpstreamFailure::ResponseTimeout))
            }
            Some(deadline) => tokio::time::timeout_at(deadline, stages)
                .await
                .unwrap_or(Err(Rejection::Upstream(UpstreamFailure::ResponseTimeout))),
        }
    };
    Ok(lasting?.map(|lasting| Rest { lasting, deadline, term: route.term.watch() }))
}

/// The route of a request, and the time it has.
#[derive(Clone, Copy)]
struct Matched<'a> {
    route: &'a RoutePlan,
    time: Time<'a>,
}

/// The stages behind the route match, under the route's total deadline, but for what lasts.
async fn stages<D: Downstream>(
    snapshot: &Snapshot,
    Matched { route, time }: Matched<'_>,
    exchange: &mut Exchange,
    inherited: &Inherited,
    firewall: &mut Inspection,
    downstream: &mut D,
    record: &mut Record,
) -> Result<Option<Lasting>, Rejection> {
    snapshot.addresses.check(exchange).await?;
    route.addresses.check(exchange).await?;
    if let Some(rate) = &snapshot.coarse_rate {
        rate.check(exchange).await?;
    }
    check_head(route.head, exchange)?;
    tunnel::admit(route, exchange)?;
    *firewall = Inspection::begin(route.firewall.as_ref(), exchange);
    firewall.request_headers(exchange).await?;

    // Browsers ask without credentials, so that nobody could be authenticated here.
    if route.cors.is_some() && cors::is_preflight(&exchange.request) {
        firewall.request_body(&[], false).await?;
        let answer = options::nothing();
        return respond(snapshot, route, exchange, answer, firewall, downstream, record).await.map(lasting);
    }
    if let Some(authenticate) = &route.authenticate {
        authenticate.check(exchange).await?;
    }
    let permit = route.authorize.authorize(exchange)?;
    if let Some(rate) = &route.rate {
        rate.check(exchange).await?;
    }

    route.contract.check_head(&exchange.request)?;
    let coding = route.contract.coding(&exchange.request)?;
    let budget = &snapshot.shared.budget;
    let body = body::take(route.body, &exchange.request, coding, budget, downstream).await?;
    record.bytes_in = body.read.len() as u64;
    firewall.request_body(body.inspected(), body.cut()).await?;
    if !body.cut() && !body.more {
        route.contract.check_body(&exchange.request, body.inspected())?;
    }

    if options::is_last_hop(exchange)? {
        let answer = options::nothing();
        return respond(snapshot, route, exchange, answer, firewall, downstream, record).await.map(lasting);
    }
    if !route.head.keeps_underscores {
        exchange.request.fields.retain(|name, _| !name.contains(&b'_'));
    }
    let origin = Origin { exchange, inherited, via: &snapshot.via, client_cert: route.client_cert, time };
    let answer = match &route.action {
        Action::Forward(plan) => forward::call(permit, origin, route, plan, body, downstream, record).await?,
        Action::Compose(plan) => {
            // On the heap, so that other requests need no room for it.
            Box::pin(composed::call(permit, origin, plan, &snapshot.shared.budget, record)).await?
        }
    };
    match tunnel::reply(route, answer) {
        Reply::Granted(mut head, tunnel) => {
            respond::switch(route, exchange, &mut head, firewall, downstream, record).await?;
            Ok(Some(Lasting::Tunnel(Box::new(tunnel))))
        }
        Reply::Plain(answer) => {
            respond(snapshot, route, exchange, answer, firewall, downstream, record).await.map(lasting)
        }
    }
}

/// An answer that streams.
fn lasting(stream: Option<Stream>) -> Option<Lasting> {
    stream.map(|stream| Lasting::Stream(Box::new(stream)))
}

/// The matched route. From here on the request counts as this route's.
fn route(
    snapshot: &Snapshot,
    exchange: &mut Exchange,
    record: &mut Record,
) -> Result<Arc<RoutePlan>, Rejection> {
    let plan = |at: usize| snapshot.routes.get(at).ok_or(Rejection::Internal);
    // A preflight is for the route that takes the request it asks about, if that one shares its answers at all.
    let announced = snapshot.router.find_announced(exchange).map(plan).transpose()?;
    let route = match announced.filter(|route| route.cors.is_some()) {
        Some(route) => route,
        None => plan(snapshot.router.find(exchange)?)?,
    };
    exchange.route = Some(route.name.clone());
    record.metrics = Some(route.metrics.clone());
    if let Some(cors) = &route.cors {
        cors.announce(exchange);
    }
    // Targets are read with what any route tolerates.
    if let Err(error) = exchange.target.check(route.head.tolerance) {
        let Some(detect) = &route.detect_target else {
            return Err(Rejection::Malformed(Malformed::Target(error)));
        };
        detect.would_refuse(error);
        record.target_would_refuse = Some(error);
    }
    Ok(route.clone())
}

/// `OPTIONS *` asks about the gateway, not about a route.
async fn about_server<D: Downstream>(
    snapshot: &Snapshot,
    exchange: &mut Exchange,
    downstream: &mut D,
    record: &mut Record,
) -> Result<(), Rejection> {
    snapshot.addresses.check(exchange).await?;
    if let Some(rate) = &snapshot.coarse_rate {
        rate.check(exchange).await?;
    }
    options::server(&mut exchange.answer_fields);
    record.sent(answer::whole(snapshot, exchange, 204, Bytes::new(), downstream).await);
    Ok(())
}

/// Limits on the head that are tighter than the listener's.
fn check_head(plan: HeadPlan, exchange: &Exchange) -> Result<(), Rejection> {
    let fields = &exchange.request.fields;
    if plan.fields.is_some_and(|most| fields.len() > most) {
        return Err(Rejection::HeadTooLarge);
    }
    let Some(most) = plan.bytes else { return Ok(()) };
    let line = exchange.request.raw_target().len() + exchange.request.method_text().len();
    let size = fields.iter().fold(line, |size, (name, value)| size + name.len() + value.len() + 4);
    if size > most { Err(Rejection::HeadTooLarge) } else { Ok(()) }
}

/// Runs to its end what serves one request; `None` where it panics. That is this request's failure: the others of its
/// connection and its thread go on.
async fn contain<P: DerefMut<Target: Future>>(mut work: Pin<P>) -> Option<<P::Target as Future>::Output> {
    poll_fn(|cx| {
        // Nothing of what the work leaves half done is used again but to answer and to log.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        }
    })
    .await
}

/// A request that is served. However that ends, be it with the process's grace period, it is counted and logged.
struct Served<'a> {
    snapshots: &'a Snapshots,
    /// The one it began on; `None` once it only lasts.
    snapshot: Option<Arc<Snapshot>>,
    connection: &'a Connection,
    exchange: Box<Exchange>,
    firewall: Inspection,
    verdict: Option<Verdict>,
    record: Record,
    /// Whether the firewall had its last word.
    judged: bool,
    /// Nobody waits for its end any more.
    cut: bool,
}

impl Served<'_> {
    fn judge(&mut self) {
        if !std::mem::replace(&mut self.judged, true) {
            let firewall = std::mem::replace(&mut self.firewall, Inspection::none());
            let log = self.snapshot.as_deref().and_then(|snapshot| snapshot.firewall_log.as_ref());
            self.verdict = firewall.finish(log, self.record.answered());
        }
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.record.aborted |= self.cut;
        self.judge();
        let snapshot = self.snapshot.take().unwrap_or_else(|| self.snapshots.current());
        let subject = Subject::Exchange(&self.exchange);
        self.record.close(&snapshot, self.connection, subject, self.verdict.as_ref());
    }
}

impl Service for Gateway {
    async fn call<D: Downstream>(&self, head: RequestHead, downstream: &mut D) {
        let snapshot = self.snapshots.current();
        let _in_flight = snapshot.shared.metrics.in_flight();
        let record = Record::begin();
        if !snapshot.shared.memory.keeps_connections() {
            downstream.close_after();
        }
        if !snapshot.shared.memory.admits_requests() {
            let (id, why) = (RequestId::random(), Rejection::Overloaded);
            return self.refuse_with(&snapshot, &head, &id, why, downstream, record).await;
        }
        let (exchange, inherited) = match normalize(&snapshot, &self.connection, head) {
            Normalized::Exchange(exchange, inherited) => (exchange, inherited),
            Normalized::Refused(head, id, why) => {
                return self.refuse_with(&snapshot, &head, &id, why, downstream, record).await;
            }
        };
        let mut served = Served {
            snapshots: &self.snapshots,
            snapshot: Some(snapshot),
            connection: &self.connection,
            exchange,
            firewall: Inspection::none(),
            verdict: None,
            record,
            judged: false,
            cut: true,
        };
        let Some(snapshot) = served.snapshot.as_deref() else { return };
        let outcome = {
            let (exchange, firewall, record) =
                (&mut served.exchange, &mut served.firewall, &mut served.record);
            // Not to be moved from here: with all that a request may come to wait for it is large.
            let way = pin!(pass(snapshot, exchange, &inherited, firewall, downstream, record));
            contain(way).await.unwrap_or(Err(Rejection::Internal))
        };
        let mut rest = None;
        match outcome {
            Ok(lasting) => rest = lasting,
            Err(why) => {
                if downstream.started() {
                    downstream.abort();
                } else {
                    let subject = Subject::Exchange(&served.exchange);
                    let sent = answer::reject(snapshot, &why, subject, downstream).await;
                    served.record.sent(sent);
                }
                served.record.rejection = Some(why);
            }
        }
        served.judge();
        if let Some(rest) = rest {
            // What lasts must not keep what reloads have replaced.
            served.snapshot = None;
            let rest = Box::pin(rest.run(&self.snapshots, downstream, &mut served.record));
            if let Err(why) = contain(rest).await.unwrap_or(Err(Rejection::Internal)) {
                downstream.abort();
                served.record.rejection = Some(why);
            }
        }
        served.cut = false;
    }

    async fn refuse<D: Downstream>(&self, head: RequestHead, why: Rejection, downstream: &mut D) {
        let snapshot = self.snapshots.current();
        let (id, record) = (RequestId::random(), Record::begin());
        self.refuse_with(&snapshot, &head, &id, why, downstream, record).await;
    }
}

impl Gateway {
    /// Answers what could not be read, and logs it.
    async fn refuse_with<D: Downstream>(
        &self,
        snapshot: &Snapshot,
        head: &RequestHead,
        id: &RequestId,
        why: Rejection,
        downstream: &mut D,
        mut record: Record,
    ) {
        record.sent(answer::reject(snapshot, &why, Subject::Head(head, id), downstream).await);
        record.rejection = Some(why);
        record.close(snapshot, &self.connection, Subject::Head(head, id), None);
    }
}

#[cfg(test)]
mod tests {
    use super::contain;
    use std::pin::pin;

    #[tokio::test]
    async fn d10_a_panic_is_one_requests() {
        assert_eq!(contain(pin!(async { 1 })).await, Some(1));
        let late = async {
            tokio::task::yield_now().await;
            panic!("as a test");
        };
        assert_eq!(contain(pin!(late)).await, None::<()>);
    }
}
