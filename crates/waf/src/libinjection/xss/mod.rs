//! Cross-site scripting: an HTML tokenizer in five contexts, and what in its tokens runs scripts.

mod html;
mod names;
mod url;

use html::{Context, Html, Kind};
use names::Attribute;

/// Whether one of the readings has something that runs a script.
pub(super) fn detect(input: &[u8]) -> bool {
    // Tags and comments begin with the one, attributes have values because of the other.
    memchr::memchr2(b'<', b'=', input).is_some()
        && Context::ALL.iter().any(|context| runs_script(input, *context))
}

/// The tokens of an input between tags, as text.
pub(super) fn trace(input: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    Html::new(input, Context::Text).for_each(|token| token.write(&mut text));
    text
}

fn runs_script(input: &[u8], context: Context) -> bool {
    let mut attribute = Attribute::Harmless;
    for token in Html::new(input, context) {
        // An attribute's meaning holds for the value right behind it.
        let of_value = std::mem::replace(&mut attribute, Attribute::Harmless);
        let found = match token.kind {
            Kind::Doctype => true,
            Kind::TagOpen => names::is_banned_tag(token.text),
            Kind::AttributeName => {
                attribute = names::attribute(token.text);
                false
            }
            Kind::AttributeValue => match of_value {
                Attribute::Harmless => false,
                Attribute::Banned | Attribute::Style => true,
                Attribute::Url => url::is_banned(token.text),
                Attribute::NamesAnother => names::attribute(token.text) != Attribute::Harmless,
            },
            Kind::Comment => is_banned_comment(token.text),
            Kind::Text | Kind::TagEnd | Kind::TagSelfClosed | Kind::TagClose => false,
        };
        if found {
            return true;
        }
    }
    false
}

/// Comments that Internet Explorer reads as more: one ended by a back quote, conditional ones, pseudo-tags, entities.
fn is_banned_comment(text: &[u8]) -> bool {
    let begins = |word: &[u8], least: usize| {
        text.len() >= least && text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
    };
    memchr::memchr(b'`', text).is_some()
        || begins(b"[if", 4)
        || begins(b"xml", 4)
        || begins(b"IMPORT", 6)
        || begins(b"ENTITY", 6)
}
