//! Picking and dropping members.

use crate::document::{Object, Value};

/// Names of members, dots leading into objects, as a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selection(Vec<(String, Option<Selection>)>);

impl Selection {
    /// Reads paths; `Err` is the one that has an empty name in it. `a` takes in `a.b`.
    pub(crate) fn parse(paths: &[String]) -> Result<Self, &String> {
        let mut all = Selection::default();
        for path in paths {
            if path.split('.').any(str::is_empty) {
                return Err(path);
            }
            all.add(path);
        }
        Ok(all)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, path: &str) {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        let at = match self.0.iter().position(|(known, _)| known == name) {
            Some(at) => at,
            None => {
                self.0.push((name.to_owned(), rest.map(|_| Selection::default())));
                self.0.len() - 1
            }
        };
        let Some((_, below)) = self.0.get_mut(at) else { return };
        match (rest, &mut *below) {
            (Some(rest), Some(selection)) => selection.add(rest),
            (Some(_), None) => {}
            (None, _) => *below = None,
        }
    }

    /// What is said of a member: nothing, all of it, or something below it.
    fn of(&self, name: &str) -> Option<Option<&Selection>> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, below)| below.as_ref())
    }

    /// Only what is selected. Where a name leads into something that is no object, there is nothing to take.
    pub(crate) fn pick<'a>(&self, object: Object<'a>) -> Object<'a> {
        object.filter_map(|name, value| match self.of(name)? {
            None => Some(value),
            Some(below) => Some(Value::Object(below.pick(value.into_object()?))),
        })
    }

    /// All but what is selected.
    pub(crate) fn drop<'a>(&self, object: Object<'a>) -> Object<'a> {
        object.filter_map(|name, value| match self.of(name) {
            None => Some(value),
            Some(None) => None,
            Some(Some(below)) => match value.clone().into_object() {
                Some(object) => Some(Value::Object(below.drop(object))),
                None => Some(value),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(paths: &[&str]) -> Selection {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        Selection::parse(&paths).unwrap()
    }

    fn text(object: &Object<'_>) -> String {
        let mut out = Vec::new();
        object.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    const DOCUMENT: &str = r#"{"id":1,"a":{"b":{"c":1,"d":2},"e":3},"l":[{"id":2}],"n":null}"#;

    #[test]
    fn pick() {
        let pick = |paths: &[&str]| text(&selection(paths).pick(Object::read(DOCUMENT).unwrap()));
        assert_eq!(pick(&["n", "id"]), r#"{"id":1,"n":null}"#);
        assert_eq!(pick(&["a.b.c"]), r#"{"a":{"b":{"c":1}}}"#);
        assert_eq!(pick(&["a.b.c", "a.e"]), r#"{"a":{"b":{"c":1},"e":3}}"#);
        assert_eq!(pick(&["a.b", "a"]), r#"{"a":{"b":{"c":1,"d":2},"e":3}}"#);
        assert_eq!(pick(&["a", "a.b"]), r#"{"a":{"b":{"c":1,"d":2},"e":3}}"#);
        assert_eq!(pick(&["n.x", "l.id", "id.x", "zz"]), "{}");
    }

    #[test]
    fn drop() {
        let drop = |paths: &[&str]| text(&selection(paths).drop(Object::read(DOCUMENT).unwrap()));
        assert_eq!(drop(&["a", "l"]), r#"{"id":1,"n":null}"#);
        assert_eq!(drop(&["a.b", "l", "n"]), r#"{"id":1,"a":{"e":3}}"#);
        assert_eq!(drop(&["n.x", "l.id", "id.x", "zz"]), DOCUMENT);
    }

    #[test]
    fn paths_with_empty_names() {
        for path in ["", ".", "a.", ".a", "a..b"] {
            assert!(Selection::parse(&[path.to_owned()]).is_err(), "{path}");
        }
    }
}
