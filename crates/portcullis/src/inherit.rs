//! Listening sockets that whoever started the process has opened for it (systemd's socket activation).
//!
//! They outlive the process, and what waits in their queues with them: a restart refuses nobody.

use listenfd::ListenFd;
use socket2::SockRef;
use std::net::{SocketAddr, TcpListener};

/// The name of the admin listener's socket.
pub(crate) const ADMIN: &str = "admin";

/// Sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Inherited(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    socket: TcpListener,
    address: SocketAddr,
    /// As `FileDescriptorName` of the socket unit has it.
    name: Option<String>,
}

impl Inherited {
    /// The sockets that `LISTEN_FDS` announces for this process, with their names in `LISTEN_FDNAMES`. To be called before
    /// there is a second thread, as it takes these variables out of the environment.
    ///
    /// # Errors
    /// When one of them is no TCP socket that listens.
    pub(crate) fn from_env() -> Result<Self, String> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut announced = ListenFd::from_env();
        let mut sockets = Vec::with_capacity(announced.len());
        for at in 0..announced.len() {
            let name = names.next().filter(|name| !name.is_empty()).map(str::to_owned);
            let failed = |error: std::io::Error| format!("socket {at} of LISTEN_FDS cannot be used: {error}");
            let Some(socket) = announced.take_tcp_listener(at).map_err(failed)? else { continue };
            let listens = SockRef::from(&socket).is_listener().map_err(failed)?;
            if !listens {
                return Err(format!("socket {at} of LISTEN_FDS does not listen; it takes `ListenStream=`"));
            }
            socket.set_nonblocking(true).map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?;
            sockets.push(Socket { socket, address, name });
        }
        Ok(Inherited(sockets))
    }

    /// The socket of a listener: the one with its name, else the one with its address.
    pub(crate) fn take(&mut self, name: &str, address: SocketAddr) -> Option<TcpListener> {
        let by_name = self.0.iter().position(|socket| socket.name.as_deref() == Some(name));
        let at = by_name.or_else(|| self.0.iter().position(|socket| socket.address == address))?;
        let taken = self.0.swap_remove(at);
        if taken.address != address {
            tracing::warn!(
                listener = name, configured = %address, inherited = %taken.address,
                "the inherited socket has another address than the configuration says; it is used as it is"
            );
        }
        Some(taken.socket)
    }

    /// Checks that all were taken: clients of the others would wait for nobody.
    ///
    /// # Errors
    /// Those that are left.
    pub(crate) fn none_left(&self) -> Result<(), String> {
        if self.0.is_empty() {
            return Ok(());
        }
        let sockets: Vec<String> = self
            .0
            .iter()
            .map(|socket| match &socket.name {
                Some(name) => format!("{} (`{name}`)", socket.address),
                None => socket.address.to_string(),
            })
            .collect();
        Err(format!(
            "inherited sockets (LISTEN_FDS) of which the configuration knows nothing: {}; give a [[listener]] the \
             address, or its name to the socket (FileDescriptorName=)",
            sockets.join(", ")
        ))
    }
}
