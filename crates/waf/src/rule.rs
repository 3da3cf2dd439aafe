//! The parts of rules that are the same before and after compilation.

use std::fmt;

use crate::macros::{Num, Text, TxSlot};
use crate::variable::Var;

/// When a rule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// 1: line and head of the request are known.
    RequestHeaders = 1,
    /// 2: the request body is known.
    RequestBody = 2,
    /// 3: the response's head is known.
    ResponseHeaders = 3,
    /// 4: the response body is known.
    ResponseBody = 4,
    /// 5: everything is over; nothing can be blocked.
    Logging = 5,
}

impl Phase {
    /// All phases in order.
    pub const ALL: [Self; 5] =
        [Self::RequestHeaders, Self::RequestBody, Self::ResponseHeaders, Self::ResponseBody, Self::Logging];

    /// The phase's number, from 1 to 5.
    pub const fn number(self) -> u8 {
        self as u8
    }

    pub(crate) const fn index(self) -> usize {
        self as usize - 1
    }

    /// Which of the two prefilters (request, response) serves the phase.
    pub(crate) const fn side(self) -> usize {
        match self {
            Self::RequestHeaders | Self::RequestBody => 0,
            Self::ResponseHeaders | Self::ResponseBody | Self::Logging => 1,
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text.trim().to_ascii_lowercase().as_str() {
            "1" => Self::RequestHeaders,
            "2" | "request" => Self::RequestBody,
            "3" => Self::ResponseHeaders,
            "4" | "response" => Self::ResponseBody,
            "5" | "logging" => Self::Logging,
            _ => return None,
        })
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

/// Whether rules run and whether they may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Rules run and block (`SecRuleEngine On`).
    #[default]
    Block,
    /// Rules run, nothing is blocked (`DetectionOnly`).
    Detect,
    /// No rule runs.
    Off,
}

impl Mode {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let is = |name: &str| text.trim().eq_ignore_ascii_case(name);
        if is("on") {
            Some(Self::Block)
        } else if is("detectiononly") {
            Some(Self::Detect)
        } else if is("off") {
            Some(Self::Off)
        } else {
            None
        }
    }
}

/// What a body that is longer than its limit brings about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAction {
    /// The transaction is interrupted with 413 (request) or 502 (response).
    Reject,
    /// What fits is inspected.
    ProcessPartial,
}

/// Which parser reads the request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Processor {
    Urlencoded,
    Json,
    Multipart,
    Xml,
    GraphQl,
}

impl Processor {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Urlencoded, Self::Json, Self::Multipart, Self::Xml, Self::GraphQl];
        all.into_iter().find(|processor| processor.name().eq_ignore_ascii_case(text.trim()))
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Urlencoded => "URLENCODED",
            Self::Json => "JSON",
            Self::Multipart => "MULTIPART",
            Self::Xml => "XML",
            Self::GraphQl => "GRAPHQL",
        }
    }
}

/// How far `allow` reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AllowScope {
    Phase,
    Request,
    All,
}

/// What a rule does to the transaction when it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disruptive {
    Pass,
    Deny,
    Drop,
    Redirect(Text),
    Allow(AllowScope),
    /// Whatever the phase's default action does.
    Block,
}

/// Which TX variable a `setvar` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TxTarget {
    Slot(TxSlot),
    /// A name with macros in it.
    Named(Text),
    /// A variable of a persistent collection.
    Stored(Var, Text),
}

/// What it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TxChange {
    Set(Text),
    SetInt(i64),
    Add(Num),
    Subtract(Num),
    Unset,
    /// The variable goes after so many seconds.
    Expire(Num),
    /// The variable goes down by the first number for each time that so many seconds have gone by.
    Decay(Num, Num),
    /// The collection is opened under this key.
    Open(Text),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SetVar {
    pub(crate) target: TxTarget,
    pub(crate) change: TxChange,
}

/// What a rule says about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meta {
    pub(crate) msg: Option<Text>,
    pub(crate) logdata: Option<Text>,
    pub(crate) severity: Option<u8>,
    pub(crate) tags: Vec<Tag>,
    pub(crate) ver: Option<Box<str>>,
    pub(crate) rev: Option<Box<str>>,
    pub(crate) maturity: Option<u8>,
    pub(crate) accuracy: Option<u8>,
}

/// A word to find a rule by.
#[derive(Clone, Debug)]
pub(crate) struct Tag {
    /// As written; rules are chosen by it.
    pub(crate) written: Box<str>,
    /// With its macros, when there are any; reports say what they expand to.
    pub(crate) macros: Option<Text>,
}

/// Severity names, by number.
pub(crate) const SEVERITIES: [&str; 8] =
    ["EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG"];
