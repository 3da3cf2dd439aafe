//! Compiled patterns: regular expressions and phrase sets, shared by all rules that write the same one.

use std::fmt;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex_automata::Input;
use regex_automata::meta::{Cache, Config, Regex};
use regex_automata::util::primitives::NonMaxUsize;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::Hir;

use super::look::LookRegex;
use super::{dialect, look};
use crate::prefilter::Facts;

/// Index of a [`Pattern`] in the program; also its bit in the prefilter's candidate sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PatternId(pub(crate) u16);

/// A compiled pattern.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// As the rule wrote it (phrase sets: a summary).
    pub(crate) source: String,
    pub(crate) matcher: Matcher,
    /// What every value that matches must have.
    pub(crate) facts: Facts,
}

#[derive(Debug)]
pub(crate) enum Matcher {
    Regex(Box<Regex>),
    /// A regular expression with look-around.
    Look(Box<LookRegex>),
    Phrases(Box<AhoCorasick>),
}

/// Where the whole match and the first nine groups lie.
pub(crate) type Groups = [Option<(u32, u32)>; 10];

/// Bound on what one regular expression may take when compiled (source of the error message, not a tuning knob).
const SIZE_LIMIT: usize = 10 << 20;
/// Lazy-DFA memory for each regular expression and thread; larger ones were not faster (`performance.md`).
const DFA_CACHE: usize = 256 << 10;

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PatternError {
    /// It is wrong: no engine takes it.
    Broken(String),
    /// It is right, but cannot be matched in linear time.
    Unsupported(String),
}

impl From<String> for PatternError {
    fn from(message: String) -> Self {
        Self::Broken(message)
    }
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Broken(message) | Self::Unsupported(message)) = self;
        f.write_str(message)
    }
}

/// Compiles a regular expression in ModSecurity's dialect: bytes, `.` matches newlines, `^` and `$` only at the ends.
pub(crate) fn compile_regex(source: &str, case_insensitive: bool) -> Result<Pattern, PatternError> {
    let rewritten = dialect::rewrite_all(source)?;
    let hir = ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .dot_matches_new_line(true)
        .case_insensitive(case_insensitive)
        .build()
        .parse(&rewritten.pattern)
        .map_err(|error| describe(&error))?;
    let source = source.to_owned();
    if rewritten.groups.contains(&true) {
        let (regex, relaxed) = look::compile(&hir, &rewritten.groups, build)?;
        let facts = Facts::of_regex(&relaxed);
        return Ok(Pattern { source, matcher: Matcher::Look(Box::new(regex)), facts });
    }
    let regex = build(&hir)?;
    Ok(Pattern { source, matcher: Matcher::Regex(Box::new(regex)), facts: Facts::of_regex(&hir) })
}

fn build(hir: &Hir) -> Result<Regex, PatternError> {
    let config = Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(SIZE_LIMIT))
        .hybrid_cache_capacity(DFA_CACHE)
        // Groups of short values would be found faster by it, and those of long ones by what takes twenty times as long
        // a byte: the cost of a value would not be in proportion to its length.
        .backtrack(false)
        .dfa_size_limit(Some(DFA_CACHE));
    let built = Regex::builder().configure(config).build_from_hir(hir);
    built.map_err(|error| PatternError::Broken(format!("the pattern is too large: {error}")))
}

/// Bound on a pattern that is compiled for a request.
const EXPANDED_LIMIT: usize = 64 << 10;

/// Expanded patterns a thread keeps: a rule asks the same one about each of its values.
const EXPANDED_KEPT: usize = 4;

/// A pattern whose macros have been expanded, as text and compiled; `None` when it is broken or too large.
type Expanded = (Box<[u8]>, Option<regex::bytes::Regex>);

fn compile_expanded(source: &[u8]) -> Option<regex::bytes::Regex> {
    let rewritten = dialect::rewrite(&String::from_utf8_lossy(source)).ok()?;
    let mut builder = regex::bytes::RegexBuilder::new(&rewritten);
    builder.unicode(false).dot_matches_new_line(true);
    builder.size_limit(EXPANDED_LIMIT).dfa_size_limit(DFA_CACHE).build().ok()
}

