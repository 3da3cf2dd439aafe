//! The process: threads, signals, start and end.

use crate::admin::{self, Admin};
use crate::handover::Handover;
use crate::inherit::{self, Inherited};
use crate::listener::{self, Listening};
use crate::memory;
use crate::reload::{DISCOVERY, Reloader, Status};
use crate::snapshot::{Snapshot, Snapshots};
use crate::systemd::{self, Watchdog};
use portcullis_wire::server::Drain;
use socket2::SockRef;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Serves until SIGTERM or SIGINT, then, after a delay, drains: readiness off, connections told to go, requests in flight
/// finished within the grace period. A second signal ends it at once.
///
/// # Errors
/// When an address cannot be bound or a thread not be started, as text that names it.
pub(crate) async fn run(path: PathBuf, snapshots: Snapshots, mut inherited: Inherited) -> Result<(), String> {
    let snapshot = snapshots.current();
    // Before anybody may send a request, or sees that it is ready.
    snapshot.upstreams.discover(DISCOVERY).await;
    let status = Arc::new(Status::default());
    let (switch, drain) = Drain::channel();
    let threads = snapshot.threads;
    let watchdog = Watchdog::from_env(threads);
    let admin_socket = inherited.take(inherit::ADMIN, snapshot.admin);
    let (sockets, handover) = open(&snapshot, &mut inherited)?;
    inherited.none_left()?;
    let handover = Arc::new(handover);
    let mut workers = Vec::with_capacity(threads);
    for (number, sockets) in sockets.into_iter().enumerate() {
        let worker = Worker {
            sockets,
            snapshots: snapshots.clone(),
            drain: drain.clone(),
            handover: handover.clone(),
            watchdog: watchdog.clone(),
        };
        workers.push(worker.start(number)?);
    }
    snapshot.warm_up();
    let admin = Admin { snapshots: snapshots.clone(), status: status.clone() };
    admin::serve(snapshot.admin, admin_socket, admin)
        .await
        .map_err(|error| format!("the admin listener cannot bind {}: {error}", snapshot.admin))?;
    let watch = snapshot.upstreams.watch();
    let reloader = Reloader::new(path, snapshots.clone(), status.clone(), watch);
    tokio::spawn(async move {
        if let Err(error) = reloader.run().await {
            tracing::error!(%error, "no reloads: signals are not to be had");
        }
    });
    if let Some(watchdog) = watchdog {
        tokio::spawn(watchdog.watch());
    }
    let memory_limit = memory::control_group_limit();
    tokio::spawn(memory::watch(snapshots.clone(), memory_limit));
    for listener in &snapshot.listeners {
        tracing::info!(listener = %listener.name, address = %listener.address, tls = listener.tls.is_some(), "listening");
    }
    tracing::info!(
        admin = %snapshot.admin, threads, config = %snapshot.hash,
        max_connections = snapshot.shared.max_connections,
        memory_limit = snapshot.memory_limit.or(memory_limit),
        "ready"
    );
    drop(snapshot);

    let failed = |error: io::Error| format!("signals are not to be had: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    systemd::ready();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    status.drain();
    systemd::stopping();
    let (delay, grace) = (snapshots.current().shutdown_delay, snapshots.current().grace);
    if !delay.is_zero() {
        tracing::info!(?delay, "not ready any more; serving on");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = terminate.recv() => return second_signal(),
            _ = interrupt.recv() => return second_signal(),
        }
    }
    tracing::info!(grace = ?grace, "draining");
    handover.begin();
    drop(handover);
    snapshots.current().shared.draining.send_replace(true);
    // Nobody may be listening any more, which is fine.
    let _ = switch.send(true);
    let drained = async { tokio::task::spawn_blocking(move || wait_for(workers, grace)).await };
    tokio::select! {
        finished = drained => match finished {
            Ok(true) => tracing::info!("drained"),
            _ => tracing::warn!("the grace period is over; what is left is cut off"),
        },
        _ = terminate.recv() => return second_signal(),
        _ = interrupt.recv() => return second_signal(),
    }
    Ok(())
}

fn second_signal() -> Result<(), String> {
    tracing::warn!("second signal: ending at once");
    Ok(())
}

/// Waits until all workers have ended; `false` when the grace period was over before all they had begun was finished.
fn wait_for(workers: Vec<JoinHandle<bool>>, grace: Duration) -> bool {
    let deadline = Instant::now() + grace + Duration::from_secs(1);
    workers.into_iter().all(|worker| {
        while !worker.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        worker.join().unwrap_or(false)
    })
}

/// The sockets of each thread, and what leaves their addresses to others in the end. Each thread binds an address for
/// itself; of a socket that was inherited it has a descriptor.
fn open(snapshot: &Snapshot, inherited: &mut Inherited) -> Result<(Vec<Vec<Listening>>, Handover), String> {
    let mut threads: Vec<Vec<Listening>> = (0..snapshot.threads).map(|_| Vec::new()).collect();
    let mut handover = Handover::default();
    for plan in &snapshot.listeners {
        let failed =
            |error: io::Error| format!("listener `{}` cannot bind {}: {error}", plan.name, plan.address);
        let given = inherited.take(&plan.name, plan.address);
        if let Some(socket) = &given {
            listener::inherit_options(&SockRef::from(socket)).map_err(failed)?;
        }
        for (number, sockets) in threads.iter_mut().enumerate() {
            let socket = match &given {
                Some(socket) => socket.try_clone(),
                None => listener::bind(plan.address),
            };
            let socket = socket.map_err(failed)?;
            if given.is_none() && number == 0 {
                handover.add(&socket, snapshot.threads).map_err(failed)?;
            }
            sockets.push(Listening { socket, inherited: given.is_some(), plan: plan.clone() });
        }
    }
    Ok((threads, handover))
}

/// What a thread of its own serves, with an event loop of its own.
struct Worker {
    sockets: Vec<Listening>,
    snapshots: Snapshots,
    drain: Drain,
    handover: Arc<Handover>,
    watchdog: Option<Watchdog>,
}

impl Worker {
    fn start(self, number: usize) -> Result<JoinHandle<bool>, String> {
        std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .max_blocking_threads(8)
                    .build();
                match runtime {
                    Ok(runtime) => runtime.block_on(self.work(number)),
                    Err(error) => {
                        tracing::error!(%error, "a worker thread has no event loop");
                        false
                    }
                }
            })
            .map_err(|error| format!("a worker thread cannot be started: {error}"))
    }

    /// Serves until told to drain; whether all that had begun was finished within the grace period.
    async fn work(self, number: usize) -> bool {
        let Worker { sockets, snapshots, mut drain, handover, watchdog } = self;
        if let Some(watchdog) = watchdog {
            tokio::spawn(watchdog.live(number));
        }
        let mut accepting = JoinSet::new();
        for listening in sockets {
            accepting.spawn(listener::accept(listening, snapshots.clone(), drain.clone()));
        }
        drain.on().await;
        let snapshot = snapshots.current();
        let shared = &snapshot.shared;
        let finished = async {
            while accepting.join_next().await.is_some() {}
            // Ours are closed; the last thread's also give up the address.
            drop(handover);
            // Each open connection of this process holds a permit; this thread's own end with its event loop, so it stays
            // until all are back. It does not wait in line for them, as connections of other threads may still need some.
            while shared.connections.available_permits() < shared.max_connections {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(snapshot.grace, finished).await.is_ok()
    }
}
