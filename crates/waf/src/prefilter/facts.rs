//! What a value must have for a pattern to match it, from the syntax tree of the regular expression.

use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use crate::byteset::ByteSet;

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

/// The more telling of two sets of required strings: the one of which an ordinary text holds less.
fn best(a: Option<Vec<Vec<u8>>>, b: Option<Vec<Vec<u8>>>) -> Option<Vec<Vec<u8>>> {
    let usable = |set: &Vec<Vec<u8>>| !set.is_empty() && set.iter().all(|literal| !literal.is_empty());
    // Beyond that a longer literal rejects no better, and takes up more room.
    let frequency = |literal: &Vec<u8>| portcullis_scan::frequency(literal).max(1e-12);
    // Of one byte only a class is made.
    let short = |set: &Vec<Vec<u8>>| set.iter().any(|literal| literal.len() < MIN_LITERAL_LEN);
    let cost = |set: &Vec<Vec<u8>>| (short(set), set.iter().map(frequency).sum::<f64>());
    match (a.filter(usable), b.filter(usable)) {
        (Some(a), Some(b)) => {
            let ((short_a, a_costs), (short_b, b_costs)) = (cost(&a), cost(&b));
            let first = if short_a == short_b { a_costs <= b_costs } else { short_b };
            Some(if first { a } else { b })
        }
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
