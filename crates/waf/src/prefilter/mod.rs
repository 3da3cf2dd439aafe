//! What a value must have for a pattern to match it, and one scan that finds out for all patterns at once.
//!
//! From a regular expression's syntax tree come literals of which every match contains one, classes of bytes of which
//! every match contains one each, and a minimum length. One Aho-Corasick pass over a value finds the literals of all
//! patterns; a pattern whose facts do not hold is not run. The facts may only ever be too weak, never too strong: a
//! property test compares them with the expressions themselves.

mod automaton;
mod facts;
mod long;

use std::collections::BTreeMap;

use crate::operator::{Pattern, PatternId};

use automaton::Automaton;
pub(crate) use facts::Facts;
use long::{LONG, LongTexts};

/// One automaton over the literals of all patterns of some phases.
#[derive(Debug)]
pub(crate) struct Prefilter {
    automaton: Option<Automaton>,
    /// For long texts, where the literals allow it: those of the patterns that are for bodies, and the other patterns,
    /// candidates for every such text.
    long: Option<(LongTexts, Box<[u64]>)>,
    literals: usize,
    /// The patterns nothing is known of: candidates for every value.
    always: Box<[u64]>,
}

impl Prefilter {
    /// Builds the automaton for the patterns listed; `total` is the number of patterns of the program, `for_bodies` says
    /// which of them look for what an answer's body may hold.
    pub(crate) fn new<'a>(
        patterns: impl Iterator<Item = (PatternId, &'a Pattern)>,
        total: usize,
        for_bodies: impl Fn(PatternId) -> bool,
    ) -> Self {
        let mut always = vec![0u64; total.div_ceil(64)].into_boxed_slice();
        let mut literals: BTreeMap<&[u8], Vec<u16>> = BTreeMap::new();
        for (id, pattern) in patterns {
            if pattern.facts.literals.is_empty() {
                set_bit(&mut always, id);
            }
            for literal in &pattern.facts.literals {
                let users = literals.entry(literal).or_default();
                if users.last() != Some(&id.0) {
                    users.push(id.0);
                }
            }
        }
        let literals: Vec<(&[u8], Vec<u16>)> = literals.into_iter().collect();
        let automaton = (!literals.is_empty()).then(|| Automaton::new(&literals));
        let mut others = always.clone();
        let mut of_bodies = literals.clone();
        for (_, users) in &mut of_bodies {
            users
                .iter()
                .map(|id| PatternId(*id))
                .filter(|id| !for_bodies(*id))
                .for_each(|id| set_bit(&mut others, id));
            users.retain(|id| for_bodies(PatternId(*id)));
        }
        of_bodies.retain(|(_, users)| !users.is_empty());
        let long = LongTexts::new(&of_bodies).map(|long| (long, others));
        Self { automaton, long, literals: literals.len(), always }
    }

    /// Number of literals, for the dump.
    pub(crate) fn literal_count(&self) -> usize {
        self.literals
    }

    /// Appends the candidate set of `value` (one bit for each pattern of the program) to `pool`.
    pub(crate) fn scan(&self, value: &[u8], pool: &mut Vec<u64>) {
        let start = pool.len();
        pool.extend_from_slice(&self.always);
        let Some(automaton) = &self.automaton else { return };
        let set = pool.get_mut(start..).unwrap_or_default();
        let rest = match &self.long {
            Some((long, others)) if value.len() >= LONG => {
                set.iter_mut().zip(others).for_each(|(word, more)| *word |= more);
                match long.scan(value, set) {
                    None => return,
                    Some(at) => value.get(at..).unwrap_or_default(),
                }
            }
            _ => value,
        };
        automaton.scan(rest, set);
    }
}

/// Sets a pattern's bit.
#[inline]
pub(crate) fn set_bit(set: &mut [u64], id: PatternId) {
    if let Some(word) = set.get_mut(usize::from(id.0 >> 6)) {
        *word |= 1 << (id.0 & 63);
    }
}

