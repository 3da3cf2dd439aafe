//! Where the firewall's own logs go.

use super::{ErrorFormat, FirewallEvent};
use crate::LogQueue;
use std::cell::RefCell;

/// What every audit entry says of this gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    /// What names this gateway.
    pub server_id: String,
    /// Names and versions of the rule sets in force (`SecComponentSignature`).
    pub components: Vec<String>,
}

/// The firewall's own logs: lines as of ModSecurity's error log, entries as of its audit log.
#[derive(Clone, Debug, Default)]
pub struct FirewallLog {
    error: Option<(LogQueue, ErrorFormat)>,
    audit: Option<(LogQueue, Producer)>,
}

thread_local! {
    /// What is being written; kept, so that a line costs no allocation.
    static TEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl FirewallLog {
    /// Writes error lines to one queue and audit entries to another; either may be absent.
    #[must_use]
    pub fn new(error: Option<(LogQueue, ErrorFormat)>, audit: Option<(LogQueue, Producer)>) -> Self {
        FirewallLog { error, audit }
    }

    /// Queues a line for each rule that matched, and an entry where the event has parts of one; never waits.
    pub fn write(&self, event: &FirewallEvent<'_>) {
        TEXT.with_borrow_mut(|text| {
            if let Some((queue, format)) = &self.error {
                for matched in event.matches {
                    text.clear();
                    event.write_error_line(matched, *format, text);
                    queue.push(text);
                }
            }
            if let (Some((queue, producer)), Some(parts)) = (&self.audit, event.audited) {
                text.clear();
                event.write_audit_entry(parts, producer, text);
                queue.push(text);
            }
        });
    }
}
