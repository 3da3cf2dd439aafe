//! An engine in a process of its own, asked by lines of text (`modsecurity.c` says which).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

pub(crate) struct Engine {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(crate) name: String,
    pub(crate) rules: usize,
    pub(crate) load_microseconds: u64,
}

/// What so many transactions came to and cost.
pub(crate) struct Sample {
    /// Of the refusal; 0 when it was let through.
    pub(crate) status: u16,
    pub(crate) nanoseconds: u64,
    pub(crate) allocations: Option<u64>,
    pub(crate) instructions: Option<u64>,
}

impl Engine {
    /// Starts the process and has it load its rules.
    pub(crate) fn start(program: &Path, arguments: &[&Path]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut engine = Self { child, input, output, name: String::new(), rules: 0, load_microseconds: 0 };
        let [name, rules, load] = engine.answer().try_into().unwrap();
        (engine.rules, engine.load_microseconds) = (rules.parse().unwrap(), load.parse().unwrap());
        engine.name = name;
        engine
    }

    /// Runs `count` transactions of one request.
    pub(crate) fn ask(&mut self, request: usize, count: u64) -> Sample {
        writeln!(self.input, "{request} {count}").unwrap();
        let [status, nanoseconds, allocations, instructions] = self.answer().try_into().unwrap();
        Sample {
            status: status.parse().unwrap(),
            nanoseconds: nanoseconds.parse().unwrap(),
            allocations: allocations.parse().ok(),
            instructions: instructions.parse().ok(),
        }
    }

    /// Has our engine make so many overlays: the bytes they keep.
    pub(crate) fn add_routes(&mut self, count: u64) -> u64 {
        writeln!(self.input, "routes {count}").unwrap();
        self.answer()[0].parse().unwrap()
    }

    /// The most memory the process has had resident, in kB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_ascii_whitespace().find_map(|word| word.parse().ok()).unwrap()
    }

    fn answer(&mut self) -> Vec<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the engine ended early; what it said stands above");
        line.trim_end().split('\t').map(str::to_owned).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // It is idle or gone: that it ends is all that is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
