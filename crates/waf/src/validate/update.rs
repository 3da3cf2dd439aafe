//! `SecRuleRemove…` and `SecRuleUpdate…`: applied to all rules when everything has been read, whatever the order of
//! the files, so that an exclusion never misses its rule silently.

use portcullis_seclang::{self as ast, DirectiveKind, RuleSelector};

use super::{Item, Matcher, RuleChoice, RuleDef, Validator};
use crate::codes;

impl Validator<'_> {
    pub(super) fn apply_updates(&mut self) {
        for directive in std::mem::take(&mut self.updates) {
            let mut changed = Some(0);
            let what = || "that part of the directive".to_owned();
            self.tolerating(what, |this| {
                changed = match &directive.kind {
                    DirectiveKind::Remove(rules) => this.remove(rules),
                    DirectiveKind::UpdateTarget(update) => this.update_targets(update),
                    DirectiveKind::UpdateAction(update) => this.update_actions(update),
                    _ => Some(0),
                };
            });
            if changed == Some(0) {
                let message = format!("`{}` selects no rule", directive.name.as_str());
                self.warn(codes::NOTHING_SELECTED, directive.span, message);
            }
        }
    }

    /// The choices a selector stands for; `None` when it is broken (and reported).
    fn choices(&mut self, rules: &RuleSelector) -> Option<Vec<RuleChoice>> {
        let matcher = |this: &mut Self, text: &ast::Text| match Matcher::new(text.as_str()) {
            Ok(matcher) => Some(matcher),
            Err(reason) => {
                this.error(codes::SELECTOR, text.span, format!("the pattern is broken: {reason}"));
                None
            }
        };
        Some(match rules {
            RuleSelector::Ids(ranges) => {
                ranges.iter().map(|range| RuleChoice::Ids(range.first, range.last)).collect()
            }
            RuleSelector::Tag(text) => vec![RuleChoice::Tag(matcher(self, text)?)],
            RuleSelector::Message(text) => vec![RuleChoice::Message(matcher(self, text)?)],
        })
    }

    fn remove(&mut self, rules: &RuleSelector) -> Option<usize> {
        let choices = self.choices(rules)?;
        let before = self.set.items.len();
        self.set.items.retain(|item| match item {
            Item::Rule(rule) => !covered(&choices, rule),
            Item::Marker(_) => true,
        });
        Some(before - self.set.items.len())
    }

    fn update_targets(&mut self, update: &ast::UpdateTarget) -> Option<usize> {
        let choices = self.choices(&update.rules)?;
        let added = self.targets(&update.variables);
        let replaced = self.targets(&update.replaced);
        let names = &self.set.names;
        let replaced: Vec<String> = replaced.includes.iter().map(|target| target.show(names)).collect();
        let mut changed = 0;
        for item in &mut self.set.items {
            let Item::Rule(rule) = item else { continue };
            if !covered(&choices, rule) {
                continue;
            }
            changed += 1;
            // Exclusions reach every link: the value must not come back through a chained rule.
            for (index, link) in rule.links.iter_mut().enumerate() {
                if index == 0 {
                    link.targets.includes.retain(|target| !replaced.contains(&target.show(names)));
                    link.targets.includes.extend(added.includes.iter().cloned());
                }
                link.targets.excludes.extend(added.excludes.iter().cloned());
            }
        }
        Some(changed)
    }

    fn update_actions(&mut self, update: &ast::UpdateAction) -> Option<usize> {
        for fixed in ["id", "phase", "chain"] {
            if let Some(action) = update.actions.named(fixed).next() {
                self.error(
                    codes::ACTION_VALUE,
                    action.span,
                    format!("`{fixed}` of a rule cannot be changed"),
                );
                return None;
            }
        }
        let set = self.action_set(&update.actions);
        let index = update.link.unwrap_or(0) as usize;
        let mut changed = 0;
        let defaults = self.defaults.clone();
        for item in &mut self.set.items {
            let Item::Rule(rule) = item else { continue };
            if !update.rules.iter().any(|range| range.contains(u64::from(rule.id))) {
                continue;
            }
            changed += 1;
            if index == 0 {
                update_starter(rule, &set, defaults.get(rule.phase.index()).and_then(Option::as_ref));
            }
            let Some(link) = rule.links.get_mut(index) else { continue };
            if set.transforms_reset {
                link.transforms.clear();
            }
            link.transforms.extend(&set.transforms);
            link.setvars.extend(set.setvars.iter().cloned());
            link.ctls.extend(set.ctls.iter().cloned());
            link.capture |= set.capture;
            link.multi_match |= set.multi_match;
        }
        Some(changed)
    }
}

fn update_starter(
    rule: &mut RuleDef,
    set: &super::actions::ActionSet,
    default: Option<&super::actions::ActionSet>,
) {
    if set.disruptive.is_some() {
        let (disruptive, status) = set.disruption(default);
        rule.disruptive = disruptive;
        rule.status = status.or(rule.status);
    } else {
        rule.status = set.status.or(rule.status);
    }
    rule.log = set.log.unwrap_or(rule.log);
    rule.audit_log = set.audit_log.unwrap_or(rule.audit_log);
    rule.skip = set.skip.clone().or(rule.skip.take());
    let meta = &mut rule.meta;
    meta.tags.extend(set.meta.tags.iter().cloned());
    meta.msg = set.meta.msg.clone().or(meta.msg.take());
    meta.logdata = set.meta.logdata.clone().or(meta.logdata.take());
    meta.severity = set.meta.severity.or(meta.severity);
}

fn covered(choices: &[RuleChoice], rule: &RuleDef) -> bool {
    choices.iter().any(|choice| choice.covers(rule.id, &rule.meta.tags, rule.meta.msg.as_ref()))
}
