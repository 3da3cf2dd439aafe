//! The codes of findings in rule files. `SEC00xx` is syntax and files (this crate); what a rule
//! means is judged by the crate `waf` with codes from `SEC0100` on.

use portcullis_diag::Code;

/// A line starts with a word that is no SecLang directive.
pub const UNKNOWN_DIRECTIVE: Code = Code::new("SEC0001");
/// A quote is opened and not closed.
pub const UNCLOSED_QUOTE: Code = Code::new("SEC0002");
/// Text follows directly on a closing quote.
pub const TEXT_AFTER_QUOTE: Code = Code::new("SEC0003");
/// A directive lacks an argument.
pub const MISSING_ARGUMENT: Code = Code::new("SEC0004");
/// A directive has an argument too many.
pub const EXTRA_ARGUMENT: Code = Code::new("SEC0005");
/// A variable list is malformed.
pub const VARIABLE_SYNTAX: Code = Code::new("SEC0006");
/// A regex or quoted selector is opened and not closed.
pub const UNCLOSED_SELECTOR: Code = Code::new("SEC0007");
/// An operator is malformed.
pub const OPERATOR_SYNTAX: Code = Code::new("SEC0008");
/// An action list is malformed.
pub const ACTION_SYNTAX: Code = Code::new("SEC0009");
/// A rule id or range of ids is malformed.
pub const RULE_ID_SYNTAX: Code = Code::new("SEC0010");
/// The file ends after a backslash that promises another line.
pub const CONTINUED_END: Code = Code::new("SEC0011");
/// The file holds bytes that are not UTF-8.
pub const NOT_UTF8: Code = Code::new("SEC0012");
/// A file has so many findings that the rest are left out.
pub const TOO_MANY_FINDINGS: Code = Code::new("SEC0013");
/// A file or directory cannot be read.
pub const UNREADABLE_FILE: Code = Code::new("SEC0020");
/// A path or pattern matches no file.
pub const NO_SUCH_FILE: Code = Code::new("SEC0021");
/// A file includes itself, or includes go too deep.
pub const INCLUDE_RECURSION: Code = Code::new("SEC0022");
/// More files are included than a sane rule set has.
pub const TOO_MANY_FILES: Code = Code::new("SEC0023");
