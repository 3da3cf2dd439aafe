//! What systemd is told (sd_notify(3)).

use crate::{builder, config, origin};
use portcullis_testkit::Authority;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Reads until a message has this line; all its lines.
fn told(socket: &UnixDatagram, line: &str) -> String {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{line}: {error}"));
        let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if message.lines().any(|one| one == line) {
            return message;
        }
    }
}

#[test]
fn the_service_manager_hears_of_start_reload_life_and_end() {
    let (origin, authority) = (origin(), Authority::new());
    let builder = builder(&authority);
    let path = builder.folder().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut gateway = builder
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .env("WATCHDOG_USEC", "600000")
        .start(|ports| config(ports, &[origin.address()], "", ""));
    let _ = told(&socket, "READY=1");
    for _ in 0..3 {
        let _ = told(&socket, "WATCHDOG=1");
    }
    gateway.signal("HUP");
    assert!(told(&socket, "RELOADING=1").contains("MONOTONIC_USEC="));
    let _ = told(&socket, "READY=1");
    // A reload that fails ends, too.
    gateway.replace("gateway.toml", "[");
    let _ = told(&socket, "RELOADING=1");
    let _ = told(&socket, "READY=1");
    gateway.signal("TERM");
    let _ = told(&socket, "STOPPING=1");
    assert_eq!(gateway.wait().code(), Some(0));
}
