//! A server whose service does what the path says, and notes what happens to it.

use bytes::Bytes;
use portcullis_http::{Budget, Frame, Framing, Rejection, RequestHead, ResponseHead};
use portcullis_testkit::RawClient;
use portcullis_wire::server::{Drain, Protocol, ServerSettings, serve};
use portcullis_wire::{Downstream, IoStream, Service, SinkError, collect};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the service saw, in order.
#[derive(Default)]
pub(crate) struct Events {
    list: Mutex<Vec<String>>,
    grown: Condvar,
    /// Bytes that `/endless` could push.
    pub(crate) pushed: AtomicU64,
}

impl Events {
    fn note(&self, event: impl Into<String>) {
        self.list.lock().unwrap().push(event.into());
        self.grown.notify_all();
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.list.lock().unwrap().clone()
    }

    /// Waits until this was seen.
    pub(crate) fn wait_for(&self, event: &str) {
        let list = self.list.lock().unwrap();
        let missing = |list: &mut Vec<String>| !list.iter().any(|seen| seen == event);
        let (list, late) = self.grown.wait_timeout_while(list, PATIENCE, missing).unwrap();
        assert!(!late.timed_out(), "no `{event}` in {list:?}");
    }
}

#[derive(Clone)]
struct Scripted {
    events: Arc<Events>,
    gate: watch::Receiver<bool>,
}

fn answer(status: u16, framing: Framing) -> ResponseHead {
    ResponseHead { framing, ..ResponseHead::new(status) }
}

/// Sends a whole answer.
async fn reply<D: Downstream>(head: ResponseHead, body: &[u8], downstream: &mut D) -> Result<(), SinkError> {
    downstream.start(&head);
    push(body, downstream).await?;
    downstream.finish();
    poll_fn(|cx| downstream.poll_flush(cx)).await
}

async fn push<D: Downstream>(data: &[u8], downstream: &mut D) -> Result<(), SinkError> {
    poll_fn(|cx| downstream.poll_ready(cx)).await?;
    downstream.push(Frame::Data(Bytes::copy_from_slice(data)));
    Ok(())
}

async fn read<D: Downstream>(downstream: &mut D) -> Result<Vec<u8>, String> {
    let mut held = Budget::new(usize::MAX).hold(0).unwrap();
    let mut body = Vec::new();
    match collect(downstream, usize::MAX, &mut held, &mut body).await {
        Ok(()) => Ok(body),
        Err(error) => Err(format!("{error:?}")),
    }
}

impl Service for Scripted {
    async fn call<D: Downstream>(&self, head: RequestHead, downstream: &mut D) {
        let target = String::from_utf8_lossy(head.raw_target()).into_owned();
        let method = String::from_utf8_lossy(head.method_text()).into_owned();
        self.events.note(format!("{method} {target}"));
        let outcome = self.act(&head, &target, downstream).await;
        self.events.note(match outcome {
            Ok(()) => format!("done {target}"),
            Err(error) => format!("{error:?} {target}"),
        });
    }

    async fn refuse<D: Downstream>(&self, _head: RequestHead, why: Rejection, downstream: &mut D) {
        self.events.note(format!("refused {}", why.status()));
        if why.closes_connection() {
            downstream.close_after();
        }
        let _ = reply(answer(why.status(), Framing::Length(7)), b"refused", downstream).await;
    }
}

