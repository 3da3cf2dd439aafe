//! Look-around and references to words, in linear time.
//!
//! A pattern with `(?=…)`, `(?!…)`, `(?<=…)`, `(?<!…)` or `\b\1\b` is compiled to an automaton whose assertions are asked
//! for by number. What a look-around says depends on the place alone, not on how the match came there: it is answered for
//! all places beforehand, by one pass of its own automaton over the value, backwards for look-ahead and forwards for
//! look-behind (Barrière and Pit-Claudel, "Linear Matching of JavaScript Regexes", PLDI 2024). Then the pattern itself
//! runs, all alternatives side by side ([`vm`]); the cost is the value's length times the pattern's.
//!
//! A back-reference compares with something the match remembers, which no automaton can do in general. One form can be
//! done: the group is a whole word, `\b(\w+)\b`, it is asked for as a whole word, `\b\1\b` or `(?!\b\1\b)`, and what may be
//! repeated without bound in the pattern either holds no byte of words or nothing else. Then a match has crossed but a
//! few words since the group, so that at each place only a few words are remembered by any alternative. Everything else
//! is refused.

#[cfg(test)]
mod tests;
mod vm;

use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_automata::util::look::Look;
use regex_syntax::hir::{self, Capture, Class, ClassBytes, ClassBytesRange, Hir, HirKind, Repetition};

use super::dialect;
use super::pattern::{Groups, PatternError};

/// Assertions of `regex-syntax` that PCRE's syntax has no word for (the dialect escapes `\b{…}`): they stand for ours.
const PLACEHOLDERS: [(hir::Look, Look); 12] = [
    (hir::Look::WordStartAscii, Look::WordStartAscii),
    (hir::Look::WordEndAscii, Look::WordEndAscii),
    (hir::Look::WordStartHalfAscii, Look::WordStartHalfAscii),
    (hir::Look::WordEndHalfAscii, Look::WordEndHalfAscii),
    (hir::Look::WordStartUnicode, Look::WordStartUnicode),
    (hir::Look::WordEndUnicode, Look::WordEndUnicode),
    (hir::Look::WordStartHalfUnicode, Look::WordStartHalfUnicode),
    (hir::Look::WordEndHalfUnicode, Look::WordEndHalfUnicode),
    (hir::Look::WordUnicode, Look::WordUnicode),
    (hir::Look::WordUnicodeNegate, Look::WordUnicodeNegate),
    (hir::Look::StartCRLF, Look::StartCRLF),
    (hir::Look::EndCRLF, Look::EndCRLF),
];

/// Bound on the memory of each automaton.
const SIZE_LIMIT: usize = 4 << 20;

/// More than so many repetitions count as any number.
const MANY: u32 = 16;

/// What a placeholder asks.
#[derive(Debug)]
enum Assertion {
    /// Whether the automaton matches from a place on (`ahead`; then it is built to run backwards), or up to it.
    Look { nfa: NFA, ahead: bool, negative: bool },
    /// Whether the word that begins at a place is the one the group found.
    Word { ignore_case: bool, negative: bool },
}

/// A pattern that looks around.
#[derive(Debug)]
pub(crate) struct LookRegex {
    nfa: NFA,
    /// By placeholder. Each asks only those before it.
    assertions: Vec<Assertion>,
    /// The group whose word is remembered.
    word: Option<u32>,
    /// The pattern without its assertions: where it does not match, the pattern does not either.
    relaxed: Regex,
}

