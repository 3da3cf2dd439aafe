//! Real servers as backends: each journals the requests that its own parser read.

use crate::free_port;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take to listen, so that a failing test ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that can be run behind the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// node's `http`.
    Node,
    /// aiohttp.
    Aiohttp,
    /// uvicorn with h11.
    UvicornH11,
    /// uvicorn with httptools (llhttp).
    UvicornHttptools,
    /// gunicorn.
    Gunicorn,
    /// nginx.
    Nginx,
    /// Apache httpd.
    Apache,
}

impl Server {
    /// All of them.
    pub const ALL: [Server; 7] = [
        Server::Node,
        Server::Aiohttp,
        Server::UvicornH11,
        Server::UvicornHttptools,
        Server::Gunicorn,
        Server::Nginx,
        Server::Apache,
    ];
}

impl Server {
    /// Whether its application reads the body before it answers.
    #[must_use]
    pub fn reads_bodies(self) -> bool {
        !matches!(self, Server::Nginx | Server::Apache)
    }
}

/// A request as a backend read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journaled {
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// `X-Real-IP`, which the gateway wrote.
    pub client: String,
    /// Length and SHA-256 of the body, where the server can say.
    pub body: Option<(usize, String)>,
}

/// A running server; it ends when this is dropped.
pub struct Backend {
    server: Server,
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Backend {
    /// Starts a server with the application in `apps` (`tests/backends`), Python's ones out of the environment `venv`, Apache
    /// out of the folder `apache` if it is not installed. `None` where the server is not there.
    ///
    /// # Panics
    /// When it is there and does not listen.
    #[must_use]
    pub fn start(server: Server, apps: &Path, venv: &Path, apache: &Path) -> Option<Self> {
        let folder = TempDir::new().expect("there can be a folder");
        let address = free_port();
        let start = Start { apps, venv, apache, folder: folder.path(), port: address.port() };
        let mut command = start.command(server)?;
        let log = fs::File::create(folder.path().join("log")).expect("a file can be made");
        let child = command
            .current_dir(apps)
            .env("JOURNAL", start.journal())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("the server can be started");
        let mut backend = Backend { server, child, address, folder };
        backend.wait();
        Some(backend)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All that it has read so far and answered as a request.
    ///
    /// # Panics
    /// When a line of its journal is no JSON.
    #[must_use]
    pub fn journal(&self) -> Vec<Journaled> {
        let text = fs::read_to_string(self.folder.path().join("journal")).unwrap_or_default();
        text.lines().filter_map(journaled).collect()
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait().expect("a child can be asked for");
            let late = Instant::now() > deadline;
            assert!(
                ended.is_none() && !late,
                "{:?} does not listen ({ended:?}):\n{}",
                self.server,
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        [read("log"), read("apache-error.log"), read("nginx-error.log")].concat()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // Servers with workers end them when they are asked to end.
        let asked = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while asked.as_ref().is_ok_and(|status| status.success()) && Instant::now() < deadline {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line of a journal; `None` for what a server noted but did not take for a request.
fn journaled(line: &str) -> Option<Journaled> {
    let json: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    if json.get("error").is_some()
        || matches!(text("status").as_str(), "400" | "408" | "414" | "431" | "501" | "505")
    {
        return None;
    }
    let target = match json["line"].as_str() {
        // Apache gives the request line, since it has no name for the raw target.
        Some(line) => line.split(' ').nth(1).unwrap_or_default().to_owned(),
        None => text("target"),
    };
    let length = json["length"].as_i64().and_then(|length| usize::try_from(length).ok());
    Some(Journaled {
        method: text("method"),
        target,
        client: text("client"),
        body: length.map(|length| (length, text("digest"))),
    })
}

struct Start<'a> {
    apps: &'a Path,
    venv: &'a Path,
    apache: &'a Path,
    folder: &'a Path,
    port: u16,
}

impl Start<'_> {
    fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    fn command(&self, server: Server) -> Option<Command> {
        let port = self.port.to_string();
        let bind = format!("127.0.0.1:{port}");
        match server {
            Server::Node => {
                let mut command = Command::new(installed("node")?);
                command.arg("node.js").arg(self.journal()).arg(port);
                Some(command)
            }
            Server::Aiohttp => self.python("aiohttp", &["aiohttp_app.py", &port]),
            Server::UvicornH11 | Server::UvicornHttptools => {
                let parser = if server == Server::UvicornH11 { "h11" } else { "httptools" };
                let size = ["--h11-max-incomplete-event-size", "131072"];
                let common =
                    ["-m", "uvicorn", "asgi:app", "--port", &port, "--http", parser, "--log-level", "error"];
                let quiet = ["--no-access-log", "--no-server-header", "--timeout-keep-alive", "60"];
                self.python(parser, &[&common[..], &quiet[..], &size[..]].concat())
            }
            Server::Gunicorn => {
                let common =
                    ["-m", "gunicorn", "wsgi:app", "--bind", &bind, "--workers", "1", "--threads", "32"];
                let limits =
                    ["--limit-request-line", "0", "--limit-request-field_size", "0", "--keep-alive", "60"];
                self.python(
                    "gunicorn",
                    &[&common[..], &limits[..], &["--worker-tmp-dir", "/dev/shm"]].concat(),
                )
            }
            Server::Nginx => {
                let nginx = installed("nginx")?;
                let config = self.config("nginx.conf", &[]);
                let mut command = Command::new(nginx);
                command.arg("-c").arg(config).arg("-p").arg(self.folder);
                Some(command)
            }
            Server::Apache => self.apache(),
        }
    }

    /// Python with these arguments, where this package is installed.
    fn python(&self, package: &str, arguments: &[&str]) -> Option<Command> {
        let python = self.venv.join("bin/python");
        let probe =
            Command::new(&python).args(["-c", &format!("import {package}")]).stderr(Stdio::null()).status();
        if !probe.is_ok_and(|status| status.success()) {
            return None;
        }
        let mut command = Command::new(python);
        command.args(arguments);
        Some(command)
    }

    fn apache(&self) -> Option<Command> {
        let unpacked = self.apache.join("usr/sbin/apache2");
        let (binary, modules, libraries) = match installed("apache2") {
            Some(binary) => (binary, PathBuf::from("/usr/lib/apache2/modules"), None),
            None if unpacked.exists() => {
                (unpacked, self.apache.join("usr/lib/apache2/modules"), Some(self.apache.join("usr/lib")))
            }
            None => return None,
        };
        let config = self.config("apache.conf", &[("MODULES", &modules)]);
        let mut command = Command::new(binary);
        command.arg("-X").arg("-f").arg(config);
        if let Some(libraries) = libraries {
            let folder = fs::read_dir(libraries).ok()?.flatten().map(|entry| entry.path());
            let folder = folder.into_iter().find(|path| path.join("libapr-1.so.0").exists())?;
            command.env("LD_LIBRARY_PATH", folder);
        }
        Some(command)
    }

    /// A configuration with its places filled in.
    fn config(&self, name: &str, more: &[(&str, &Path)]) -> PathBuf {
        let text = fs::read_to_string(self.apps.join(name)).expect("the configuration is there");
        let text =
            text.replace("FOLDER", &self.folder.to_string_lossy()).replace("PORT", &self.port.to_string());
        let text = more.iter().fold(text, |text, (place, path)| text.replace(place, &path.to_string_lossy()));
        let path = self.folder.join(name);
        fs::write(&path, text).expect("the configuration can be written");
        path
    }
}

/// Where a program is.
fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| file.exists())
}
