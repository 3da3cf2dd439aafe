//! Against a backtracking engine: same verdict, same match, same groups.

use proptest::prelude::*;

use super::super::pattern::{Caches, Matcher, PatternError, PatternId, compile_regex};

/// The patterns of CRS 3.3.4 that look around: 920120, 942130, 953120; what ModSecurity's recommended configuration says
/// of relevant statuses; and what else people write.
const PATTERNS: &[&str] = &[
    r#"(?<!&(?:[aAoOuUyY]uml)|&(?:[aAeEiIoOuU]circ)|&(?:[eEiIoOuUyY]acute)|&(?:[aAeEiIoOuU]grave)|&(?:[cC]cedil)|&(?:[aAnNoO]tilde)|&(?:amp)|&(?:apos));|['\"=]"#,
    r#"(?i:[\s'\"`()]*?\b([\d\w]+)\b[\s'\"`()]*?(?:<(?:=(?:[\s'\"`()]*?(?!\b\1\b)[\d\w]+|>[\s'\"`()]*?(?:\b\1\b))|>?[\s'\"`()]*?(?!\b\1\b)[\d\w]+)|(?:not\s+(?:regexp|like)|is\s+not|>=?|!=|\^)[\s'\"`()]*?(?!\b\1\b)[\d\w]+|(?:(?:sounds\s+)?like|r(?:egexp|like)|=)[\s'\"`()]*?(?:\b\1\b)))"#,
    r"<\?(?!xml)",
    r"^(?:5|4(?!04))",
    r"(?<![0-9])(?:4[0-9]{3})(?![0-9])",
    r"^(?!.*(?:like|not))(\w+)=",
    r"(?=[a-z]+[0-9])(?=.*=)\w+",
    r"(?<=a)(?!b)(x|\W)+?(?<!like.)",
    r"(?:(?!not).)*(?<=(?:like| ))(1+)",
    r"\b(\w+)\b\s*=\s*\b\1\b",
    r"\b(\w+)\b[^\w]+(?!\b\1\b)(\w+)",
    r"a(?!(?=b)b|(?<=a)c)",
    r"(x)?(?<!x)1",
    r"1\Z",
    r"^a*+(?:a|b)",
    r"(?:[ab]++|x)(b|=)?",
    r"\s*+(.)\w{1,}+1?",
];

/// `None` where it does not take the pattern: it repeats nothing that is always empty.
fn oracle(pattern: &str) -> Option<fancy_regex::Regex> {
    fancy_regex::Regex::new(&format!("(?s){}", pattern.replace(r"\Z", r"(?=\n?\z)"))).ok()
}

/// Compares on one value; the backtracking engine may give up, then there is nothing to compare with.
fn compare(pattern: &str, value: &str) {
    let ours = compile_regex(pattern, false).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let Ok(expected) = oracle(pattern).unwrap().captures(value) else { return };
    let mut caches = Caches::default();
    let found = ours.groups(PatternId(0), &mut caches, value.as_bytes());
    let expected = expected.map(|captures| {
        std::array::from_fn(|index| {
            captures.get(index).map(|group| (group.start() as u32, group.end() as u32))
        })
    });
    assert_eq!(found, expected, "{pattern} on {value:?}");
    assert_eq!(ours.is_match(PatternId(0), &mut caches, value.as_bytes()), expected.is_some());
    assert!(
        expected.is_none() || ours.facts.allow(value.len(), &crate::ByteSet::occurring(value.as_bytes()))
    );
}

/// Values made of what the patterns are about.
fn value() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "a", "b", "c", "x", "1", "11", "4", "404", "5", "=", "<", ">", "!=", "^", " ", "\n", "'", "\"", "(",
        ")", ";", "&", "&auml", "&amp", "&Ccedil", "&nope", "like", "not", "LIKE", "is", "sounds", "rlike",
        "regexp", "<?", "xml", "XML", "foo", "Foo", "fo", "_", "`",
    ];
    proptest::collection::vec(proptest::sample::select(PIECES), 0..12).prop_map(|parts| parts.concat())
}

