//! What a value must have for a pattern to match it, and one scan that finds out for all patterns at once.
//!
//! From a regular expression's syntax tree come literals of which every match contains one, classes of bytes of which
//! every match contains one each, and a minimum length. One Aho-Corasick pass over a value finds the literals of all
//! patterns; a pattern whose facts do not hold is not run. The facts may only ever be too weak, never too strong: a
//! property test compares them with the expressions themselves.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use crate::byteset::ByteSet;
use crate::operator::{Pattern, PatternId};

/// What every match of a pattern has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Every match contains one of these, compared ASCII case-insensitively; empty: nothing is known.
    pub(crate) literals: Vec<Vec<u8>>,
    /// Every match contains a byte of each of these.
    pub(crate) classes: Vec<ByteSet>,
    /// Every match is at least this long.
    pub(crate) min_len: usize,
}

/// More alternatives than this are not worth their place in the automaton.
const MAX_LITERALS: usize = 400;
/// Longer literals reject no better.
const MAX_LITERAL_LEN: usize = 24;
/// Shorter literals occur in everything; a byte class says the same for less.
const MIN_LITERAL_LEN: usize = 2;
const MAX_CLASSES: usize = 4;
/// A class that most values satisfy rejects nothing.
const MAX_CLASS_BYTES: u32 = 70;

impl Facts {
    pub(crate) fn of_regex(hir: &Hir) -> Self {
        let analysis = analyze(hir);
        let min_len = hir.properties().minimum_len().unwrap_or(0);
        let mut facts = Self { literals: Vec::new(), classes: analysis.classes, min_len };
        if let Some(set) = best(analysis.exact, analysis.required) {
            facts.take(&set);
        }
        facts.classes.retain(|class| class.len() <= MAX_CLASS_BYTES && !class.is_empty());
        facts.classes.sort_by_key(ByteSet::len);
        facts.classes.dedup();
        facts.classes.truncate(MAX_CLASSES);
        facts
    }

    pub(crate) fn of_phrases(phrases: &[Vec<u8>]) -> Self {
        let mut facts = Self { min_len: phrases.iter().map(Vec::len).min().unwrap_or(0), ..Self::default() };
        let set: Vec<Vec<u8>> = phrases.iter().map(|phrase| phrase.to_ascii_lowercase()).collect();
        facts.take(&set);
        facts
    }

    /// Uses a set of which every match contains one: as literals, or (when one is too short) as a class of bytes.
    fn take(&mut self, set: &[Vec<u8>]) {
        let shortest = set.iter().map(Vec::len).min().unwrap_or(0);
        if shortest >= MIN_LITERAL_LEN {
            self.literals = set.to_vec();
        } else if shortest == 1 {
            let mut class = ByteSet::EMPTY;
            for byte in set.iter().filter_map(|literal| literal.first()) {
                class.insert(byte.to_ascii_lowercase());
                class.insert(byte.to_ascii_uppercase());
            }
            self.classes.push(class);
        }
    }

    /// Whether the length and the classes allow a match.
    #[inline]
    pub(crate) fn allow(&self, len: usize, bytes: &ByteSet) -> bool {
        len >= self.min_len && self.classes.iter().all(|class| class.intersects(bytes))
    }
}

/// What is known of one node: the exact strings it matches (if few), strings of which each match has one, classes.
#[derive(Default)]
struct Analysis {
    exact: Option<Vec<Vec<u8>>>,
    required: Option<Vec<Vec<u8>>>,
    classes: Vec<ByteSet>,
}

impl Analysis {
    fn exact(set: Vec<Vec<u8>>) -> Self {
        Self { exact: Some(set), ..Self::default() }
    }

    fn empty_string() -> Self {
        Self::exact(vec![Vec::new()])
    }
}

/// The more telling of two sets of required strings.
fn best(a: Option<Vec<Vec<u8>>>, b: Option<Vec<Vec<u8>>>) -> Option<Vec<Vec<u8>>> {
    let score = |set: &Vec<Vec<u8>>| {
        let shortest = set.iter().map(Vec::len).min().unwrap_or(0);
        (shortest.min(6) as i64 * 8 - set.len().ilog2() as i64, shortest > 0)
    };
    let usable = |set: &Vec<Vec<u8>>| !set.is_empty() && score(set).1;
    match (a.filter(usable), b.filter(usable)) {
        (Some(a), Some(b)) => Some(if score(&a).0 >= score(&b).0 { a } else { b }),
        (a, b) => a.or(b),
    }
}

