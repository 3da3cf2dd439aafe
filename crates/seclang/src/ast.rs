//! The syntax tree: what was written, each piece with its place, nothing judged yet.

use std::fmt;
use std::ops::{Deref, Range};

use portcullis_diag::{Diagnostics, Span};

/// Everything found in one text (or, after [`crate::load`], in a set of files).
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The directives in the order they were written. A directive with a syntax error is left
    /// out when nothing useful remains of it, so a list with errors must not be put to work.
    pub directives: Vec<Directive>,
    /// What is wrong with the text.
    pub diagnostics: Diagnostics,
}

/// A word of the source after quotes, escapes and line continuations have been resolved.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    /// The resolved value.
    pub value: String,
    /// Where it stands in the source, without the quotes around it.
    pub span: Span,
    /// Where bytes of the source were left out: (offset in `value`, bytes left out so far).
    cuts: Vec<(u32, u32)>,
}

impl Text {
    /// A text whose value stands in the source as it is.
    #[must_use]
    pub fn new(value: impl Into<String>, span: Span) -> Self {
        Self { value: value.into(), span, cuts: Vec::new() }
    }

    pub(crate) fn with_cuts(value: String, span: Span, cuts: Vec<(u32, u32)>) -> Self {
        Self { value, span, cuts }
    }

    /// The value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// The place of `range` (bytes of the value) in the source, also when quotes were escaped or
    /// lines continued before it. For pointing into a regex, for example.
    #[must_use]
    pub fn locate(&self, range: Range<usize>) -> Span {
        let before = |offset: usize| {
            let known = self.cuts.partition_point(|(at, _)| *at as usize <= offset);
            let left_out = known.checked_sub(1).and_then(|last| self.cuts.get(last)).map_or(0, |cut| cut.1);
            (self.span.start as usize + offset + left_out as usize).min(self.span.end as usize)
        };
        let start = before(range.start);
        let end = if range.end > range.start { before(range.end - 1) + 1 } else { start };
        Span::new(self.span.source, start, end.min(self.span.end as usize))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.value
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        &self.value
    }
}

/// The value, for messages.
impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.value)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}@{:?}", self.value, self.span)
    }
}

/// One directive: a logical line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directive {
    /// The whole line, from the name to the last argument; over several physical lines when it
    /// was continued.
    pub span: Span,
    /// The name as written, such as `SecRule`; names compare without regard to case.
    pub name: Text,
    /// What it says.
    pub kind: DirectiveKind,
}

/// The directives with a grammar of their own, and the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectiveKind {
    /// `SecRule VARIABLES "OPERATOR" "ACTIONS"`.
    Rule(Box<Rule>),
    /// `SecAction "ACTIONS"`: runs always.
    Action(Actions),
    /// `SecDefaultAction "ACTIONS"`.
    DefaultAction(Actions),
    /// `SecMarker NAME`: where `skipAfter:NAME` goes on.
    Marker(Text),
    /// `SecRuleRemoveById`, `…ByTag`, `…ByMsg`.
    Remove(RuleSelector),
    /// `SecRuleUpdateTargetById`, `…ByTag`, `…ByMsg`.
    UpdateTarget(UpdateTarget),
    /// `SecRuleUpdateActionById`.
    UpdateAction(UpdateAction),
    /// `Include` or `IncludeOptional`; [`crate::load`] replaces it by the directives included.
    Include(Include),
    /// Any other `Sec…` directive with its arguments.
    Setting(Vec<Text>),
}

/// The parts of a `SecRule`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is inspected, in the order written.
    pub variables: Vec<Variable>,
    /// The place of the variable list.
    pub variables_span: Span,
    /// How it is inspected.
    pub operator: Operator,
    /// What happens then; empty when the rule has no third argument.
    pub actions: Actions,
}

/// One element of a variable list: `ARGS`, `!ARGS:id`, `&REQUEST_HEADERS:Host`, `XML:/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// The element with its prefix and selector.
    pub span: Span,
    /// The collection's name as written; names compare without regard to case.
    pub name: Text,
    /// `!`: take this away from the variables.
    pub excluded: bool,
    /// `&`: the number of values instead of the values.
    pub counted: bool,
    /// What follows the colon.
    pub selector: Option<Selector>,
}

/// Which values of a collection are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The values under this key.
    Key(Text),
    /// `/…/`: the values whose keys the regex finds; `\/` is resolved to `/`.
    Regex(Text),
    /// A path of `XML:` or `JSON:`, as written.
    Path(Text),
}

impl Selector {
    /// The key, pattern or path.
    #[must_use]
    pub const fn text(&self) -> &Text {
        match self {
            Self::Key(text) | Self::Regex(text) | Self::Path(text) => text,
        }
    }
}

/// The second argument of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// From the `!` or `@` to the end of the argument.
    pub span: Span,
    /// `!`: the rule matches when the operator does not.
    pub negated: bool,
    /// The name without `@`; `rx` with an empty span when none was written.
    pub name: Text,
    /// Whether the name was written.
    pub explicit: bool,
    /// What follows the name, without the spaces around it; may be empty.
    pub argument: Text,
}

/// A list of actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actions {
    /// The place of the list, without the quotes around it.
    pub span: Span,
    /// The actions in the order written.
    pub items: Vec<Action>,
}

impl Actions {
    /// The actions of this name, without regard to case.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Action> {
        self.items.iter().filter(move |action| action.name.eq_ignore_ascii_case(name))
    }
}

/// One action: `deny`, `id:942100`, `msg:'SQL injection'`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Action {
    /// Name and value with its quotes.
    pub span: Span,
    /// The name as written; names compare without regard to case.
    pub name: Text,
    /// What follows the colon, without the quotes around it; `None` without a colon.
    pub value: Option<Text>,
}

/// Which rules a directive is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleSelector {
    /// Rules by id.
    Ids(Vec<IdRange>),
    /// Rules with a tag.
    Tag(Text),
    /// Rules with a message.
    Message(Text),
}

/// `942100` or `942100-942199`, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// Where it is written.
    pub span: Span,
    /// The lowest id.
    pub first: u64,
    /// The highest id; equal to `first` for a single one.
    pub last: u64,
}

impl IdRange {
    /// Whether `id` lies in the range.
    #[must_use]
    pub const fn contains(&self, id: u64) -> bool {
        self.first <= id && id <= self.last
    }
}

/// `SecRuleUpdateTargetById 942100 "!ARGS:q"`, optionally with variables to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateTarget {
    /// The rules meant.
    pub rules: RuleSelector,
    /// Variables added to the rule's; those with `!` are taken away from them.
    pub variables: Vec<Variable>,
    /// Third argument: the variables of the rule that the new ones replace.
    pub replaced: Vec<Variable>,
}

/// `SecRuleUpdateActionById 942100 "pass,log"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateAction {
    /// The rules meant.
    pub rules: Vec<IdRange>,
    /// `942100:2`: the link of the rule's chain, counted from 0; `None` means the first.
    pub link: Option<u32>,
    /// The actions that are added or replace others.
    pub actions: Actions,
}

/// `Include rules/*.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// The path or glob pattern, relative to the file it stands in.
    pub pattern: Text,
    /// `IncludeOptional`: no error when nothing matches.
    pub optional: bool,
}
