//! What the firewall and leak prevention did, in the words of metrics and logs.

/// What the firewall did because of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FirewallAction {
    /// The request or response was refused with a status.
    Deny,
    /// The connection was closed without an answer.
    Drop,
    /// The client was sent elsewhere.
    Redirect,
    /// The rest of the rules was skipped.
    Allow,
    /// It would have been refused, but the firewall only detects.
    Detect,
    /// The rule matched and was logged; nothing else followed from it.
    Log,
}

impl FirewallAction {
    /// The action's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            FirewallAction::Deny => "deny",
            FirewallAction::Drop => "drop",
            FirewallAction::Redirect => "redirect",
            FirewallAction::Allow => "allow",
            FirewallAction::Detect => "detect",
            FirewallAction::Log => "log",
        }
    }
}

/// What leak prevention did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeakAction {
    /// A piece of the response was masked.
    Mask,
    /// The response was withheld.
    Block,
}

impl LeakAction {
    /// The action's name in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LeakAction::Mask => "mask",
            LeakAction::Block => "block",
        }
    }
}
