//! Label values that follow the configuration, capped.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Distinct values that one label set takes in the life of a process. 500 routes with all their histograms
/// are some 10,000 series, which a small Prometheus still takes without notice.
pub(crate) const CAP: usize = 500;

/// The value that stands for all beyond the cap.
pub(crate) const OTHER: &str = "other";

/// The values one label has taken so far.
#[derive(Debug, Default)]
pub(crate) struct LabelSet(Mutex<HashSet<Box<str>>>);

impl LabelSet {
    /// The value itself while there is room or when it was there before, and [`OTHER`] from then on.
    pub(crate) fn admit<'a>(&self, value: &'a str) -> &'a str {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(value) {
            return value;
        }
        if seen.len() >= CAP {
            return OTHER;
        }
        seen.insert(value.into());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_stay_and_new_ones_overflow() {
        let set = LabelSet::default();
        for i in 0..CAP {
            let name = format!("route-{i}");
            assert_eq!(set.admit(&name), name);
        }
        assert_eq!(set.admit("one-more"), OTHER);
        assert_eq!(set.admit("route-0"), "route-0");
    }
}