/// The pattern, and for the prefilter what it is without its assertions.
///
/// # Errors
/// When it cannot be matched in linear time, or is too large.
pub(crate) fn compile(
    hir: &Hir,
    groups: &[bool],
    relaxed: impl FnOnce(&Hir) -> Result<Regex, PatternError>,
) -> Result<(LookRegex, Hir), PatternError> {
    let mut builder =
        Builder { groups, assertions: Vec::new(), looks: Vec::new(), word: None, delimited: Vec::new() };
    let exact = builder.lower(hir, false)?;
    if let Some(group) = builder.word {
        let known = builder.delimited.contains(&group);
        if !known || !crosses_few_words(hir) {
            return Err(unsupported_reference());
        }
    }
    let without = relax(&exact);
    let regex = LookRegex {
        nfa: automaton(&exact, false, WhichCaptures::All)?,
        assertions: builder.assertions,
        word: builder.word,
        relaxed: relaxed(&without)?,
    };
    Ok((regex, without))
}

fn unsupported_reference() -> PatternError {
    PatternError::Unsupported(
        "patterns run in linear time: a back-reference must be to a word and be a word, as in `\\b(\\w+)\\b=\\b\\1\\b`; \
         otherwise split the rule into a chain"
            .to_owned(),
    )
}

fn automaton(hir: &Hir, reverse: bool, captures: WhichCaptures) -> Result<NFA, PatternError> {
    let config = thompson::Config::new()
        .utf8(false)
        .reverse(reverse)
        .which_captures(captures)
        .nfa_size_limit(Some(SIZE_LIMIT));
    let built = thompson::Compiler::new().configure(config).build_from_hir(hir);
    built.map_err(|error| PatternError::Broken(format!("the pattern is too large: {error}")))
}

struct Builder<'a> {
    /// For each group of the source, whether it stands for an assertion.
    groups: &'a [bool],
    assertions: Vec<Assertion>,
    /// What the assertions look for, with `ahead` and `negative`: the same is asked once.
    looks: Vec<(Hir, bool, bool, Hir)>,
    word: Option<u32>,
    /// Groups that are whole words and stand in no repetition.
    delimited: Vec<u32>,
}