impl Scripted {
    async fn act<D: Downstream>(
        &self,
        head: &RequestHead,
        target: &str,
        downstream: &mut D,
    ) -> Result<(), SinkError> {
        let path = target.split('?').next().unwrap();
        match path {
            "/echo" => match read(downstream).await {
                Ok(body) => reply(answer(200, Framing::Length(body.len() as u64)), &body, downstream).await,
                Err(error) => {
                    self.events.note(format!("body {error}"));
                    downstream.close_after();
                    reply(answer(400, Framing::Length(0)), b"", downstream).await
                }
            },
            "/fields" => {
                let lines = head.fields.iter().map(|(name, value)| {
                    format!("{}={}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
                });
                let text: String = lines.collect();
                reply(answer(200, Framing::Length(text.len() as u64)), text.as_bytes(), downstream).await
            }
            "/ignore" => reply(answer(200, Framing::Length(2)), b"ok", downstream).await,
            "/refuse" => reply(answer(401, Framing::Length(2)), b"no", downstream).await,
            "/chunks" => {
                downstream.start(&answer(200, Framing::Chunked));
                for piece in ["one", "", "two"] {
                    push(piece.as_bytes(), downstream).await?;
                }
                downstream.finish();
                poll_fn(|cx| downstream.poll_flush(cx)).await
            }
            "/large" => {
                downstream.start(&answer(200, Framing::Chunked));
                for _ in 0..100 {
                    push(&[b'x'; 10_000], downstream).await?;
                }
                downstream.finish();
                poll_fn(|cx| downstream.poll_flush(cx)).await
            }
            "/204" => reply(answer(204, Framing::None), b"not to be seen", downstream).await,
            "/304" => reply(answer(304, Framing::Length(14)), b"not to be seen", downstream).await,
            "/more" => reply(answer(200, Framing::Length(2)), b"more than two", downstream).await,
            "/less" => reply(answer(200, Framing::Length(100)), b"less", downstream).await,
            "/cut" => {
                let framing =
                    if target.ends_with("length") { Framing::Length(100) } else { Framing::Chunked };
                downstream.start(&answer(200, framing));
                push(b"beginning", downstream).await?;
                poll_fn(|cx| downstream.poll_flush(cx)).await?;
                downstream.abort();
                Ok(())
            }
            "/hang" => {
                poll_fn(|cx| downstream.poll_gone(cx)).await;
                self.events.note("gone");
                Ok(())
            }
            "/gated" => {
                downstream.start(&answer(200, Framing::Length(4)));
                push(b"ga", downstream).await?;
                poll_fn(|cx| downstream.poll_flush(cx)).await?;
                self.events.note("waiting");
                let _ = self.gate.clone().wait_for(|open| *open).await;
                push(b"te", downstream).await?;
                downstream.finish();
                poll_fn(|cx| downstream.poll_flush(cx)).await
            }
            "/endless" => {
                downstream.start(&answer(200, Framing::Chunked));
                loop {
                    push(&[b'x'; 16_384], downstream).await?;
                    self.events.pushed.fetch_add(16_384, Ordering::SeqCst);
                }
            }
            _ => {
                reply(answer(200, Framing::Length(target.len() as u64)), target.as_bytes(), downstream).await
            }
        }
    }
}

/// A server on a thread of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) events: Arc<Events>,
    /// Lets `/gated` go on.
    pub(crate) gate: watch::Sender<bool>,
    /// Tells connections to end.
    pub(crate) drain: watch::Sender<bool>,
    _stop: oneshot::Sender<()>,
}

impl Server {
    pub(crate) fn start(settings: ServerSettings) -> Self {
        Self::start_as(Protocol::Detect, settings)
    }

    pub(crate) fn start_as(protocol: Protocol, settings: ServerSettings) -> Self {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let events = Arc::<Events>::default();
        let (gate, gated) = watch::channel(false);
        let (drain, draining) = Drain::channel();
        let (stop, stopped) = oneshot::channel();
        let service = Scripted { events: Arc::clone(&events), gate: gated };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(socket, protocol, Arc::new(settings), service, draining) => {}
                    _ = stopped => {}
                }
            });
        });
        Server { address, events, gate, drain, _stop: stop }
    }

    pub(crate) fn connect(&self) -> RawClient {
        RawClient::connect(self.address).unwrap()
    }

    /// All that comes back for these bytes until the connection ends, our side of which ends with them.
    pub(crate) fn talk(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.connect();
        let _ = client.send(bytes);
        let _ = client.finish();
        String::from_utf8_lossy(&client.rest().unwrap()).into_owned()
    }
}

async fn accept(
    socket: std::net::TcpListener,
    protocol: Protocol,
    settings: Arc<ServerSettings>,
    service: Scripted,
    drain: Drain,
) {
    let socket = tokio::net::TcpListener::from_std(socket).unwrap();
    loop {
        let (stream, _) = socket.accept().await.unwrap();
        let (settings, service, drain) = (settings.clone(), service.clone(), drain.clone());
        let events = Arc::clone(&service.events);
        tokio::spawn(async move {
            serve(IoStream::Plain(stream), protocol, settings, service, drain, ()).await;
            events.note("connection over");
        });
    }
}
