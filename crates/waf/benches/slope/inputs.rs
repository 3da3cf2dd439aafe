//! Inputs made to cost as much as possible, derived from what a rule looks for.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

/// A way to fill any number of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) name: String,
    head: Vec<u8>,
    unit: Vec<u8>,
    tail: Vec<u8>,
}

impl Recipe {
    pub(crate) fn new(name: &str, head: &[u8], unit: &[u8], tail: &[u8]) -> Self {
        let shown = |bytes: &[u8]| {
            let text = bytes.escape_ascii().to_string();
            if text.len() > 24 { format!("{}…", &text[..24]) } else { text }
        };
        let name = format!("{name} {}({})*{}", shown(head), shown(unit), shown(tail));
        Self { name, head: head.to_vec(), unit: unit.to_vec(), tail: tail.to_vec() }
    }

    fn repeat(name: &str, unit: &[u8]) -> Self {
        Self::new(name, b"", unit, b"")
    }

    /// The input of `size` bytes.
    pub(crate) fn fill(&self, size: usize) -> Vec<u8> {
        let middle = size.saturating_sub(self.head.len() + self.tail.len());
        let unit = self.unit.iter().copied().cycle().take(middle);
        self.head.iter().copied().chain(unit).chain(self.tail.iter().copied()).collect()
    }
}

/// What costs something whatever the rule: for transformations, byte classes, decoders and detectors.
pub(crate) fn general() -> Vec<Recipe> {
    let units: [&[u8]; 22] = [
        b"a",
        b" ",
        b"0",
        b"%25",
        b"%u0025",
        b"+",
        b"\\",
        b"\\u005c",
        b"\\x5c\\142",
        b"&amp;",
        b"&#x26;",
        b"&#000000000038",
        b"/*",
        b"/**/",
        b"<!--",
        b"../",
        b"./",
        b"\xc3\xa9",
        b"\xff",
        b"0x61",
        b"\r\n\t\x0b",
        b"'\"`^\\",
    ];
    units.iter().map(|unit| Recipe::repeat("", unit)).collect()
}

/// What `@detectSQLi` and `@detectXSS` have to take apart.
pub(crate) fn detectors() -> Vec<Recipe> {
    let units: [&[u8]; 44] = [
        b"and.", b"and`", b"select.", b"or.1", b"1,", b"1+", b"a.", b"(", b")(", b"((1),", b"1)or(", b"not ",
        b"- ", b"+-", b"''", b"\\'", b"\\\\'", b"'+'", b"\"\"", b"`", b"/*/*", b"/*!", b"*/", b"--", b"--\n",
        b"#\n", b"#", b"$a", b"$$", b"$a$", b"@`", b"@@a", b"x'0", b"q'!", b"nq'[", b"u&'", b"{a b}", b"[",
        b"\xa0", b"1e", b"0x", b"user(", b"::int", b";if ",
    ];
    let html: [&[u8]; 22] = [
        b"<",
        b"</",
        b"<a ",
        b"<a/",
        b"a=",
        b"a= ",
        b"a='",
        b"='\"`",
        b"<!--",
        b"<!---",
        b"<!--\0-",
        b"-\0",
        b"<!",
        b"<?",
        b"<%",
        b"<![CDATA[",
        b"]]",
        b"<a b=&#",
        b"href=&#x0;",
        b"</>",
        b"/>",
        b"<a b/=c ",
    ];
    let after: [(&[u8], &[u8]); 4] =
        [(b"<!--", b"-\0\0\0"), (b"<a href=", b"&#0000"), (b"1 and ", b"and."), (b"'", b"\\\\\\'")];
    let runs = units.iter().chain(&html).map(|unit| Recipe::repeat("detect", unit));
    runs.chain(after.iter().map(|(head, unit)| Recipe::new("detect", head, unit, b""))).collect()
}

/// Near misses of phrases, and the phrases.
pub(crate) fn phrases(phrases: &[Vec<u8>]) -> Vec<Recipe> {
    let mut longest: Vec<&Vec<u8>> = phrases.iter().collect();
    longest.sort_by_key(|phrase| std::cmp::Reverse(phrase.len()));
    let mut recipes = Vec::new();
    for phrase in longest.iter().take(2).chain(longest.last()).filter(|phrase| !phrase.is_empty()) {
        recipes.push(Recipe::repeat("phrase", phrase));
        recipes.push(Recipe::repeat("cut phrase", &phrase[..phrase.len() - 1]));
    }
    let all: Vec<u8> = phrases.iter().flat_map(|phrase| phrase[..phrase.len() - 1].to_vec()).collect();
    recipes.push(Recipe::repeat("all phrases cut", &all));
    recipes
}

