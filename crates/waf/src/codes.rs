//! The codes of findings about what rules mean. `SEC00xx` is syntax (crate `seclang`), `SEC01xx` is here.

use portcullis_diag::Code;

/// A directive nobody knows.
pub const UNKNOWN_DIRECTIVE: Code = Code::new("SEC0100");
/// A variable nobody knows.
pub const UNKNOWN_VARIABLE: Code = Code::new("SEC0101");
/// A variable this engine does not fill.
pub const UNSUPPORTED_VARIABLE: Code = Code::new("SEC0102");
/// An operator nobody knows.
pub const UNKNOWN_OPERATOR: Code = Code::new("SEC0103");
/// An operator this engine does not have.
pub const UNSUPPORTED_OPERATOR: Code = Code::new("SEC0104");
/// An operator's argument that cannot be used, such as a broken regular expression.
pub const OPERATOR_ARGUMENT: Code = Code::new("SEC0105");
/// A transformation nobody knows.
pub const UNKNOWN_TRANSFORMATION: Code = Code::new("SEC0106");
/// An action nobody knows.
pub const UNKNOWN_ACTION: Code = Code::new("SEC0107");
/// An action this engine does not have.
pub const UNSUPPORTED_ACTION: Code = Code::new("SEC0108");
/// An action's value that cannot be used.
pub const ACTION_VALUE: Code = Code::new("SEC0109");
/// A rule without an id.
pub const MISSING_ID: Code = Code::new("SEC0110");
/// Two rules with one id.
pub const DUPLICATE_ID: Code = Code::new("SEC0111");
/// A chain that ends early, or a link with actions of the first rule.
pub const CHAIN: Code = Code::new("SEC0112");
/// `skipAfter` names a marker that does not come after the rule.
pub const MISSING_MARKER: Code = Code::new("SEC0113");
/// Accepted, but without effect here (a warning).
pub const NO_EFFECT: Code = Code::new("SEC0114");
/// A data file that cannot be read.
pub const DATA_FILE: Code = Code::new("SEC0115");
/// A directive that selects no rule (a warning).
pub const NOTHING_SELECTED: Code = Code::new("SEC0116");
/// A macro that cannot be resolved.
pub const MACRO: Code = Code::new("SEC0117");
/// A directive's value that cannot be used.
pub const SETTING_VALUE: Code = Code::new("SEC0118");
/// A selector that cannot be used.
pub const SELECTOR: Code = Code::new("SEC0119");
/// More rules, patterns or names than a program can hold.
pub const TOO_LARGE: Code = Code::new("SEC0120");
/// A pattern that cannot be matched in linear time.
pub const UNSUPPORTED_PATTERN: Code = Code::new("SEC0121");
/// A directive this engine does not have.
pub const UNSUPPORTED_DIRECTIVE: Code = Code::new("SEC0122");
