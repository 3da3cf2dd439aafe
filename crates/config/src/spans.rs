//! Where each field stands in the file.

use std::collections::BTreeMap;

use portcullis_diag::Span;

/// Finds the place of a field by its path, such as `route[3].match.path` or `upstream.catalogue`.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    fields: BTreeMap<String, Place>,
}

/// The place of one field.
#[derive(Debug, Clone, Copy)]
struct Place {
    key: Span,
    value: Span,
}

impl Spans {
    pub(crate) fn insert(&mut self, path: String, key: Span, value: Span) {
        self.fields.insert(path, Place { key, value });
    }

    /// Whether the file gives this field, or a default stands in.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        self.fields.contains_key(path)
    }

    /// The value's place; for a field that is not in the file, the place of the nearest table around it.
    /// `None` only for paths of which no part is in the file.
    #[must_use]
    pub fn value(&self, path: &str) -> Option<Span> {
        self.nearest(path).map(|place| place.value)
    }

    /// The key's place (for items of arrays the item's), or the nearest table's.
    #[must_use]
    pub fn key(&self, path: &str) -> Option<Span> {
        self.nearest(path).map(|place| place.key)
    }

    fn nearest(&self, path: &str) -> Option<Place> {
        let mut path = path;
        loop {
            if let Some(place) = self.fields.get(path) {
                return Some(*place);
            }
            let cut = path.rfind(['.', '['])?;
            path = path.get(..cut)?;
        }
    }
}
