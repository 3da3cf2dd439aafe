//! Faults of a stream of bytes that the proxy does not understand.

use super::script::{Act, FaultScript, Way};
use super::{Shared, frames, hang, reset};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How often a copier looks whether it should stop.
const LOOK: Duration = Duration::from_millis(20);

pub(super) fn serve(shared: &Shared, near: &TcpStream) -> io::Result<()> {
    let script = shared.fault(0);
    pass(shared, near, script.as_deref())
}

/// Passes bytes on, up to the place where the script begins.
pub(super) fn pass(shared: &Shared, near: &TcpStream, script: Option<&FaultScript>) -> io::Result<()> {
    let far = shared.connect(script)?;
    let place = script.and_then(|script| script.at);
    let behind = |way| place.filter(|(at, _)| *at == way).map(|(_, count)| count);
    Both::new(near, &far).run(
        |both| copy(both, both.near, both.far, behind(Way::Up)),
        |both| copy(both, both.far, both.near, behind(Way::Down)),
        script,
    )
}

/// A connection and the one it is passed on to.
pub(super) struct Both<'a> {
    pub(super) near: &'a TcpStream,
    pub(super) far: &'a TcpStream,
    over: AtomicBool,
}

/// Where copying ended.
pub(super) enum Reached {
    /// At the source's end.
    End,
    /// Where the script begins.
    Place,
}

impl<'a> Both<'a> {
    pub(super) fn new(near: &'a TcpStream, far: &'a TcpStream) -> Self {
        Both { near, far, over: AtomicBool::new(false) }
    }

    /// Runs the copiers of both directions; what follows where one of them comes to the script's place.
    pub(super) fn run(
        &self,
        up: impl FnOnce(&Self) -> io::Result<Reached> + Send,
        down: impl FnOnce(&Self) -> io::Result<Reached>,
        script: Option<&FaultScript>,
    ) -> io::Result<()> {
        self.near.set_read_timeout(Some(LOOK))?;
        self.far.set_read_timeout(Some(LOOK))?;
        let follow = |reached: io::Result<Reached>| {
            if let (Ok(Reached::Place), Some(script)) = (reached, script) {
                play(script, 0, self.near);
                self.end();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                let reached = up(self);
                if !matches!(reached, Ok(Reached::Place)) {
                    let _ = self.far.shutdown(Shutdown::Write);
                }
                follow(reached);
            });
            let reached = down(self);
            if !matches!(reached, Ok(Reached::Place)) && !self.is_over() {
                let _ = self.near.shutdown(Shutdown::Write);
            }
            follow(reached);
        });
        Ok(())
    }

    /// Nothing is copied any more.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Reads what has come; 0 at the end, or where the script has ended the connection.
    pub(super) fn read(&self, mut from: &TcpStream, block: &mut [u8]) -> io::Result<usize> {
        loop {
            match from.read(block) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if self.is_over() {
                        return Ok(0);
                    }
                }
                result => return result,
            }
        }
    }
}

fn copy(
    both: &Both<'_>,
    from: &TcpStream,
    mut to: &TcpStream,
    mut left: Option<usize>,
) -> io::Result<Reached> {
    let mut block = [0; 16 * 1024];
    loop {
        if left == Some(0) {
            return Ok(Reached::Place);
        }
        let room = left.map_or(block.len(), |left| left.min(block.len()));
        let count = both.read(from, &mut block[..room])?;
        if count == 0 {
            return Ok(Reached::End);
        }
        to.write_all(&block[..count])?;
        if let Some(left) = &mut left {
            *left -= count;
        }
    }
}

/// What is said to the gateway in place of what would have come; whether the connection goes on.
pub(super) fn play(script: &FaultScript, stream: u32, mut near: &TcpStream) -> bool {
    for act in &script.acts {
        // Whoever has gone hears nothing.
        let _ = match act {
            Act::Bytes(bytes) => near.write_all(bytes),
            Act::Frames(lines) => near.write_all(&frames::of_stream(lines, stream)),
            Act::Pause(time) => {
                thread::sleep(*time);
                Ok(())
            }
            Act::Close => near.shutdown(Shutdown::Both),
            Act::Reset => reset(near),
            Act::Hang => {
                let _ = near.set_read_timeout(None);
                hang(near);
                Ok(())
            }
            Act::HalfClose => near.shutdown(Shutdown::Write),
            Act::Answer(_) | Act::Drip(..) => panic!("no answers are known here"),
        };
    }
    !script.acts.iter().any(|act| matches!(act, Act::Close | Act::Reset | Act::Hang | Act::HalfClose))
}
