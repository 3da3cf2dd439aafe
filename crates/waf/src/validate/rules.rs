//! Rules and chains.

use portcullis_diag::{Diagnostic, Span, suggest};
use portcullis_seclang as ast;

use super::actions::ActionSet;
use super::{Item, LinkDef, OperatorDef, RuleDef, Validator};
use crate::codes;
use crate::macros::Text;
use crate::operator::{self, OperatorKind};
use crate::rule::{Disruptive, Phase};
use crate::target::TargetSet;

impl Validator<'_> {
    /// A `SecRule`, or a `SecAction` when there is no `rule`.
    pub(super) fn rule(&mut self, span: Span, rule: Option<&ast::Rule>, actions: &ast::Actions) {
        let (mut own, mut targets, mut operator) = (ActionSet::default(), TargetSet::default(), always(span));
        let chain = self.open_chain.as_ref().map(|rule| rule.id);
        let what = || match (chain, actions.named("id").next().and_then(|id| id.value.as_deref())) {
            (Some(id), _) => format!("the chain of rule {id}"),
            (None, Some(id)) => format!("rule {id}"),
            (None, None) => "the rule".to_owned(),
        };
        let left_out = self.tolerating(what, |this| {
            own = this.action_set(actions);
            if let Some(rule) = rule {
                targets = this.targets(&rule.variables);
                operator = this.operator(&rule.operator);
            }
        });
        let chained = self.open_chain.take();
        let phase = chained.as_ref().map(|rule| rule.phase).or(own.phase).unwrap_or(Phase::RequestBody);
        let default = self.defaults.get(phase.index()).cloned().flatten();
        let mut link = link(span, targets, operator, &own, default.as_ref());
        link.unconditional = rule.is_none();
        let more = own.chain;
        let mut rule = match chained {
            Some(mut rule) => {
                self.reject_starter_actions(rule.id, actions);
                rule.links.push(link);
                rule
            }
            None => self.starter(span, own, default.as_ref(), link, actions),
        };
        rule.left_out |= left_out;
        if more {
            self.open_chain = Some(rule);
        } else if !rule.left_out {
            self.set.items.push(Item::Rule(Box::new(rule)));
        }
    }

    fn starter(
        &mut self,
        span: Span,
        own: ActionSet,
        default: Option<&ActionSet>,
        link: LinkDef,
        actions: &ast::Actions,
    ) -> RuleDef {
        let id = self.rule_id(span, &own, actions);
        let mut meta = own.meta.clone();
        meta.tags.extend(default.iter().flat_map(|set| set.meta.tags.iter().cloned()));
        let (disruptive, status) = own.disruption(default);
        let (log, audit_log) = own.logging(default);
        RuleDef {
            id,
            span,
            phase: own.phase.unwrap_or(Phase::RequestBody),
            meta,
            disruptive,
            status,
            log,
            audit_log,
            skip: own.skip,
            links: vec![link],
            left_out: false,
        }
    }

    fn rule_id(&mut self, span: Span, own: &ActionSet, actions: &ast::Actions) -> u32 {
        let Some((id, place)) = own.id else {
            if actions.named("id").next().is_none() {
                let diagnostic = Diagnostic::error(codes::MISSING_ID, "the rule has no id").at(span);
                self.diagnostics.push(diagnostic.help("give it a number of its own: `id:1001`"));
            }
            return 0;
        };
        if let Some(first) = self.ids.insert(id, place) {
            let diagnostic =
                Diagnostic::error(codes::DUPLICATE_ID, format!("two rules have the id {id}")).at(place);
            self.diagnostics.push(diagnostic.also(first, "first used here"));
        }
        id
    }

    fn reject_starter_actions(&mut self, id: u32, actions: &ast::Actions) {
        const STARTER: &[&str] = &[
            "id",
            "phase",
            "skip",
            "skipafter",
            "deny",
            "drop",
            "redirect",
            "allow",
            "block",
            "pass",
            "status",
        ];
        for action in &actions.items {
            // A link that repeats what is the case anyway is common and harmless.
            let name = action.name.to_ascii_lowercase();
            let harmless = matches!(name.as_str(), "phase" | "pass" | "block");
            if STARTER.contains(&name.as_str()) && !harmless {
                let message = format!("`{name}` belongs to the first rule of the chain of {id}");
                self.error(codes::CHAIN, action.span, message);
            }
        }
    }

    fn operator(&mut self, operator: &ast::Operator) -> OperatorDef {
        let name = operator.name.as_str();
        let span = operator.span;
        let kind = match operator::by_name(name).map(|info| info.kind) {
            Some(OperatorKind::Unsupported(why)) => {
                let message = format!("operator `@{name}` is not supported");
                self.diagnostics
                    .push(Diagnostic::error(codes::UNSUPPORTED_OPERATOR, message).at(span).help(why));
                OperatorKind::Never
            }
            Some(OperatorKind::Accepted(why)) => {
                self.warn(codes::NO_EFFECT, span, format!("`@{name}` is accepted but never matches: {why}"));
                OperatorKind::Never
            }
            Some(OperatorKind::Rsub) => return self.rsub(operator),
            Some(kind) => kind,
            None => {
                let known = operator::TABLE.iter().map(|info| info.name);
                let message = format!("unknown operator `@{name}`");
                let diagnostic = Diagnostic::error(codes::UNKNOWN_OPERATOR, message).at(operator.name.span);
                self.diagnostics.push(diagnostic.suggest(suggest(name, known)));
                OperatorKind::Never
            }
        };
        let text = match kind {
            OperatorKind::Text(_) | OperatorKind::Compare(_) => self.text(&operator.argument),
            // `%{` may well be part of what a pattern looks for: only what names a variable is a macro.
            OperatorKind::Rx if operator.argument.contains("%{") => {
                Text::parse(operator.argument.as_str(), &mut self.set.names).unwrap_or_default()
            }
            _ => Text::default(),
        };
        let raw = operator.argument.as_str().to_owned();
        OperatorDef { kind, negated: operator.negated, span: operator.argument.span, raw, text }
    }

    /// `@rsub`, of which only the pattern counts.
    fn rsub(&mut self, operator: &ast::Operator) -> OperatorDef {
        let argument = &operator.argument;
        let raw = argument.as_str().trim_end();
        let mut def = OperatorDef {
            kind: OperatorKind::Rsub,
            negated: operator.negated,
            span: argument.span,
            raw: raw.to_owned(),
            text: Text::default(),
        };
        let rsub = match operator::parse_rsub(raw) {
            Ok(rsub) => rsub,
            Err(error) => {
                let span = if raw.is_empty() { operator.name.span } else { argument.locate(error.range) };
                let diagnostic = Diagnostic::error(codes::OPERATOR_ARGUMENT, error.message).at(span);
                self.diagnostics.push(diagnostic.suggest(error.suggestion));
                def.kind = OperatorKind::Never;
                return def;
            }
        };
        let message =
            "`@rsub` matches where its pattern does, but replaces nothing: rules do not rewrite bodies";
        let diagnostic = Diagnostic::warning(codes::NO_EFFECT, message).at(operator.name.span);
        self.diagnostics.push(diagnostic.help("`[route.response.leaks]` masks what must not leave"));
        def.span = argument.locate(rsub.range);
        if rsub.pattern.contains("%{") {
            let folded = rsub.case_insensitive && !rsub.verbatim;
            let pattern = format!("{}{}", if folded { "(?i)" } else { "" }, rsub.pattern);
            // As with `@rx`: what names no variable is part of the pattern.
            def.text = Text::parse(&pattern, &mut self.set.names).unwrap_or_default();
        }
        def
    }
}