/// Whether a pattern's bit is set.
#[inline]
pub(crate) fn has_bit(set: &[u64], id: PatternId) -> bool {
    set.get(usize::from(id.0 >> 6)).is_some_and(|word| word & (1 << (id.0 & 63)) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byteset::ByteSet;
    use crate::operator::{Caches, compile_phrases, compile_regex};
    use portcullis_diag::SourceMap;
    use portcullis_seclang::{Disk, load};
    use proptest::prelude::*;
    use std::io::BufRead as _;
    use std::path::Path;

    fn facts(pattern: &str) -> Facts {
        compile_regex(pattern, false).unwrap().facts
    }

    #[test]
    fn literals_are_found() {
        let literals = |pattern| {
            let found = facts(pattern).literals;
            found.iter().map(|literal| String::from_utf8_lossy(literal).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(literals("(?i)union.{1,100}select"), ["select"]);
        assert_eq!(literals("(?:foo|ba[rz])+x?"), ["bar", "baz", "foo"]);
        assert_eq!(literals("a(?:b|c)d"), ["abd", "acd"]);
        assert_eq!(literals("^(?:.*x)?$"), Vec::<String>::new());
        assert_eq!(literals(r"\bexec\b"), ["exec"]);
        assert_eq!(facts("[0-9]+;").classes.len(), 2);
        assert_eq!(facts("abc").min_len, 3);
    }

    /// Expressions with the shapes rules are made of.
    fn pattern() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "a", "b", "A", "sel", "[ab]", "[^a]", r"\s", r"\w", ".", "x?", r"\b", "^", "$", "", r"\xe2",
            "(?i:Ab)", "[a-c]{2}",
        ]);
        let leaf = leaf.prop_map(str::to_owned);
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|items| items.concat()),
                prop::collection::vec(inner.clone(), 1..4)
                    .prop_map(|items| format!("(?:{})", items.join("|"))),
                inner.clone().prop_map(|item| format!("(?:{item})*")),
                inner.clone().prop_map(|item| format!("(?:{item})+")),
                inner.clone().prop_map(|item| format!("(?:{item}){{2,3}}")),
                inner.prop_map(|item| format!("(?i:({item}))")),
            ]
        })
    }

    /// What the prefilter drops of CRS's patterns does not match attacks and ordinary text either: every fortieth of
    /// the recorded payloads.
    #[test]
    fn never_drops_a_match_of_crs() {
        let data = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
        let Ok(entries) = std::fs::read_dir(data.join("crs/rules")) else {
            eprintln!("SKIPPED: {} is absent", data.display());
            return;
        };
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "conf"));
        files.sort();
        let mut sources = SourceMap::new();
        let directives = load(&files, &Disk, &mut sources).directives;
        let program = crate::build(&directives, &sources, &crate::FileSystem).unwrap().0;
        let patterns = || (0u16..).map(PatternId).zip(&program.patterns);
        let filter = Prefilter::new(patterns(), program.patterns.len(), |_| true);

        let file = std::fs::File::open(data.join("libinjection/verdicts.txt.xz")).unwrap();
        let lines =
            std::io::BufReader::new(lzma_rust2::XzReader::new(std::io::BufReader::new(file), true)).lines();
        let (mut caches, mut pool, mut matches) = (Caches::default(), Vec::new(), 0);
        for line in lines.map(Result::unwrap).filter(|line| !line.starts_with('#')).step_by(40) {
            let digits = line.split(' ').next().unwrap().as_bytes().chunks(2);
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            let payload: Vec<u8> = digits.map(byte).collect();
            pool.clear();
            filter.scan(&payload, &mut pool);
            let bytes = ByteSet::occurring(&payload);
            for (id, pattern) in patterns() {
                let allowed = has_bit(&pool, id) && pattern.facts.allow(payload.len(), &bytes);
                if pattern.is_match(id, &mut caches, &payload) {
                    matches += 1;
                    assert!(allowed, "{} {:?}", pattern.source, String::from_utf8_lossy(&payload));
                }
            }
        }
        assert!(matches > 10_000, "{matches}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// What the prefilter drops, the expression does not match.
        #[test]
        fn never_drops_a_match(
            source in pattern(),
            value in prop::collection::vec(prop::sample::select(b"abABselSx \xe2c".to_vec()), 0..14),
        ) {
            let Ok(pattern) = compile_regex(&source, false) else { return Ok(()) };
            let id = PatternId(0);
            let matches = pattern.is_match(id, &mut Caches::default(), &value);
            let filter = Prefilter::new(std::iter::once((id, &pattern)), 1, |_| true);
            let mut pool = Vec::new();
            filter.scan(&value, &mut pool);
            let allowed = has_bit(&pool, id) && pattern.facts.allow(value.len(), &ByteSet::occurring(&value));
            prop_assert!(allowed || !matches, "{source} {:?}", pattern.facts);
        }

        #[test]
        fn phrases_are_their_own_filter(
            phrases in prop::collection::vec("[a-cA-C]{1,3}", 1..4),
            value in "[a-dA-D]{0,8}",
        ) {
            let phrases: Vec<Vec<u8>> = phrases.into_iter().map(String::into_bytes).collect();
            let pattern = compile_phrases(&phrases).unwrap();
            let id = PatternId(0);
            let matches = pattern.is_match(id, &mut Caches::default(), value.as_bytes());
            let filter = Prefilter::new(std::iter::once((id, &pattern)), 1, |_| true);
            let mut pool = Vec::new();
            filter.scan(value.as_bytes(), &mut pool);
            let allowed =
                has_bit(&pool, id) && pattern.facts.allow(value.len(), &ByteSet::occurring(value.as_bytes()));
            prop_assert!(allowed || !matches);
        }
    }
}