/// Patterns of look-around without back-references, a few levels deep.
fn pattern() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(
        &["a", "b", "[ab]", "[^a]", ".", "x", "1", "^", "$", "\\b", "\\w", "(a)", "a?"][..],
    )
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 24, 3, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            pair.clone().prop_map(|(one, other)| format!("{one}{other}")),
            pair.prop_map(|(one, other)| format!("(?:{one}|{other})")),
            inner.clone().prop_map(|sub| format!("(?:{sub})*?")),
            inner.clone().prop_map(|sub| format!("(?:{sub}){{1,2}}")),
            inner.clone().prop_map(|sub| format!("(?!{sub})")),
            inner.clone().prop_map(|sub| format!("(?={})", sub.replace("(a)", "(?:a)"))),
            // Variable length is not for every engine to look behind at.
            proptest::sample::select(&["(?<=a)", "(?<!a)", "(?<=ab|1)", "(?<!b1|.a)"][..])
                .prop_map(str::to_owned),
            inner.prop_map(|sub| format!("({sub})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn known_patterns_as_a_backtracking_engine(value in value()) {
        for pattern in PATTERNS {
            compare(pattern, &value);
        }
    }

    #[test]
    fn any_pattern_as_a_backtracking_engine(pattern in pattern(), values in proptest::collection::vec("[ab1x\n]{0,9}", 8)) {
        // Groups within loops over what can be empty are where engines differ; here the verdicts are compared.
        let ours = compile_regex(&pattern, false);
        prop_assume!(!matches!(&ours, Err(PatternError::Unsupported(_))));
        let ours = ours.unwrap();
        prop_assume!(matches!(ours.matcher, Matcher::Look(_)));
        let Some(oracle) = oracle(&pattern) else { return Ok(()) };
        for value in values {
            let found = ours.is_match(PatternId(0), &mut Caches::default(), value.as_bytes());
            if let Ok(expected) = oracle.is_match(&value) {
                prop_assert_eq!(found, expected, "{} on {:?}", pattern, value);
            }
        }
    }
}

#[test]
fn tautologies() {
    let pattern = PATTERNS[1];
    for (value, matches) in [
        ("1=1", true),
        ("1 = 2", false),
        ("x' OR 'abc'='ABC", true),
        ("a like b", false),
        ("a sounds  like (A)", true),
        ("a <> b", true),
        ("a<>a", false),
        ("a <=> a", true),
        ("a <= a", false),
        ("not regexp", false),
        ("a not like ab", true),
        ("a is not a", false),
    ] {
        compare(pattern, value);
        let ours = compile_regex(pattern, false).unwrap();
        assert_eq!(ours.is_match(PatternId(0), &mut Caches::default(), value.as_bytes()), matches, "{value}");
    }
}

#[test]
fn what_only_backtracking_can_do_is_refused() {
    for pattern in [
        r"(a+)\1",
        r"\b(\w+)\b.*\b\1\b",
        r"\b(\w+)\b=\1",
        r"(?:\b(\w+)\b=)+\b\1\b",
        r"\b(\w+)\b=\b(\w+)\b=\b\1\b=\b\2\b",
        r"(?=(a))b",
        r"(?=a\b\1\b)\b(\w+)\b",
        r"(?>a)b",
        r"(?:ab)++b",
    ] {
        let refused = compile_regex(pattern, false).err();
        assert!(matches!(refused, Some(PatternError::Unsupported(_))), "{pattern}: {refused:?}");
    }
    assert!(matches!(compile_regex(r"(?u:\b)(?!a)", false), Err(PatternError::Broken(_))));
}

/// The work for a value twice as long is about twice as much, whatever is in it: many alternatives are alive at each
/// place here, many words are remembered on the way.
#[test]
fn long_values() {
    for (pattern, piece) in [(PATTERNS[1], "a='b not like "), (PATTERNS[8], "nolike "), (PATTERNS[6], "ab1")]
    {
        let value = piece.repeat(1_000);
        let ours = compile_regex(pattern, false).unwrap();
        ours.is_match(PatternId(0), &mut Caches::default(), value.as_bytes());
    }
}

#[test]
fn matches_that_do_not_overlap() {
    let pattern = compile_regex("(?<!a)1(?=1)", false).unwrap();
    let mut starts = Vec::new();
    let value = b"111a11";
    let any = pattern.any_match(value, |found| {
        starts.push(found.as_ptr() as usize - value.as_ptr() as usize);
        false
    });
    assert!(!any);
    assert_eq!(starts, [0, 1]);
}