fn analyze(hir: &Hir) -> Analysis {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Analysis::empty_string(),
        HirKind::Literal(literal) => {
            let mut classes: Vec<ByteSet> = literal.0.iter().map(|&byte| ByteSet::of(&[byte])).collect();
            classes.truncate(MAX_CLASSES);
            Analysis { exact: Some(vec![literal.0.to_ascii_lowercase()]), required: None, classes }
        }
        HirKind::Class(class) => of_class(class),
        HirKind::Capture(capture) => analyze(&capture.sub),
        HirKind::Repetition(repetition) => of_repetition(repetition),
        HirKind::Concat(items) => of_concat(items),
        HirKind::Alternation(items) => of_alternation(items),
    }
}

fn of_class(class: &Class) -> Analysis {
    let mut set = ByteSet::EMPTY;
    match class {
        Class::Bytes(class) => {
            for range in class.ranges() {
                set = set.with_range(range.start(), range.end());
            }
        }
        // Patterns are parsed without Unicode; a class of characters then only holds ASCII.
        Class::Unicode(class) => {
            for range in class.ranges() {
                let byte = |character: char| u8::try_from(u32::from(character)).ok().filter(u8::is_ascii);
                let (Some(from), Some(to)) = (byte(range.start()), byte(range.end())) else {
                    return Analysis::default();
                };
                set = set.with_range(from, to);
            }
        }
    }
    let mut strings: Vec<Vec<u8>> = set.iter().take(33).map(|byte| vec![byte.to_ascii_lowercase()]).collect();
    strings.sort();
    strings.dedup();
    Analysis {
        exact: (set.len() <= 32 && strings.len() <= 12 && !strings.is_empty()).then_some(strings),
        required: None,
        classes: vec![set],
    }
}

fn of_repetition(repetition: &Repetition) -> Analysis {
    let inner = analyze(&repetition.sub);
    if repetition.min == 0 {
        let exact = match (repetition.max, inner.exact) {
            (Some(1), Some(mut set)) => {
                set.push(Vec::new());
                set.sort();
                set.dedup();
                Some(set)
            }
            _ => None,
        };
        return Analysis { exact, ..Analysis::default() };
    }
    if repetition.max == Some(repetition.min)
        && let Some(set) = &inner.exact
    {
        let product = (1..repetition.min).try_fold(set.clone(), |product, _| cross(&product, set));
        if let Some(product) = product {
            return Analysis { exact: Some(product), required: inner.required, classes: inner.classes };
        }
    }
    Analysis { exact: None, required: best(inner.exact, inner.required), classes: inner.classes }
}

/// All concatenations; `None` when there are too many or they grow too long.
fn cross(left: &[Vec<u8>], right: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let longest = |set: &[Vec<u8>]| set.iter().map(Vec::len).max().unwrap_or(0);
    if left.len() * right.len() > MAX_LITERALS || longest(left) + longest(right) > MAX_LITERAL_LEN {
        return None;
    }
    let mut product: Vec<Vec<u8>> =
        left.iter().flat_map(|a| right.iter().map(move |b| [a.as_slice(), b].concat())).collect();
    product.sort();
    product.dedup();
    Some(product)
}

fn of_concat(items: &[Hir]) -> Analysis {
    let mut whole = true;
    let mut run = vec![Vec::new()];
    let mut required = None;
    let mut classes = Vec::new();
    for item in items {
        let mut part = analyze(item);
        classes.append(&mut part.classes);
        required = best(required, part.required.take());
        let joined = part.exact.as_ref().and_then(|set| cross(&run, set));
        match joined {
            Some(product) => run = product,
            None => {
                whole = false;
                required = best(required, Some(std::mem::take(&mut run)));
                // The run goes on with this part alone when it is exact, otherwise after it.
                run = part.exact.unwrap_or_else(|| vec![Vec::new()]);
            }
        }
    }
    if whole {
        return Analysis { exact: Some(run), required, classes };
    }
    Analysis { exact: None, required: best(required, Some(run)), classes }
}

