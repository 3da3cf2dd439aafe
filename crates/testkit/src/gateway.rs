//! The built binary as a child process.

use crate::{Origin, RawClient, everything_to, get};
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the gateway may take for what it is waited for, so that a failing test ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port of `127.0.0.1` that was free a moment ago.
///
/// # Panics
/// When none is.
#[must_use]
pub fn free_port() -> SocketAddr {
    // Not from the range of which the kernel gives ports to whoever asks for any, so that no origin and no client of
    // another test takes it before the gateway does; and none twice in this process.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 27).unwrap_or(0) * 100;
    let free = |offset| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 30_000 + (first + offset) % 2_700));
        TcpListener::bind(address).ok().map(|_| address)
    };
    (0..10_000)
        .find_map(|_| free(NEXT.fetch_add(1, Ordering::Relaxed) % 10_000))
        .expect("there is a free port")
}

/// The addresses a gateway is to listen on.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// For clients.
    pub public: SocketAddr,
    /// For clients over TLS, where the configuration has such a listener.
    pub tls: SocketAddr,
    /// For operators.
    pub admin: SocketAddr,
}

/// The gateway with a configuration of the test's own, in a folder of its own, from `start` until it is
/// dropped.
///
/// ```no_run
/// use portcullis_testkit::{Answer, Gateway, Origin, get};
///
/// fn proxied(binary: &str) {
///     let origin = Origin::answering(Answer::ok("hi"));
///     let gateway = Gateway::builder(binary).start(|ports| {
///         format!("[admin]\nlisten = \"{}\"\n[upstream.a]\n# at {} …\n", ports.admin, origin.address())
///     });
///     assert_eq!(get(gateway.public(), "/").status(), 200);
/// }
/// ```
/// In the binary's own tests, `binary` is `env!("CARGO_BIN_EXE_portcullis")`.
pub struct Gateway {
    child: Child,
    folder: TempDir,
    ports: Ports,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// What a gateway is started with.
pub struct GatewayBuilder {
    binary: PathBuf,
    folder: TempDir,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
}

impl GatewayBuilder {
    /// The folder that will hold `gateway.toml`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file into the folder, folders on its way included.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        write(&self.folder.path().join(name), content.as_ref());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs another command line than `run -c gateway.toml`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self
    }

    /// Writes the configuration that `config` makes of free ports, starts the gateway, and waits until it is
    /// ready.
    ///
    /// # Panics
    /// With what it logged, when it ends or does not become ready.
    #[must_use]
    pub fn start(self, config: impl FnOnce(Ports) -> String) -> Gateway {
        let ports = Ports { public: free_port(), tls: free_port(), admin: free_port() };
        self.start_at(ports, &config(ports))
    }

    /// Starts the gateway at given ports, and waits until it is ready.
    ///
    /// # Panics
    /// As [`GatewayBuilder::start`].
    #[must_use]
    pub fn start_at(self, ports: Ports, config: &str) -> Gateway {
        write(&self.folder.path().join("gateway.toml"), config.as_bytes());
        let mut child = Command::new(&self.binary)
            .args(&self.arguments)
            .envs(self.variables)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let log = Arc::<Log>::default();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        out.into_iter().for_each(|out| collect(out, &log));
        err.into_iter().for_each(|err| collect(err, &log));
        let mut gateway = Gateway { child, folder: self.folder, ports, log };
        gateway.wait_ready();
        gateway
    }
}

impl Gateway {
    /// Sets up a start of `binary`: `env!("CARGO_BIN_EXE_portcullis")`.
    ///
    /// # Panics
    /// When there can be no folder for it.
    #[must_use]
    pub fn builder(binary: impl Into<PathBuf>) -> GatewayBuilder {
        GatewayBuilder {
            binary: binary.into(),
            folder: TempDir::new().expect("there can be a folder"),
            arguments: ["run", "-c", "gateway.toml"].map(String::from).to_vec(),
            variables: Vec::new(),
        }
    }

    /// Starts `binary` with one listener in clear and everything forwarded to `origin`, without a firewall; `top` and `route`
    /// go into the configuration, before its tables and into its route.
    ///
    /// # Panics
    /// As [`GatewayBuilder::start`].
    #[must_use]
    pub fn forwarding(binary: &str, origin: &Origin, top: &str, route: &str) -> Gateway {
        Self::builder(binary).start(|ports| {
            ports.opening(&format!("firewall.mode = \"off\"\n{top}"), "")
                + &everything_to(&[origin.address()], "", route)
        })
    }

    /// The listener for clients.
    #[must_use]
    pub fn public(&self) -> SocketAddr {
        self.ports.public
    }

    /// The listener for clients over TLS, if the configuration has one.
    #[must_use]
    pub fn tls(&self) -> SocketAddr {
        self.ports.tls
    }

    /// The listener for operators.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.ports.admin
    }

    /// All its addresses.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The folder it runs in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Replaces a file in its folder at once, by rename, as editors and deployments do.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn replace(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        let new = path.with_extension("new");
        write(&new, content.as_ref());
        fs::rename(&new, &path).expect("the file can be replaced");
    }

    /// What it wrote to standard output and standard error so far, line by line.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line that `wanted` accepts.
    ///
    /// # Panics
    /// With all lines, when none comes.
    #[must_use]
    pub fn wait_for_line(&self, mut wanted: impl FnMut(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut looked_at = 0;
        loop {
            if let Some(line) = lines.iter().skip(looked_at).find(|line| wanted(line)) {
                return line.clone();
            }
            looked_at = lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such line in:\n{}", lines.join("\n"));
            let waited = self.log.grown.wait_timeout(lines, left);
            lines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The value of a sample in `/metrics`, by its name and labels as they stand there; `None` where there is
    /// none yet.
    #[must_use]
    pub fn sample(&self, series: &str) -> Option<f64> {
        let page = get(self.ports.admin, "/metrics").text();
        page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until `/metrics` shows a sample that `wanted` accepts.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for_sample(&self, series: &str, mut wanted: impl FnMut(f64) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.sample(series);
            if value.is_some_and(&mut wanted) {
                return;
            }
            assert!(Instant::now() < deadline, "{series} is {value:?}\n{}", self.log().join("\n"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends it a signal by name: `HUP`, `TERM`, `STOP`, `CONT`.
    ///
    /// # Panics
    /// When there is no such process any more.
    pub fn signal(&self, name: &str) {
        let kill = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(kill.is_ok_and(|status| status.success()), "kill -{name} {}", self.pid());
    }

    /// Waits until it has ended by itself.
    ///
    /// # Panics
    /// With what it logged, when it does not.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log().join("\n"));
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked for")
    }

    fn wait_ready(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                panic!("the gateway ended with {status}:\n{}", self.log().join("\n"));
            }
            if is_ready(self.ports.admin) {
                return;
            }
            assert!(Instant::now() < deadline, "the gateway is not ready:\n{}", self.log().join("\n"));
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log().join("\n"));
        }
    }
}

fn is_ready(admin: SocketAddr) -> bool {
    let Ok(mut client) = RawClient::connect(admin) else { return false };
    let sent = client.send("GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    sent.is_ok() && client.response().is_ok_and(|response| response.status() == 200)
}

fn write(path: &Path, content: &[u8]) {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).expect("the folder can be made");
    }
    fs::write(path, content).expect("the file can be written");
}

fn collect(output: impl Read + Send + 'static, log: &Arc<Log>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            log.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            log.grown.notify_all();
        }
    });
}
