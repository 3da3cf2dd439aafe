//! The paths that `XML:` selectors are written in: a small part of XPath, matched while the document is read.
//!
//! `/a/b`, `//b`, `/a/*`, `/a//b`, each optionally with `/@name`, `//@name`, `/@*` or `/text()` at its end. Prefixes are
//! left out of the comparison, on both sides: a document is free to choose its own.

/// How far a path has come at an element: a bit for each number of steps that led there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress(u32);

/// Most steps of a path.
const STEPS: usize = 30;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// Any number of elements may lie between.
    descendant: bool,
    /// `None`: any element.
    name: Option<Box<str>>,
}

impl Step {
    fn admits(&self, name: &str) -> bool {
        self.name.as_deref().is_none_or(|own| own == name)
    }
}

/// What of the elements is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// All text inside.
    Content,
    Attribute(Step),
}

/// A path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    source: Box<str>,
    steps: Vec<Step>,
    end: End,
}

impl Path {
    /// Reads a path; the error says what a path may be.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            Err(format!(
                "`{text}` is no path this engine reads: `/*`, `//@*`, `/a/b`, `//b`, with `/@name` or `/text()` at the end"
            ))
        };
        let mut rest = text;
        let mut steps = Vec::new();
        while let Some(tail) = rest.strip_prefix('/') {
            let (descendant, tail) = tail.strip_prefix('/').map_or((false, tail), |tail| (true, tail));
            let length = tail.find('/').unwrap_or(tail.len());
            let (word, after) = tail.split_at_checked(length).unwrap_or((tail, ""));
            rest = after;
            if word == "text()" && rest.is_empty() && (descendant || !steps.is_empty()) {
                if descendant {
                    steps.push(Step { descendant, name: None });
                }
                break;
            }
            let (attribute, name) = word.strip_prefix('@').map_or((false, word), |name| (true, name));
            let local = name.rsplit_once(':').map_or(name, |(_, local)| local);
            let right = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
            let name = match local {
                "*" => None,
                "" => return expected(),
                local if local.chars().all(right) => Some(local.into()),
                _ => return expected(),
            };
            let step = Step { descendant, name };
            if attribute {
                let placed = rest.is_empty() && (step.descendant || !steps.is_empty());
                return if placed {
                    Ok(Self { source: text.into(), steps, end: End::Attribute(step) })
                } else {
                    expected()
                };
            }
            steps.push(step);
        }
        let right = rest.is_empty() && !steps.is_empty() && steps.len() <= STEPS;
        if right { Ok(Self { source: text.into(), steps, end: End::Content }) } else { expected() }
    }

    /// The path as written.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// At the document, before its root.
    pub(super) fn start(&self) -> Progress {
        Progress(1)
    }

    fn all(&self) -> u32 {
        1 << self.steps.len()
    }

    /// At an element inside of one where the path had come so far.
    pub(super) fn enter(&self, parent: Progress, name: &str) -> Progress {
        let mut here = 0;
        for (at, step) in self.steps.iter().enumerate().filter(|(at, _)| parent.0 & (1 << at) != 0) {
            if step.descendant {
                here |= 1 << at;
            }
            if step.admits(name) {
                here |= 1 << (at + 1);
            }
        }
        // `//@a` means the attributes of everything below as well.
        if matches!(&self.end, End::Attribute(step) if step.descendant) {
            here |= parent.0 & self.all();
        }
        Progress(here)
    }

    pub(super) fn names_content(&self, here: Progress) -> bool {
        self.end == End::Content && here.0 & self.all() != 0
    }

    pub(super) fn names_attribute(&self, here: Progress, name: &str) -> bool {
        here.0 & self.all() != 0 && matches!(&self.end, End::Attribute(step) if step.admits(name))
    }
}