fn of_alternation(items: &[Hir]) -> Analysis {
    let mut exact = Some(Vec::new());
    let mut required = Some(Vec::new());
    let mut class = Some(ByteSet::EMPTY);
    for item in items {
        let part = analyze(item);
        let narrowest = part.classes.iter().min_by_key(|class| class.len());
        class = class.zip(narrowest).map(|(all, one)| all.union(one));
        if let (Some(all), Some(one)) = (&mut exact, &part.exact) {
            all.extend(one.iter().cloned());
        } else {
            exact = None;
        }
        if let (Some(all), Some(one)) = (&mut required, best(part.exact, part.required)) {
            all.extend(one);
        } else {
            required = None;
        }
    }
    let few = |set: Option<Vec<Vec<u8>>>| {
        let mut set = set?;
        set.sort();
        set.dedup();
        (set.len() <= MAX_LITERALS).then_some(set)
    };
    Analysis { exact: few(exact), required: few(required), classes: class.into_iter().collect() }
}

/// One automaton over the literals of all patterns of some phases.
#[derive(Debug)]
pub(crate) struct Prefilter {
    automaton: Option<AhoCorasick>,
    /// For each literal, the patterns that need it.
    needed_by: Vec<Box<[PatternId]>>,
    /// The patterns nothing is known of: candidates for every value.
    always: Box<[u64]>,
}

impl Prefilter {
    /// Builds the automaton for the patterns listed; `total` is the number of patterns of the program.
    pub(crate) fn new<'a>(
        patterns: impl Iterator<Item = (PatternId, &'a Pattern)>,
        total: usize,
    ) -> Result<Self, String> {
        let mut always = vec![0u64; total.div_ceil(64)].into_boxed_slice();
        let mut literals: std::collections::BTreeMap<&[u8], Vec<PatternId>> =
            std::collections::BTreeMap::new();
        for (id, pattern) in patterns {
            if pattern.facts.literals.is_empty() {
                set_bit(&mut always, id);
            }
            for literal in &pattern.facts.literals {
                let users = literals.entry(literal).or_default();
                if users.last() != Some(&id) {
                    users.push(id);
                }
            }
        }
        let automaton = (!literals.is_empty())
            .then(|| {
                AhoCorasick::builder()
                    .ascii_case_insensitive(true)
                    .match_kind(MatchKind::Standard)
                    .kind(Some(AhoCorasickKind::ContiguousNFA))
                    .build(literals.keys())
                    .map_err(|error| format!("the literals of the rules cannot be compiled: {error}"))
            })
            .transpose()?;
        Ok(Self { automaton, needed_by: literals.into_values().map(Into::into).collect(), always })
    }

    /// Number of literals, for the dump.
    pub(crate) fn literal_count(&self) -> usize {
        self.needed_by.len()
    }

    /// Appends the candidate set of `value` (one bit for each pattern of the program) to `pool`.
    pub(crate) fn scan(&self, value: &[u8], pool: &mut Vec<u64>) {
        let start = pool.len();
        pool.extend_from_slice(&self.always);
        let Some(automaton) = &self.automaton else { return };
        let Some(set) = pool.get_mut(start..) else { return };
        for found in automaton.find_overlapping_iter(value) {
            for &id in self.needed_by.get(found.pattern().as_usize()).into_iter().flatten() {
                set_bit(set, id);
            }
        }
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
    use crate::operator::{Caches, compile_phrases, compile_regex};
    use proptest::prelude::*;

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
            let filter = Prefilter::new(std::iter::once((id, &pattern)), 1).unwrap();
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
            let filter = Prefilter::new(std::iter::once((id, &pattern)), 1).unwrap();
            let mut pool = Vec::new();
            filter.scan(value.as_bytes(), &mut pool);
            let allowed =
                has_bit(&pool, id) && pattern.facts.allow(value.len(), &ByteSet::occurring(value.as_bytes()));
            prop_assert!(allowed || !matches);
        }
    }
}
