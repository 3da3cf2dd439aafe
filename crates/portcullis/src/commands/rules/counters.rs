//! What a transaction costs besides time, where it can be counted.

/// How often `run` allocates; `None` where this program was built without counting.
#[cfg(feature = "count-allocations")]
pub(super) fn allocations(run: impl FnOnce()) -> Option<u64> {
    Some(allocation_counter::measure(run).count_total)
}

/// How often `run` allocates; `None` where this program was built without counting.
#[cfg(not(feature = "count-allocations"))]
pub(super) fn allocations(_run: impl FnOnce()) -> Option<u64> {
    None
}

/// The hardware's counter of this thread's instructions in user space, where the kernel offers it.
pub(super) struct Instructions {
    #[cfg(target_os = "linux")]
    counter: Option<perf_event::Counter>,
}

impl Instructions {
    #[cfg(target_os = "linux")]
    pub(super) fn new() -> Self {
        // Instructions are what it counts unless it is told otherwise.
        let counter = perf_event::Builder::new().build();
        Self { counter: counter.ok().and_then(|mut counter| counter.enable().is_ok().then_some(counter)) }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn new() -> Self {
        Self {}
    }

    /// How many there have been so far.
    #[cfg(target_os = "linux")]
    pub(super) fn read(&mut self) -> Option<u64> {
        self.counter.as_mut()?.read().ok()
    }

    /// How many there have been so far.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn read(&mut self) -> Option<u64> {
        None
    }
}
