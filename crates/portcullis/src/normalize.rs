//! The first stage: one reading of the request, before anything judges it.

use crate::connection::Connection;
use crate::snapshot::Snapshot;
use crate::tls::TlsPlan;
use portcullis_http::forwarding::Inherited;
use portcullis_http::hygiene;
use portcullis_http::{
    Client, ClientAddress, Exchange, Fields, Host, Malformed, Method, Rejection, RequestHead, RequestId,
    Scheme, Target, TraceContext, Version,
};

/// A request that was read, or why it could not be.
pub(crate) enum Normalized {
    Exchange(Box<Exchange>, Inherited),
    Refused(Box<RequestHead>, RequestId, Rejection),
}

/// Members of `tracestate` (W3C Trace Context, section 3.3.1.1).
const MAX_TRACE_MEMBERS: usize = 32;

/// Reads target and authority, finds out who called, takes over what a trusted proxy said and drops what no client
/// may say.
pub(crate) fn normalize(snapshot: &Snapshot, connection: &Connection, mut head: RequestHead) -> Normalized {
    let address = ClientAddress::resolve(connection.peer.ip(), &head.fields, &snapshot.trusted_proxies);
    let inherited = if address.peer_trusted {
        Inherited::from_trusted(&head.fields, &snapshot.trusted_proxies)
    } else {
        Inherited::default()
    };
    let id =
        inherited.request_id.as_deref().and_then(RequestId::from_trusted).unwrap_or_else(RequestId::random);
    let trace = trace(&mut head, address.peer_trusted);
    match read(snapshot, connection, address.peer_trusted, &mut head) {
        Err(why) => Normalized::Refused(Box::new(head), id, why),
        Ok(Read { target, host, received }) => {
            let client = Client {
                peer: connection.peer,
                local: connection.local,
                address,
                scheme: connection.scheme,
                server_name: connection.server_name.clone(),
                certificate: connection.certificate.clone(),
                listener: connection.listener.clone(),
            };
            let mut exchange = Exchange::new(head, target, host, client, id, trace);
            exchange.received = received;
            Normalized::Exchange(Box::new(exchange), inherited)
        }
    }
}

/// The trace that the request belongs to. What vendors say of a trace (`tracestate`) passes with that trace only, and
/// within bounds (W3C Trace Context, sections 3.3.1.1 and 4.3).
fn trace(head: &mut RequestHead, trusted: bool) -> TraceContext {
    let (trace, goes_on) = {
        let mut parents = head.fields.get_all("traceparent");
        // Two parents are none.
        let parent = parents.next().filter(|_| parents.next().is_none());
        let trace = TraceContext::continue_from(parent, trusted);
        (trace, parent.is_some_and(|parent| parent.get(3..35) == trace.traceparent().get(3..35)))
    };
    let members = head.fields.get_all("tracestate").flat_map(|value| value.split(|b| *b == b',')).count();
    if members > 0 && (!goes_on || members > MAX_TRACE_MEMBERS) {
        head.fields.remove("tracestate");
    }
    trace
}

/// What was read of a request's head.
struct Read {
    target: Target,
    host: Host,
    /// The fields before hygiene; none where no route has a firewall.
    received: Fields,
}

fn read(
    snapshot: &Snapshot,
    connection: &Connection,
    trusted: bool,
    head: &mut RequestHead,
) -> Result<Read, Rejection> {
    let target = Target::parse_tolerant(head.raw_target(), snapshot.tolerance)
        .map_err(|error| Rejection::Malformed(Malformed::Target(error)))?;
    if target.is_asterisk() && head.method != Method::Options {
        return Err(Rejection::Malformed(Malformed::RequestLine));
    }
    // A proxy that ends TLS may speak of `https` in clear; what came over TLS was never `http` (matrix B8).
    let scheme = head.scheme.or(target.scheme());
    if connection.scheme == Scheme::Https && scheme == Some(Scheme::Http) {
        return Err(Rejection::Malformed(Malformed::Scheme));
    }
    let host = read_host(head, &target)?;
    if let Some(tls) = &connection.tls
        && !(tls.serves(connection.server_name.as_deref(), &host) && is_welcome(snapshot, connection, tls))
    {
        return Err(Rejection::Misdirected);
    }
    hygiene::check_names(&head.fields).map_err(Rejection::Malformed)?;
    hygiene::check_once(&head.fields).map_err(Rejection::Malformed)?;
    let received = if snapshot.inspects { head.fields.clone() } else { Fields::default() };
    hygiene::request(head, trusted).map_err(Rejection::Malformed)?;
    Ok(Read { target, host, received })
}

/// Whether the client would get this connection now. Where the listener asks other clients than it did when the connection
/// began, a client that is no longer among them must not go on with it; it may try again with another.
fn is_welcome(snapshot: &Snapshot, connection: &Connection, began: &TlsPlan) -> bool {
    match snapshot.listeners.iter().find(|listener| listener.name == connection.listener) {
        Some(listener) => {
            let now = listener.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
            began.still_admits(connection.certificate.as_deref(), now)
        }
        // It takes no more connections, but those that it has are served.
        None => true,
    }
}

/// The authority: `Host`, with which that of an absolute-form target must agree (matrix A31).
fn read_host(head: &RequestHead, target: &Target) -> Result<Host, Rejection> {
    const BAD: Rejection = Rejection::Malformed(Malformed::Host);
    let field = match head.fields.get("host") {
        None if head.version == Version::Http10 => None,
        None => return Err(BAD),
        Some(value) => Some(std::str::from_utf8(value).ok().and_then(Host::parse).ok_or(BAD)?),
    };
    match (target.authority().map(|authority| Host::parse(authority).ok_or(BAD)).transpose()?, field) {
        (Some(authority), Some(field)) if !authority.is_same(&field, target.default_port()) => Err(BAD),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Ok(Host::default()),
    }
}
