//! What a fuzzer needs long to find: values that the expressions of CRS match, made from the expressions. The engine
//! must not miss one, whatever it does to ask few expressions.
#![allow(clippy::panic, clippy::print_stderr, clippy::unwrap_used)]

use portcullis_fuzz::waf;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Capture, Hir, HirKind, Repetition};

/// Values for each expression.
const VALUES: usize = 3;

/// The expression without anchors and word boundaries, of which no value can be made; most values match all the same.
fn without_looks(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(_) => Hir::empty(),
        HirKind::Repetition(repetition) => {
            // Few rounds: what lies behind thousands of bytes lies there behind some, too.
            let max = repetition.max.unwrap_or(u32::MAX).min(repetition.min + 4);
            let sub = Box::new(without_looks(&repetition.sub));
            Hir::repetition(Repetition { sub, max: Some(max), ..repetition.clone() })
        }
        HirKind::Capture(capture) => {
            Hir::capture(Capture { sub: Box::new(without_looks(&capture.sub)), ..capture.clone() })
        }
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(without_looks).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(without_looks).collect()),
        _ => hir.clone(),
    }
}

#[test]
fn no_value_that_matches_is_missed() {
    let mut runner = TestRunner::deterministic();
    let (mut made, mut matching) = (0, 0);
    for expression in waf::expressions() {
        let mut parser = ParserBuilder::new().unicode(false).utf8(false).dot_matches_new_line(true).build();
        let hir = without_looks(&parser.parse(expression).unwrap());
        let Ok(values) = proptest::string::bytes_regex_parsed(&hir) else { continue };
        let plain = regex::bytes::RegexBuilder::new(expression)
            .unicode(false)
            .dot_matches_new_line(true)
            .build()
            .unwrap();
        for _ in 0..VALUES {
            let value = values.new_tree(&mut runner).unwrap().current();
            waf::prefilter(&value);
            made += 1;
            matching += usize::from(plain.is_match(&value));
        }
    }
    eprintln!("{made} values made of expressions, {matching} of which match as they are");
    assert!(matching * 2 > made, "{matching} of {made} values match: nothing is tested");
}