/// Inputs from the syntax tree of a pattern: texts it nearly matches, and runs of what it repeats.
pub(crate) fn pattern(source: &str) -> Option<Vec<Recipe>> {
    let bytes =
        ParserBuilder::new().unicode(false).utf8(false).dot_matches_new_line(true).build().parse(source);
    // Bytes above 0x7f written as code points are refused there, and read as such here: near enough.
    let hir = bytes
        .ok()
        .or_else(|| ParserBuilder::new().dot_matches_new_line(true).utf8(false).build().parse(source).ok())?;
    let mut recipes = Vec::new();
    let mut whole = Vec::new();
    for pick in 0..3 {
        let mut text = Vec::new();
        sample(&hir, pick, &mut text);
        let cut = text.len().saturating_sub(1);
        recipes.push(Recipe::repeat("match", &text));
        recipes.push(Recipe::repeat("near miss", &text[..cut]));
        recipes.push(Recipe::repeat("half", &text[..text.len() / 2]));
        whole.push(text);
    }
    for (pick, text) in whole.iter().enumerate() {
        let mut runs = Vec::new();
        pumps(&hir, pick, &mut Vec::new(), &mut runs);
        // The outermost and the last ones: what comes early is covered by those behind it.
        runs.dedup();
        let keep = runs.len().saturating_sub(5);
        for (head, unit) in runs.drain(..).skip(keep) {
            recipes.push(Recipe::new("run", &head, &unit, b"\x01"));
            // The literals the prefilter wants, behind it.
            recipes.push(Recipe::new("run and match", &head, &unit, &[b"\x01", text.as_slice()].concat()));
            let again = [head.as_slice(), &unit.repeat(8), b"\x01"].concat();
            recipes.push(Recipe::repeat("runs", &again));
            let opened = [head.as_slice(), &unit].concat();
            recipes.push(Recipe::new("restarts", b"", &opened, text));
        }
    }
    recipes.retain(|recipe| !recipe.unit.is_empty());
    recipes.sort_by(|a, b| (&a.head, &a.unit, &a.tail).cmp(&(&b.head, &b.unit, &b.tail)));
    recipes.dedup_by(|a, b| (&a.head, &a.unit, &a.tail) == (&b.head, &b.unit, &b.tail));
    Some(recipes)
}

/// A text the expression matches (look-arounds aside): alternatives and class members chosen by `pick`.
fn sample(hir: &Hir, pick: usize, out: &mut Vec<u8>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => out.extend_from_slice(&literal.0),
        HirKind::Class(class) => out.extend(member(class, pick)),
        HirKind::Capture(capture) => sample(&capture.sub, pick, out),
        HirKind::Repetition(repetition) => {
            let optional = u32::from(pick > 0 && repetition.max != Some(0));
            for _ in 0..repetition.min.max(optional) {
                sample(&repetition.sub, pick, out);
            }
        }
        HirKind::Concat(items) => items.iter().for_each(|item| sample(item, pick, out)),
        HirKind::Alternation(items) => {
            sample(&items[(items.len() - 1) * pick / 2], pick, out);
        }
    }
}

fn member(class: &Class, pick: usize) -> Vec<u8> {
    match class {
        Class::Bytes(class) => {
            let ranges = class.ranges();
            let range = ranges[(ranges.len() - 1) * pick / 2];
            let byte = if range.start() <= b'a' && b'a' <= range.end() { b'a' } else { range.start() };
            vec![byte]
        }
        Class::Unicode(class) => {
            let ranges = class.ranges();
            let character = ranges[(ranges.len() - 1) * pick / 2].start();
            character.encode_utf8(&mut [0; 4]).as_bytes().to_vec()
        }
    }
}

/// For each repetition of any length: what leads up to it, and one round of it.
fn pumps(hir: &Hir, pick: usize, head: &mut Vec<u8>, found: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Literal(_) | HirKind::Class(_) => {}
        HirKind::Capture(capture) => pumps(&capture.sub, pick, head, found),
        HirKind::Repetition(repetition) => {
            if repetition.max.is_none_or(|max| max > 8) {
                let mut unit = Vec::new();
                sample(&repetition.sub, pick, &mut unit);
                found.push((head.clone(), unit));
            }
            pumps(&repetition.sub, pick, head, found);
        }
        HirKind::Concat(items) => {
            let length = head.len();
            for item in items {
                pumps(item, pick, head, found);
                sample(item, pick, head);
            }
            head.truncate(length);
        }
        HirKind::Alternation(items) => pumps(&items[(items.len() - 1) * pick / 2], pick, head, found),
    }
}