impl Builder<'_> {
    /// The expression with its assertions as placeholders.
    fn lower(&mut self, hir: &Hir, repeated: bool) -> Result<Hir, PatternError> {
        Ok(match hir.kind() {
            HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => hir.clone(),
            HirKind::Look(look) if PLACEHOLDERS.iter().any(|(placeholder, _)| placeholder == look) => {
                return Err(PatternError::Broken("PCRE knows no such assertion".to_owned()));
            }
            HirKind::Look(_) => hir.clone(),
            HirKind::Repetition(repetition) => {
                let sub = Box::new(self.lower(&repetition.sub, true)?);
                Hir::repetition(Repetition { sub, ..repetition.clone() })
            }
            HirKind::Capture(capture) => self.capture(capture, repeated)?,
            HirKind::Alternation(branches) => {
                let branches: Result<Vec<_>, _> =
                    branches.iter().map(|branch| self.lower(branch, repeated)).collect();
                Hir::alternation(branches?)
            }
            HirKind::Concat(parts) => self.concat(parts, repeated)?,
        })
    }

    fn concat(&mut self, parts: &[Hir], repeated: bool) -> Result<Hir, PatternError> {
        let mut out = Vec::with_capacity(parts.len());
        let mut rest = parts;
        while let Some((first, tail)) = rest.split_first() {
            rest = tail;
            if let ([middle, last, after @ ..], true) = (tail, is_boundary(first))
                && is_boundary(last)
                && let HirKind::Capture(capture) = middle.kind()
            {
                if let Some((group, ignore_case)) = reference(capture) {
                    out.push(self.word_assertion(group, ignore_case, false)?);
                    out.push(words());
                    out.push(last.clone());
                    rest = after;
                    continue;
                }
                if is_word(&capture.sub) && !repeated {
                    self.delimited.push(self.number(capture.index));
                }
            }
            out.push(self.lower(first, repeated)?);
        }
        Ok(Hir::concat(out))
    }

    fn capture(&mut self, capture: &Capture, repeated: bool) -> Result<Hir, PatternError> {
        let kinds = [
            (dialect::LOOK_AHEAD, true, false),
            (dialect::NO_LOOK_AHEAD, true, true),
            (dialect::LOOK_BEHIND, false, false),
            (dialect::NO_LOOK_BEHIND, false, true),
        ];
        let name = capture.name.as_deref().unwrap_or_default();
        let ours = usize::try_from(capture.index)
            .ok()
            .and_then(|index| self.groups.get(index.checked_sub(1)?))
            .is_some_and(|ours| *ours);
        if !ours {
            let sub = Box::new(self.lower(&capture.sub, repeated)?);
            let index = self.number(capture.index);
            return Ok(Hir::capture(Capture { index, name: None, sub }));
        }
        let kind = kinds.into_iter().find(|(prefix, ..)| name.starts_with(prefix));
        let Some((_, ahead, negative)) = kind else { return Err(unsupported_reference()) };
        if let (HirKind::Concat(parts), true) = (capture.sub.kind(), ahead)
            && let [first, middle, last] = parts.as_slice()
            && is_boundary(first)
            && is_boundary(last)
            && let HirKind::Capture(middle) = middle.kind()
            && let Some((group, ignore_case)) = reference(middle)
        {
            return self.word_assertion(group, ignore_case, negative);
        }
        let before = self.assertions.len();
        let sub = self.lower(&capture.sub, repeated)?;
        if self.assertions.iter().skip(before).any(|inner| matches!(inner, Assertion::Word { .. })) {
            return Err(unsupported_reference());
        }
        if !negative && sub.properties().explicit_captures_len() > 0 {
            let message = "a group inside of a look-around must not capture; write `(?:`";
            return Err(PatternError::Unsupported(message.to_owned()));
        }
        let same =
            |known: &&(Hir, bool, bool, Hir)| known.0 == sub && (known.1, known.2) == (ahead, negative);
        if let Some((.., placeholder)) = self.looks.iter().find(same) {
            return Ok(placeholder.clone());
        }
        let nfa = automaton(&sub, ahead, WhichCaptures::None)?;
        let placeholder = self.placeholder(Assertion::Look { nfa, ahead, negative })?;
        self.looks.push((sub, ahead, negative, placeholder.clone()));
        Ok(placeholder)
    }

    fn word_assertion(&mut self, group: u32, ignore_case: bool, negative: bool) -> Result<Hir, PatternError> {
        if self.word.is_some_and(|known| known != group) {
            return Err(unsupported_reference());
        }
        self.word = Some(group);
        self.placeholder(Assertion::Word { ignore_case, negative })
    }

    fn placeholder(&mut self, assertion: Assertion) -> Result<Hir, PatternError> {
        let Some((look, _)) = PLACEHOLDERS.get(self.assertions.len()) else {
            let message = format!("a pattern can look around at most {} times", PLACEHOLDERS.len());
            return Err(PatternError::Unsupported(message));
        };
        self.assertions.push(assertion);
        Ok(Hir::look(*look))
    }

    /// A group's number in the source.
    fn number(&self, index: u32) -> u32 {
        let before = self.groups.iter().take(index as usize).filter(|ours| **ours).count();
        index - before as u32
    }
}

/// The group a placeholder refers to, and whether letters compare without regard to case there.
fn reference(capture: &Capture) -> Option<(u32, bool)> {
    let rest = capture.name.as_deref()?.strip_prefix(dialect::BACK_REFERENCE)?;
    let group = rest.split('_').next()?.parse().ok()?;
    Some((group, matches!(capture.sub.kind(), HirKind::Class(_))))
}

fn is_boundary(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Look(hir::Look::WordAscii))
}

/// Whether it is one or more bytes of words.
fn is_word(hir: &Hir) -> bool {
    matches!(hir.kind(), HirKind::Repetition(repetition) if repetition.min > 0 && bytes(&repetition.sub) == (true, false))
}