/// The parser's own message is a drawing of several lines; one line says enough beside our own caret.
fn describe(error: &regex_syntax::Error) -> PatternError {
    let reason = match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        other => other.to_string(),
    };
    if reason.contains("look-around") || reason.contains("backreferences") {
        let hint = "patterns here run in linear time, split the rule into a chain instead";
        return PatternError::Unsupported(format!("{reason}; {hint}"));
    }
    PatternError::Broken(reason)
}

/// Compiles a set of phrases, ASCII case-insensitively, the leftmost and longest first.
pub(crate) fn compile_phrases(phrases: &[Vec<u8>]) -> Result<Pattern, String> {
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .kind(Some(AhoCorasickKind::ContiguousNFA))
        .build(phrases)
        .map_err(|error| format!("the phrases cannot be compiled: {error}"))?;
    let head: Vec<String> =
        phrases.iter().take(3).map(|phrase| String::from_utf8_lossy(phrase).into_owned()).collect();
    let more = if phrases.len() > 3 { " ..." } else { "" };
    Ok(Pattern {
        source: format!("{} phrases: {}{more}", phrases.len(), head.join(" ")),
        matcher: Matcher::Phrases(Box::new(automaton)),
        facts: Facts::of_phrases(phrases),
    })
}

/// The mutable memory of the regular expressions of one program, for one thread.
#[derive(Debug, Default)]
pub(crate) struct Caches {
    /// The program these belong to.
    program: u64,
    caches: Vec<Option<Box<Cache>>>,
    /// The last patterns made from macros, the newest last.
    expanded: Vec<Expanded>,
}

impl Caches {
    pub(crate) fn for_program(program: u64) -> Self {
        Self { program, ..Self::default() }
    }

    pub(crate) fn program(&self) -> u64 {
        self.program
    }

    fn get(&mut self, id: PatternId, regex: &Regex) -> Option<&mut Cache> {
        let index = usize::from(id.0);
        if self.caches.len() <= index {
            self.caches.resize_with(index + 1, || None);
        }
        let slot = self.caches.get_mut(index)?;
        Some(slot.get_or_insert_with(|| Box::new(regex.create_cache())))
    }

    /// Whether a pattern whose macros have just been expanded matches. One that is broken or large matches nothing.
    pub(crate) fn matches_expanded(&mut self, source: &[u8], value: &[u8]) -> bool {
        let known = self.expanded.iter().rposition(|(text, _)| **text == *source);
        let at = known.unwrap_or_else(|| {
            if self.expanded.len() == EXPANDED_KEPT {
                self.expanded.remove(0);
            }
            self.expanded.push((source.into(), compile_expanded(source)));
            self.expanded.len() - 1
        });
        let regex = self.expanded.get(at).and_then(|(_, regex)| regex.as_ref());
        regex.is_some_and(|regex| regex.is_match(value))
    }
}

