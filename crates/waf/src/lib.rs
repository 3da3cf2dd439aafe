//! The firewall: validates, compiles and runs SecLang rules. Sans-IO: bytes in, verdicts out, no sockets, no runtime.
//!
//! The way of a rule: `seclang` parses it, [`validate`] resolves every name and value into a [`RuleSet`], [`compile()`]
//! turns that into a [`Program`] of tables and ids ([`Program::dump`] shows it). [`build`] does both. A program is
//! shared by all routes; what a route wants of it is an [`Overlay`].
//!
//! The way of a request: a [`Transaction`] takes connection, request line, fields and body, and runs one phase after
//! another over them. Each value is interned once; each *lane* (what several rules look at, in the same transformed
//! form) is made of segments, one for each target, which are gathered once and kept until what they come from changes;
//! one Aho-Corasick pass over each distinct value tells which patterns may match at all; only those run. An [`Interruption`] says that the transaction must not go on, the [`Report`] at its end what was found.
//!
//! ```
//! use std::sync::Arc;
//! use portcullis_diag::SourceMap;
//! use portcullis_waf::{Action, FileSystem, Overlay, OverlaySettings, Transaction, build};
//!
//! let mut sources = SourceMap::new();
//! let file = sources.add("example.conf", r#"
//! SecRule ARGS "@rx (?i)union\s+select" \
//!     "id:1001,phase:2,deny,t:none,t:urlDecodeUni,msg:'SQL injection in %{MATCHED_VAR_NAME}',severity:CRITICAL"
//! "#);
//! let parsed = portcullis_seclang::parse(&sources, file);
//! let (program, warnings) = build(&parsed.directives, &sources, &FileSystem).map_err(|all| all.to_text(&sources)).unwrap();
//! assert!(parsed.diagnostics.is_empty() && warnings.is_empty());
//! let program = Arc::new(program);
//! let overlay = Arc::new(Overlay::compile(&program, &OverlaySettings::default()).unwrap());
//!
//! let mut transaction = Transaction::new(program, overlay, "request-1");
//! transaction.connection("192.0.2.7".parse().unwrap(), 40000, "192.0.2.1".parse().unwrap(), 443);
//! transaction.request_line(b"GET", b"/search?q=1+UNION%20SELECT+name", b"HTTP/1.1");
//! transaction.request_header(b"Host", b"shop.example");
//! assert_eq!(transaction.check_request_headers(), None);
//! let interruption = transaction.check_request_body().expect("blocked");
//! assert_eq!((interruption.action, interruption.status, interruption.rule_id), (Action::Deny, 403, 1001));
//!
//! let report = transaction.finish();
//! assert_eq!(report.matches[0].msg, "SQL injection in ARGS:q");
//! assert_eq!(report.matches[0].snippet, "1 UNION SELECT name");
//! ```
#![forbid(unsafe_code)]

mod audit;
mod body;
mod byteset;
pub mod codes;
mod compile;
mod geo;
pub mod libinjection;
mod macros;
mod nominations;
pub mod operator;
mod overlay;
mod prefilter;
mod program;
mod reference;
mod report;
mod rule;
pub mod settings;
mod sources;
mod target;
pub mod trace;
pub mod transform;
mod tx;
mod validate;
pub mod variable;

pub use audit::{AuditEngine, AuditLogFormat, AuditLogType, AuditParts, AuditSettings, RelevantStatus};
pub use byteset::ByteSet;
pub use compile::{DataFiles, FileSystem, build, build_with, compile};
pub use overlay::{ExclusionSettings, Overlay, OverlayError, OverlaySettings, Parsers, RuleSelection};
pub use program::{Program, RuleInfo};
pub use reference::{DIVERGENCES, Divergence, reference};
pub use report::{Action, Exclusion, Interruption, Match, Report, SNIPPET, Score};
pub use rule::{LimitAction, Mode, Phase};
pub use tx::{ReportSink, Transaction};
pub use validate::{ACTIONS, ActionInfo, ActionKind, BuildOptions, RuleSet, validate};