/// A whole word, when it begins at one.
fn words() -> Hir {
    let ranges = [(b'0', b'9'), (b'A', b'Z'), (b'_', b'_'), (b'a', b'z')];
    let class = ClassBytes::new(ranges.map(|(from, to)| ClassBytesRange::new(from, to)));
    let sub = Box::new(Hir::class(Class::Bytes(class)));
    Hir::repetition(Repetition { min: 1, max: None, greedy: true, sub })
}

const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether the expression can take bytes of words, and whether it can take others.
fn bytes(hir: &Hir) -> (bool, bool) {
    let either = |one: (bool, bool), other: (bool, bool)| (one.0 || other.0, one.1 || other.1);
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => (false, false),
        HirKind::Literal(literal) => {
            let word = |byte: &u8| is_word_byte(*byte);
            (literal.0.iter().any(word), !literal.0.iter().all(word))
        }
        HirKind::Class(Class::Bytes(class)) => class
            .ranges()
            .iter()
            .flat_map(|range| range.start()..=range.end())
            .map(is_word_byte)
            .fold((false, false), |kinds, word| either(kinds, (word, !word))),
        HirKind::Class(Class::Unicode(_)) => (true, true),
        HirKind::Repetition(repetition) => bytes(&repetition.sub),
        HirKind::Capture(capture) if looks(capture) => (false, false),
        HirKind::Capture(capture) => bytes(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().map(bytes).fold((false, false), either)
        }
    }
}

/// Whether the group stands for a look-around, which takes nothing.
fn looks(capture: &Capture) -> bool {
    let names = [dialect::LOOK_AHEAD, dialect::NO_LOOK_AHEAD, dialect::LOOK_BEHIND, dialect::NO_LOOK_BEHIND];
    capture.name.as_deref().is_some_and(|name| names.iter().any(|prefix| name.starts_with(prefix)))
}

/// Whether what is repeated without bound stays within one word, or between two.
fn crosses_few_words(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Literal(_) | HirKind::Class(_) => true,
        HirKind::Repetition(repetition) => {
            let few = repetition.max.is_some_and(|most| most <= MANY);
            crosses_few_words(&repetition.sub) && (few || bytes(&repetition.sub) != (true, true))
        }
        HirKind::Capture(capture) => looks(capture) || crosses_few_words(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().all(crosses_few_words),
    }
}

/// The expression without placeholders.
fn relax(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(look) if PLACEHOLDERS.iter().any(|(placeholder, _)| placeholder == look) => {
            Hir::empty()
        }
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => hir.clone(),
        HirKind::Repetition(repetition) => {
            Hir::repetition(Repetition { sub: Box::new(relax(&repetition.sub)), ..repetition.clone() })
        }
        HirKind::Capture(capture) => {
            Hir::capture(Capture { sub: Box::new(relax(&capture.sub)), ..capture.clone() })
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(relax).collect()),
        HirKind::Alternation(branches) => Hir::alternation(branches.iter().map(relax).collect()),
    }
}

impl LookRegex {
    /// Whether the value matches.
    pub(crate) fn is_match(&self, value: &[u8]) -> bool {
        self.relaxed.is_match(value) && vm::Search::new(self, value).find(0, true).is_some()
    }

    /// The leftmost match and its groups.
    pub(crate) fn groups(&self, value: &[u8]) -> Option<Groups> {
        self.relaxed.find(value)?;
        vm::Search::new(self, value).find(0, false)
    }

    /// Whether any of the matches that do not overlap passes the test.
    pub(crate) fn any_match(&self, value: &[u8], mut test: impl FnMut(&[u8]) -> bool) -> bool {
        if !self.relaxed.is_match(value) {
            return false;
        }
        let search = vm::Search::new(self, value);
        let mut from = 0;
        while let Some(groups) = search.find(from, false) {
            let Some(Some((start, end))) = groups.first().copied() else { return false };
            let (start, end) = (start as usize, end as usize);
            if value.get(start..end).is_some_and(&mut test) {
                return true;
            }
            from = if end > start { end } else { end + 1 };
        }
        false
    }
}
