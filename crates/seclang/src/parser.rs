//! Directives.

use portcullis_diag::{Diagnostic, Diagnostics, SourceId, SourceMap, suggest};

use crate::ast::{
    Directive, DirectiveKind, IdRange, Include, Operator, Parsed, Rule, RuleSelector, UpdateAction,
    UpdateTarget,
};
use crate::codes;
use crate::lexer::{Cursor, Word, report};
use crate::line::{Line, Lines};

/// The directives with a grammar of their own, for suggestions; all others are settings.
pub const DIRECTIVES: &[&str] = &[
    "SecRule",
    "SecAction",
    "SecMarker",
    "SecDefaultAction",
    "SecRuleRemoveById",
    "SecRuleRemoveByTag",
    "SecRuleRemoveByMsg",
    "SecRuleUpdateTargetById",
    "SecRuleUpdateTargetByTag",
    "SecRuleUpdateTargetByMsg",
    "SecRuleUpdateActionById",
    "Include",
    "IncludeOptional",
];

/// Parses one text of the map. `Include` stays a directive; see [`crate::load`] for files.
#[must_use]
pub fn parse(sources: &SourceMap, id: SourceId) -> Parsed {
    let mut parsed = Parsed::default();
    let Some(source) = sources.get(id) else { return parsed };
    if let Some(at) = source.invalid_utf8() {
        let span = portcullis_diag::Span::new(id, at as usize, at as usize + '\u{FFFD}'.len_utf8());
        parsed.diagnostics.push(
            Diagnostic::error(codes::NOT_UTF8, "the file is not UTF-8")
                .at(span)
                .label("these bytes are no character")
                .help("save the file as UTF-8; write other bytes in a regex as `\\xHH`"),
        );
    }
    for line in Lines::new(source.text(), id) {
        if line.cut_short {
            let end = line.len();
            let diagnostic = Diagnostic::warning(codes::CONTINUED_END, "the file ends in a continued line")
                .at(line.span(end, end))
                .label("a backslash promises another line");
            report(&mut parsed.diagnostics, diagnostic);
        }
        let directive = directive(&line, &mut parsed.diagnostics);
        parsed.directives.extend(directive);
    }
    parsed
}

fn directive(line: &Line<'_>, diagnostics: &mut Diagnostics) -> Option<Directive> {
    let mut cursor = Cursor::new(line, diagnostics);
    let word = cursor.word()?;
    let name = cursor.text(word);
    let kind = cursor.kind(&name, word)?;
    let end = line.text.trim_ascii_end().len();
    Some(Directive { span: line.span(word.start, end), name, kind })
}

impl Cursor<'_, '_> {
    fn kind(&mut self, name: &str, word: Word) -> Option<DirectiveKind> {
        let lower = name.to_ascii_lowercase();
        let kind = match lower.as_str() {
            "secrule" => self.rule(name)?,
            "secaction" => DirectiveKind::Action(self.action_argument(name)?),
            "secdefaultaction" => DirectiveKind::DefaultAction(self.action_argument(name)?),
            "secmarker" => {
                let marker = self.required(name, "the name of the marker")?;
                DirectiveKind::Marker(self.text(marker))
            }
            "secruleremovebyid" => DirectiveKind::Remove(RuleSelector::Ids(self.ids(name)?)),
            "secruleremovebytag" | "secruleremovebymsg" => DirectiveKind::Remove(self.by_text(name, &lower)?),
            "secruleupdatetargetbyid" | "secruleupdatetargetbytag" | "secruleupdatetargetbymsg" => {
                self.update_target(name, &lower)?
            }
            "secruleupdateactionbyid" => self.update_action(name)?,
            "include" | "includeoptional" => {
                let pattern = self.required(name, "a path or pattern")?;
                let pattern = self.text(pattern);
                DirectiveKind::Include(Include { pattern, optional: lower == "includeoptional" })
            }
            _ if lower.starts_with("sec")
                && word.quote.is_none()
                && lower.bytes().all(|b| b.is_ascii_alphanumeric()) =>
            {
                DirectiveKind::Setting(self.rest())
            }
            _ => {
                self.unknown(name, word);
                return None;
            }
        };
        self.finish(name);
        Some(kind)
    }

    fn unknown(&mut self, name: &str, word: Word) {
        let span = self.line.span(word.start, word.end);
        let shown: String = name.chars().take(40).collect();
        self.report(
            Diagnostic::error(codes::UNKNOWN_DIRECTIVE, format!("`{shown}` is no SecLang directive"))
                .at(span)
                .label("a line starts with a directive, or with `#` for a comment")
                .suggest(suggest(name, DIRECTIVES.iter().copied())),
        );
        self.at = self.line.len();
    }

    fn rest(&mut self) -> Vec<crate::ast::Text> {
        let mut words = Vec::new();
        while let Some(word) = self.word() {
            words.push(self.text(word));
        }
        words
    }

    fn rule(&mut self, name: &str) -> Option<DirectiveKind> {
        const VARIABLES: &str = "a variable list";
        let Some(word) = self.variable_word() else {
            self.required(name, VARIABLES)?;
            return None;
        };
        let variables_span = self.line.span(word.start, word.end);
        let variables = self.variables(word);
        let operator = self.required(name, "an operator")?;
        let operator = self.operator(operator)?;
        let actions = match self.word() {
            Some(word) => self.actions(word),
            None => self.no_actions(),
        };
        Some(DirectiveKind::Rule(Box::new(Rule { variables, variables_span, operator, actions })))
    }

    fn action_argument(&mut self, name: &str) -> Option<crate::ast::Actions> {
        let word = self.required(name, "a list of actions")?;
        Some(self.actions(word))
    }