fn always(span: Span) -> OperatorDef {
    OperatorDef {
        kind: OperatorKind::Always,
        negated: false,
        span,
        raw: String::new(),
        text: Text::default(),
    }
}

fn link(
    span: Span,
    targets: TargetSet,
    operator: OperatorDef,
    own: &ActionSet,
    default: Option<&ActionSet>,
) -> LinkDef {
    let mut setvars = default.map(|set| set.setvars.clone()).unwrap_or_default();
    setvars.extend(own.setvars.iter().cloned());
    let mut ctls = default.map(|set| set.ctls.clone()).unwrap_or_default();
    ctls.extend(own.ctls.iter().cloned());
    let inherited =
        default.filter(|_| !own.transforms_reset).map(|set| set.transforms.as_slice()).unwrap_or_default();
    LinkDef {
        span,
        targets,
        transforms: [inherited, &own.transforms].concat(),
        operator,
        capture: own.capture || default.is_some_and(|set| set.capture),
        multi_match: own.multi_match || default.is_some_and(|set| set.multi_match),
        setvars,
        ctls,
        unconditional: false,
    }
}

impl ActionSet {
    /// The rule's disruptive action and status after merging with the phase's defaults.
    pub(super) fn disruption(&self, default: Option<&Self>) -> (Disruptive, Option<u16>) {
        let (fallback, status) = default.map_or((Disruptive::Pass, None), |set| {
            (set.disruptive.clone().unwrap_or(Disruptive::Pass), set.status)
        });
        match &self.disruptive {
            None | Some(Disruptive::Block) => (fallback, self.status.or(status)),
            // The default's status is inherited like any other action; its disruptive action is not.
            Some(own) => (own.clone(), self.status.or(status)),
        }
    }

    /// Whether matches are reported, and whether they make the transaction worth an audit entry.
    pub(super) fn logging(&self, default: Option<&Self>) -> (bool, bool) {
        let (log, audit) =
            default.map_or((true, true), |set| (set.log.unwrap_or(true), set.audit_log.unwrap_or(true)));
        (self.log.unwrap_or(log), self.audit_log.unwrap_or(audit))
    }
}
