//! The process: threads, signals, start and end.

use crate::admin::{self, Admin};
use crate::listener;
use crate::memory;
use crate::reload::{Reloader, Status};
use crate::snapshot::Snapshots;
use portcullis_wire::server::Drain;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Serves until SIGTERM or SIGINT, then drains: readiness off, connections told to go, requests in flight finished
/// within the grace period. A second signal ends it at once.
///
/// # Errors
/// When an address cannot be bound or a thread not be started, as text that names it.
pub(crate) async fn run(path: PathBuf, snapshots: Snapshots) -> Result<(), String> {
    let snapshot = snapshots.current();
    let status = Arc::new(Status::default());
    let (switch, drain) = Drain::channel();
    let threads = snapshot.threads;
    let mut workers = Vec::with_capacity(threads);
    for number in 0..threads {
        workers.push(worker(number, &snapshots, &drain)?);
    }
    snapshot.warm_up();
    let admin = Admin { snapshots: snapshots.clone(), status: status.clone() };
    admin::serve(snapshot.admin, admin)
        .await
        .map_err(|error| format!("the admin listener cannot bind {}: {error}", snapshot.admin))?;
    let watch = snapshot.upstreams.watch();
    let reloader = Reloader::new(path, snapshots.clone(), status.clone(), watch);
    tokio::spawn(async move {
        if let Err(error) = reloader.run().await {
            tracing::error!(%error, "no reloads: signals are not to be had");
        }
    });
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
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    status.drain();
    let grace = snapshots.current().grace;
    tracing::info!(grace = ?grace, "draining");
    // Nobody may be listening any more, which is fine.
    let _ = switch.send(true);
    let drained = async { tokio::task::spawn_blocking(move || wait_for(workers, grace)).await };
    tokio::select! {
        finished = drained => match finished {
            Ok(true) => tracing::info!("drained"),
            _ => tracing::warn!("the grace period is over; what is left is cut off"),
        },
        _ = terminate.recv() => tracing::warn!("second signal: ending at once"),
        _ = interrupt.recv() => tracing::warn!("second signal: ending at once"),
    }
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

/// A thread with an event loop of its own and a socket of its own for each listener.
fn worker(number: usize, snapshots: &Snapshots, drain: &Drain) -> Result<JoinHandle<bool>, String> {
    let mut sockets = Vec::new();
    for plan in &snapshots.current().listeners {
        let socket = listener::bind(plan.address)
            .map_err(|error| format!("listener `{}` cannot bind {}: {error}", plan.name, plan.address))?;
        sockets.push((socket, plan.clone()));
    }
    let (snapshots, drain) = (snapshots.clone(), drain.clone());
    std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build();
            match runtime {
                Ok(runtime) => runtime.block_on(work(sockets, snapshots, drain)),
                Err(error) => {
                    tracing::error!(%error, "a worker thread has no event loop");
                    false
                }
            }
        })
        .map_err(|error| format!("a worker thread cannot be started: {error}"))
}

/// Serves until told to drain; whether all that had begun was finished within the grace period.
async fn work(
    sockets: Vec<(TcpListener, Arc<crate::snapshot::ListenerPlan>)>,
    snapshots: Snapshots,
    mut drain: Drain,
) -> bool {
    for (socket, plan) in sockets {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => {
                tokio::spawn(listener::accept(socket, plan, snapshots.clone(), drain.clone()));
            }
            Err(error) => tracing::error!(%error, listener = %plan.name, "a socket cannot be used"),
        }
    }
    drain.on().await;
    // Each open connection of this process holds a permit; this thread's own end with its event loop, so it stays
    // until all are back or the grace period is over.
    let snapshot = snapshots.current();
    let all = u32::try_from(snapshot.shared.max_connections).unwrap_or(u32::MAX);
    tokio::time::timeout(snapshot.grace, snapshot.shared.connections.acquire_many(all)).await.is_ok()
}
