//! The variable list of a rule.

use portcullis_diag::{Diagnostic, suggest};
use portcullis_seclang as ast;

use super::Validator;
use crate::body::xml;
use crate::codes;
use crate::target::{Exclusion, Key, Target, TargetSet};
use crate::variable::{Shape, TABLE, Var};

impl Validator<'_> {
    /// Resolves a variable list; what cannot be resolved is reported and left out.
    pub(super) fn targets(&mut self, variables: &[ast::Variable]) -> TargetSet {
        let mut set = TargetSet::default();
        for variable in variables {
            self.add_target(&mut set, variable);
        }
        set
    }

    /// Adds one variable to a set, or takes it away from it.
    pub(super) fn add_target(&mut self, set: &mut TargetSet, variable: &ast::Variable) {
        let Some(var) = self.variable(variable) else { return };
        let Some(key) = self.key(var, variable) else { return };
        if variable.excluded {
            set.excludes.push(Exclusion { var, key });
        } else {
            set.includes.push(Target { var, counted: variable.counted, key });
        }
    }

    pub(super) fn variable(&mut self, variable: &ast::Variable) -> Option<Var> {
        let name = variable.name.as_str();
        let Some(var) = Var::by_name(name) else {
            let known = TABLE.iter().map(|info| info.name);
            let diagnostic = Diagnostic::error(codes::UNKNOWN_VARIABLE, format!("unknown variable `{name}`"));
            self.diagnostics.push(diagnostic.at(variable.name.span).suggest(suggest(name, known)));
            return None;
        };
        if let Shape::Planned(why) = var.info().shape {
            // Taking away what is never there needs no support.
            if !variable.excluded {
                let message = format!("variable `{}` is not supported", var.info().name);
                let diagnostic = Diagnostic::error(codes::UNSUPPORTED_VARIABLE, message);
                self.diagnostics.push(diagnostic.at(variable.span).help(why));
            }
            return None;
        }
        Some(var)
    }

    fn key(&mut self, var: Var, variable: &ast::Variable) -> Option<Key> {
        let Some(selector) = &variable.selector else {
            if var == Var::Env {
                self.error(
                    codes::SELECTOR,
                    variable.span,
                    "`ENV` needs the name of a variable, as in `ENV:HOME`",
                );
                return None;
            }
            if var == Var::Xml {
                self.error(
                    codes::SELECTOR,
                    variable.span,
                    "`XML` needs a path, as in `XML:/*` (all text) or `XML://@*` (all attributes)",
                );
                return None;
            }
            return Some(Key::Any);
        };
        if var == Var::Xml
            && let Err(message) = xml::Path::parse(selector.text().as_str())
        {
            self.error(codes::SELECTOR, selector.text().span, message);
            return None;
        }
        if var.info().shape == Shape::Scalar {
            let message = format!("`{}` is a single value and takes no selector", var.info().name);
            self.error(codes::SELECTOR, selector.text().span, message);
            return None;
        }
        match selector {
            ast::Selector::Key(text) | ast::Selector::Path(text) if var == Var::Tx => {
                Some(Key::Slot(self.set.names.intern(text.as_str())))
            }
            ast::Selector::Key(text) | ast::Selector::Path(text) => Some(Key::Exact(text.as_bytes().into())),
            ast::Selector::Regex(text) => match Key::regex(text.as_str()) {
                Ok(key) => Some(key),
                Err(reason) => {
                    self.error(
                        codes::SELECTOR,
                        text.span,
                        format!("the selector's pattern is broken: {reason}"),
                    );
                    None
                }
            },
        }
    }
}