impl Pattern {
    /// Whether the value matches.
    pub(crate) fn is_match(&self, id: PatternId, caches: &mut Caches, value: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Regex(regex) => {
                let input = Input::new(value).earliest(true);
                match caches.get(id, regex) {
                    Some(cache) => regex.search_half_with(cache, &input).is_some(),
                    None => regex.is_match(input),
                }
            }
            Matcher::Look(regex) => regex.is_match(value),
            Matcher::Phrases(automaton) => automaton.is_match(value),
        }
    }

    /// Where the match lies; of phrases, the first one.
    pub(crate) fn find(&self, id: PatternId, caches: &mut Caches, value: &[u8]) -> Option<(u32, u32)> {
        match &self.matcher {
            Matcher::Regex(regex) => {
                let found = regex.search_with(caches.get(id, regex)?, &Input::new(value))?;
                Some((found.start() as u32, found.end() as u32))
            }
            Matcher::Look(regex) => regex.groups(value)?.first().copied().flatten(),
            Matcher::Phrases(automaton) => {
                automaton.find(value).map(|found| (found.start() as u32, found.end() as u32))
            }
        }
    }

    /// Whether a match has more to tell than where it lies.
    pub(crate) fn has_groups(&self) -> bool {
        match &self.matcher {
            Matcher::Regex(regex) => regex.captures_len() > 1,
            Matcher::Look(_) | Matcher::Phrases(_) => true,
        }
    }

    /// The match and its groups (of phrases: up to ten matches); `None` when there is no match.
    pub(crate) fn groups(&self, id: PatternId, caches: &mut Caches, value: &[u8]) -> Option<Groups> {
        let mut groups: Groups = [None; 10];
        match &self.matcher {
            Matcher::Regex(regex) => {
                let mut slots: [Option<NonMaxUsize>; 20] = [None; 20];
                // More slots than the pattern has make one of the engines run over its table (regex-automata 0.4.18).
                let wanted = slots.get_mut(..(regex.captures_len() * 2).min(20))?;
                let cache = caches.get(id, regex)?;
                regex.search_slots_with(cache, &Input::new(value), wanted)?;
                let (pairs, _) = slots.as_chunks::<2>();
                for (group, pair) in groups.iter_mut().zip(pairs) {
                    if let [Some(start), Some(end)] = pair {
                        *group = Some((start.get() as u32, end.get() as u32));
                    }
                }
            }
            Matcher::Look(regex) => groups = regex.groups(value)?,
            Matcher::Phrases(automaton) => {
                for (group, found) in groups.iter_mut().zip(automaton.find_iter(value)) {
                    *group = Some((found.start() as u32, found.end() as u32));
                }
                groups.first().copied().flatten()?;
            }
        }
        Some(groups)
    }

    /// Whether any non-overlapping match passes the test.
    pub(crate) fn any_match(&self, value: &[u8], mut test: impl FnMut(&[u8]) -> bool) -> bool {
        match &self.matcher {
            Matcher::Regex(regex) => {
                regex.find_iter(value).any(|found| value.get(found.range()).is_some_and(&mut test))
            }
            Matcher::Look(regex) => regex.any_match(value, test),
            Matcher::Phrases(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, value: &[u8]) -> bool {
        let pattern = compile_regex(pattern, false).unwrap();
        pattern.is_match(PatternId(0), &mut Caches::default(), value)
    }

    #[test]
    fn braced_hexadecimal_means_a_byte() {
        assert!(matches(r"^\x{e2}\x{80}$", b"\xe2\x80"));
        assert!(!matches(r"^\x{e2}$", "\u{e2}".as_bytes()));
    }

    #[test]
    fn dialect() {
        assert!(matches("a.b", b"a\nb"), "dot matches newlines");
        assert!(!matches("^b", b"a\nb"), "not multi-line");
        assert!(!matches("a$", b"a\n"), "$ is the very end");
        assert!(!matches(r"(?i)k", "\u{212a}".as_bytes()), "ASCII case folding only");
        assert!(matches("", b""));
        assert!(matches("(?=a)", b"a"));
        assert!(matches!(compile_regex(r"(a)\1", false), Err(PatternError::Unsupported(_))));
        assert!(compile_regex("(a", false).is_err());
    }

    /// Long enough to leave the one-pass and backtracking engines behind.
    #[test]
    fn groups_of_long_values() {
        let pattern = compile_regex(r"(?i)(?:a|ab)*?(c+)x?[^d]*d", false).unwrap();
        let mut value = b"ab".repeat(200_000);
        value.extend_from_slice(b"ccxd");
        let groups = pattern.groups(PatternId(0), &mut Caches::default(), &value).unwrap();
        assert_eq!(&groups[..3], [Some((0, 400_004)), Some((400_000, 400_002)), None]);
    }

    #[test]
    fn expanded_patterns_are_compiled_once_and_forgotten_in_turn() {
        let mut caches = Caches::default();
        for round in 0..3 {
            for source in ["^a$", "^b$", "(", "^c$", "^a", r"\x{61}"] {
                let matches = !matches!(source, "^b$" | "(" | "^c$");
                assert_eq!(caches.matches_expanded(source.as_bytes(), b"a"), matches, "{source} {round}");
            }
        }
        assert_eq!(caches.expanded.len(), EXPANDED_KEPT);
    }

    #[test]
    fn groups_beyond_the_ninth_are_dropped_and_missing_ones_empty() {
        let pattern = compile_regex("(a)|(b)", false).unwrap();
        let groups = pattern.groups(PatternId(0), &mut Caches::default(), b"xb").unwrap();
        assert_eq!(&groups[..3], [Some((1, 2)), None, Some((1, 2))]);
        let many = compile_regex("(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)", false).unwrap();
        let groups = many.groups(PatternId(0), &mut Caches::default(), b"abcdefghijkl").unwrap();
        assert_eq!(groups[9], Some((8, 9)));
    }
}