    /// `!@name argument`, `!regex`, `@name`, `regex`.
    fn operator(&mut self, word: Word) -> Option<Operator> {
        let line = self.line;
        let skip = |at: usize| {
            at + line.slice(at, word.end).len() - line.slice(at, word.end).trim_ascii_start().len()
        };
        let start = skip(word.start);
        let negated = start < word.end && line.byte(start) == Some(b'!');
        let body = if negated { skip(start + 1) } else { start };
        let explicit = body < word.end && line.byte(body) == Some(b'@');
        let mut at = body;
        let name = if explicit {
            at += 1;
            let name_start = at;
            while at < word.end && line.byte(at).is_some_and(|byte| !byte.is_ascii_whitespace()) {
                at += 1;
            }
            if at == name_start {
                self.report(
                    Diagnostic::error(codes::OPERATOR_SYNTAX, "an operator name is missing")
                        .at(line.span(body, at))
                        .label("expected a name such as `@rx` after the `@`")
                        .help("a regex that starts with `@` is written `@rx @…`"),
                );
                return None;
            }
            let name = line.text(name_start, at, word.escapes());
            at = skip(at);
            name
        } else {
            crate::ast::Text::new("rx", line.span(at, at))
        };
        let raw = line.slice(at, word.end);
        let mut length = raw.trim_ascii_end().len();
        // A backslash holds the space after it: `\ ` is a regex for one space.
        let escaped = raw
            .get(..length)
            .is_some_and(|kept| kept.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1);
        if escaped && length < raw.len() {
            length += 1;
        }
        let end = at + length;
        Some(Operator {
            span: line.span(start, end.max(start)),
            negated,
            name,
            explicit,
            argument: line.text(at, end, word.escapes()),
        })
    }

    fn by_text(&mut self, name: &str, lower: &str) -> Option<RuleSelector> {
        if lower.ends_with("bytag") {
            let word = self.required(name, "a tag")?;
            Some(RuleSelector::Tag(self.text(word)))
        } else {
            let word = self.required(name, "a message")?;
            Some(RuleSelector::Message(self.text(word)))
        }
    }

    /// All words left as ids and ranges.
    fn ids(&mut self, name: &str) -> Option<Vec<IdRange>> {
        let first = self.required(name, "a rule id")?;
        let mut ids = self.id_list(first);
        while let Some(word) = self.word() {
            ids.extend(self.id_list(word));
        }
        Some(ids)
    }

    /// Ids and ranges of one word, separated by commas or spaces.
    fn id_list(&mut self, word: Word) -> Vec<IdRange> {
        let mut ids = Vec::new();
        let mut at = word.start;
        let whole = self.line.slice(word.start, word.end).to_owned();
        for part in whole.split([',', ' ', '\t']) {
            if !part.is_empty() {
                ids.extend(self.id_range(part, at));
            }
            at += part.len() + 1;
        }
        if whole.bytes().all(|byte| matches!(byte, b',' | b' ' | b'\t')) {
            self.bad_id(word.start, word.end, whole.trim_ascii());
        }
        ids
    }

    fn bad_id(&mut self, start: usize, end: usize, text: &str) {
        let shown: String = text.chars().take(40).collect();
        let span = self.line.span(start, end);
        self.report(
            Diagnostic::error(codes::RULE_ID_SYNTAX, format!("`{shown}` is no rule id"))
                .at(span)
                .label("expected a number such as `942100`, or a range such as `942100-942199`"),
        );
    }

    fn id_range(&mut self, part: &str, at: usize) -> Option<IdRange> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse::<u64>().ok().filter(|_| digits)
        };
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first), number(last)),
            None => (number(part), number(part)),
        };
        match (first, last) {
            (Some(first), Some(last)) if first <= last => {
                Some(IdRange { span: self.line.span(at, at + part.len()), first, last })
            }
            _ => {
                self.bad_id(at, at + part.len(), part);
                None
            }
        }
    }

    fn update_target(&mut self, name: &str, lower: &str) -> Option<DirectiveKind> {
        let mut rules = if lower.ends_with("byid") {
            let word = self.required(name, "a rule id")?;
            RuleSelector::Ids(self.id_list(word))
        } else {
            self.by_text(name, lower)?
        };
        let mut word = self.variable_word();
        // More ids may follow as words of their own; no variable begins with a digit.
        if let RuleSelector::Ids(ids) = &mut rules {
            while let Some(more) = word.filter(|word| {
                self.line.slice(word.start, word.end).starts_with(|c: char| c.is_ascii_digit())
            }) {
                ids.extend(self.id_list(more));
                word = self.variable_word();
            }
        }
        let Some(word) = word else {
            self.required(name, "a variable list")?;
            return None;
        };
        let variables = self.variables(word);
        let replaced = match self.variable_word() {
            Some(word) => self.variables(word),
            None => Vec::new(),
        };
        Some(DirectiveKind::UpdateTarget(UpdateTarget { rules, variables, replaced }))
    }

    fn update_action(&mut self, name: &str) -> Option<DirectiveKind> {
        let word = self.required(name, "a rule id")?;
        let whole = self.line.slice(word.start, word.end).to_owned();
        let (rules, link) = match whole.split_once(':') {
            Some((ids, link)) => {
                let Ok(number) = link.parse::<u32>() else {
                    self.bad_id(word.start + ids.len() + 1, word.end, link);
                    return None;
                };
                (Word { end: word.start + ids.len(), ..word }, Some(number))
            }
            None => (word, None),
        };
        let rules = self.id_list(rules);
        let word = self.required(name, "a list of actions")?;
        Some(DirectiveKind::UpdateAction(UpdateAction { rules, link, actions: self.actions(word) }))
    }
}
