//! A real name server.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// NLnet Labs' NSD (Debian's package `nsd`) on a port of the loopback: authoritative for the zone `test.`, of which the
/// records can be replaced while it runs, and which it can be stopped and started with.
pub struct NameServer {
    folder: TempDir,
    address: SocketAddr,
    child: Option<Child>,
    serial: u32,
}

impl NameServer {
    /// Starts one with these records, in the form of zone files and relative to `test.`: `web 1 A 127.0.0.2`. Negative
    /// answers live for a second.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(records: &str) -> Self {
        // Between the choice of a port and its use somebody else may take it.
        (0..10)
            .find_map(|_| {
                let mut server = Self::stopped(records);
                server.try_resume().then_some(server)
            })
            .expect("a port stays free")
    }

    /// One that does not run yet.
    ///
    /// # Panics
    /// When its files cannot be written.
    #[must_use]
    pub fn stopped(records: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        // Free for both protocols, as far as that can be known.
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = udp.local_addr().expect("a bound socket has an address");
        let at = folder.path().display();
        let config = format!(
            "server:\n ip-address: 127.0.0.1@{port}\n port: {port}\n username: \"\"\n zonesdir: \"{at}\"\n database: \"\"\n \
             pidfile: \"{at}/pid\"\n xfrdfile: \"{at}/xfrd\"\n zonelistfile: \"{at}/zones\"\n logfile: \"{at}/log\"\n \
             server-count: 1\nremote-control:\n control-enable: no\nzone:\n name: \"test\"\n zonefile: \"test.zone\"\n",
            port = address.port()
        );
        std::fs::write(folder.path().join("nsd.conf"), config).expect("its configuration can be written");
        let mut server = NameServer { folder, address, child: None, serial: 0 };
        server.write(records);
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the records.
    ///
    /// # Panics
    /// When they cannot be written, or it does not run.
    pub fn replace(&mut self, records: &str) {
        self.write(records);
        let id = self.child.as_ref().expect("it runs").id().to_string();
        let told = Command::new("kill").args(["-HUP", &id]).status();
        assert!(told.is_ok_and(|status| status.success()), "kill -HUP {id}");
        assert!(self.wait(), "it has its port already");
    }

    /// Replaces the records while it does not run.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn replace_stopped(&mut self, records: &str) {
        self.write(records);
    }

    /// Ends it, in the middle of whatever it does.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // SIGTERM: it ends its own children.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }

    /// Starts it on the port that it had.
    ///
    /// # Panics
    /// When it does not start.
    pub fn resume(&mut self) {
        assert!(self.try_resume(), "nsd finds its port taken:\n{}", self.log());
    }

    /// Starts it; `false` where its port is taken.
    fn try_resume(&mut self) -> bool {
        let child = Command::new("nsd")
            .args(["-d", "-c"])
            .arg(self.folder.path().join("nsd.conf"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("nsd is installed"));
        self.wait()
    }

    fn write(&mut self, records: &str) {
        self.serial += 1;
        let zone = format!(
            "$ORIGIN test.\n$TTL 1\n@ SOA ns admin {} 60 60 600 1\n@ NS ns\nns A 127.0.0.1\n_serial TXT \"serial {} is here\"\n{records}\n",
            self.serial, self.serial
        );
        let path = self.folder.path().join("test.zone");
        let new = path.with_extension("new");
        let written = std::fs::write(&new, zone).and_then(|()| std::fs::rename(&new, &path));
        written.expect("its zone can be written");
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until it answers with the zone as it was written last; `false` where its port is taken.
    fn wait(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let wanted = format!("serial {} is here", self.serial);
        while !self.ask().is_some_and(|answer| contains(&answer, wanted.as_bytes())) {
            let log = self.log();
            if log.contains("Address already in use") {
                self.stop();
                return false;
            }
            assert!(Instant::now() < deadline, "nsd does not serve:\n{log}");
            thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Asks for the serial's text, over TCP: it is the last that it opens.
    fn ask(&self) -> Option<Vec<u8>> {
        let mut message = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(b"\x07_serial\x04test\x00\x00\x10\x00\x01");
        let mut socket = TcpStream::connect(self.address).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        socket.write_all(&[0, u8::try_from(message.len()).ok()?]).ok()?;
        socket.write_all(&message).ok()?;
        let mut answer = vec![0; 1024];
        let mut length = 0;
        while let Ok(read @ 1..) = socket.read(&mut answer[length..]) {
            length += read;
            let whole = usize::from(answer[0]) << 8 | usize::from(answer[1]);
            if length >= whole + 2 {
                break;
            }
        }
        answer.truncate(length);
        Some(answer)
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop();
    }
}
