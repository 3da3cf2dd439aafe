//! From which parts of a message a variable is filled: what has been gathered from it stays valid until one of them
//! changes, which for most variables and phases is never.

use crate::variable::{Shape, TABLE, Var};

/// A set of parts, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Sources(u128);

const _: () = assert!(TABLE.len() <= 128, "one bit for each variable");

impl Sources {
    pub(crate) const NONE: Self = Self(0);

    /// The part that is stored under this variable itself.
    pub(crate) const fn own(var: Var) -> Self {
        Self(1 << var as u8)
    }

    /// Every part that holds entries under keys.
    pub(crate) fn collections() -> Self {
        let is_collection = |info: &&crate::variable::VariableInfo| info.shape == Shape::Collection;
        TABLE.iter().filter(is_collection).fold(Self::NONE, |all, info| all.union(Self::own(info.var)))
    }

    /// The parts a variable's values come from.
    pub(crate) fn of(var: Var) -> Self {
        let parts = match var {
            Var::ArgsCombinedSize => Var::Args.parts(),
            // Read from where the body is kept; its length is set when it is complete.
            Var::StreamInputBody => Var::RequestBodyLength.parts(),
            Var::StreamOutputBody => Var::ResponseBody.parts(),
            _ => var.parts(),
        };
        parts.iter().fold(Self::NONE, |all, part| all.union(Self::own(*part)))
    }

    #[must_use]
    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}
