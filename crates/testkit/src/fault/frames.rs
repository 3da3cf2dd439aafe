//! Faults of HTTP/2 connections, frame by frame.
//!
//! From the frame at which a script begins nothing passes any more, either way: both sides have compressed fields by
//! what the other has not seen. Every request that a connection still gets is met with the script.

use super::script::Mark;
use super::stream::{Both, Reached, play};
use super::{Shared, stream};
use crate::frames::{FrameStep, frame_steps};
use crate::h2client::PREFACE;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

const DATA: u8 = 0;
const HEADERS: u8 = 1;

pub(super) fn serve(shared: &Shared, near: &TcpStream) -> io::Result<()> {
    let script = shared.fault(0);
    let script = script.as_deref();
    if script.is_some_and(|script| script.at.is_some()) {
        return stream::pass(shared, near, script);
    }
    let far = shared.connect(script)?;
    let mark = script.and_then(|script| script.mark);
    let meet = |stream| {
        if mark == Some(Mark::Request) {
            shared.withheld.fetch_add(1, Ordering::SeqCst);
        }
        script.is_none_or(|script| play(script, stream, near))
    };
    Both::new(near, &far).run(
        |both| {
            let mut frames = Frames { both, from: both.near, buffer: Vec::new() };
            let Some(preface) = frames.take(PREFACE.len())? else { return Ok(Reached::End) };
            pass(both.far, &preface)?;
            frames.run(both.far, |kind| mark == Some(Mark::Request) && kind == HEADERS, meet)
        },
        |both| {
            let mut frames = Frames { both, from: both.far, buffer: Vec::new() };
            let withheld = match mark {
                Some(Mark::Answer) => Some(HEADERS),
                Some(Mark::Data) => Some(DATA),
                Some(Mark::Request) | None => None,
            };
            frames.run(both.near, |kind| withheld == Some(kind), meet)
        },
        None,
    )
}

/// Frames that come one after the other.
struct Frames<'a, 'b> {
    both: &'a Both<'b>,
    from: &'a TcpStream,
    buffer: Vec<u8>,
}

impl Frames<'_, '_> {
    /// So many bytes; `None` where fewer come.
    fn take(&mut self, count: usize) -> io::Result<Option<Vec<u8>>> {
        let mut block = [0; 16 * 1024];
        while self.buffer.len() < count {
            let read = self.both.read(self.from, &mut block)?;
            if read == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(&block[..read]);
        }
        let rest = self.buffer.split_off(count);
        Ok(Some(std::mem::replace(&mut self.buffer, rest)))
    }

    /// Passes frames on until one is withheld; from then on, only those that would be are met.
    fn run(
        &mut self,
        to: &TcpStream,
        is_withheld: impl Fn(u8) -> bool,
        meet: impl Fn(u32) -> bool,
    ) -> io::Result<Reached> {
        let mut begun = false;
        while let Some(mut frame) = self.take(9)? {
            let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
            let Some(payload) = self.take(length as usize)? else { break };
            if is_withheld(frame[3]) {
                begun = true;
                if !meet(u32::from_be_bytes([frame[5], frame[6], frame[7], frame[8]])) {
                    self.both.end();
                    return Ok(Reached::Place);
                }
            } else if !begun {
                frame.extend_from_slice(&payload);
                pass(to, &frame)?;
            }
        }
        Ok(Reached::End)
    }
}

fn pass(mut to: &TcpStream, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)
}

/// The bytes of frames for one stream.
pub(super) fn of_stream(lines: &[String], stream: u32) -> Vec<u8> {
    let lines: Vec<String> = lines.iter().map(|line| line.replace("{n}", &stream.to_string())).collect();
    let sent = |step| match step {
        FrameStep::Send(bytes) => bytes,
        FrameStep::Other(line) => panic!("what is `{line}`?"),
    };
    frame_steps(lines.iter().map(String::as_str), "http").into_iter().flat_map(sent).collect()
}
