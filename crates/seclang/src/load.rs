//! Reading rule files, with `Include` replaced by what it names.

use std::io;
use std::path::{Component, Path, PathBuf};

use portcullis_diag::{Diagnostic, Diagnostics, SourceMap, Span};

use crate::ast::{Directive, DirectiveKind, Include};
use crate::codes;
use crate::glob;
use crate::parser::parse;

/// How deep includes may nest.
const MAX_DEPTH: usize = 100;
/// How many files one rule set may consist of; without a limit a few files that include each
/// other twice would never end.
const MAX_FILES: usize = 10_000;

/// Where rule files come from. [`Disk`] is the file system; tests bring their own.
pub trait Files {
    /// The content of a file.
    ///
    /// # Errors
    /// Whatever keeps the file from being read.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The names (not paths) of everything in a directory, in any order.
    ///
    /// # Errors
    /// Whatever keeps the directory from being read.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        std::fs::read_dir(directory)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}

/// What [`load`] found.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The directives of all files in order, without `Include`.
    pub directives: Vec<Directive>,
    /// What is wrong with the files.
    pub diagnostics: Diagnostics,
    /// Every file that was read, in order, for watching them.
    pub files: Vec<PathBuf>,
}

/// Reads rule files, given as paths or glob patterns (`*`, `?`, `[a-z]` in any component), in the
/// order given; the files of one pattern are sorted by path. Each file becomes a source whose
/// name is its path, so that what a rule refers to (a phrase list, say) can be found next to it.
///
/// `Include` and `IncludeOptional` are expanded in place, relative to the file they stand in.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::io;
/// use std::path::Path;
/// use portcullis_diag::SourceMap;
/// use portcullis_seclang::{Files, load};
///
/// struct Memory(BTreeMap<&'static str, &'static str>);
///
/// impl Files for Memory {
///     fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
///         let text = self.0.get(path.to_str().unwrap()).ok_or(io::ErrorKind::NotFound)?;
///         Ok(text.as_bytes().to_vec())
///     }
///     fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
///         let names = self.0.keys().filter_map(|path| Path::new(path).strip_prefix(directory).ok());
///         Ok(names.map(|name| name.to_str().unwrap().to_owned()).collect())
///     }
/// }
///
/// let files = Memory(BTreeMap::from([
///     ("main.conf", "SecRuleEngine On\nInclude rules/*.conf\n"),
///     ("rules/b.conf", "SecMarker B\n"),
///     ("rules/a.conf", "SecMarker A\n"),
/// ]));
/// let mut sources = SourceMap::new();
/// let loaded = load(&["main.conf"], &files, &mut sources);
/// assert!(loaded.diagnostics.is_empty());
/// let lines: Vec<String> = loaded.directives.iter().map(ToString::to_string).collect();
/// assert_eq!(lines, ["SecRuleEngine On", "SecMarker A", "SecMarker B"]);
/// ```
pub fn load<P: AsRef<Path>>(paths: &[P], files: &impl Files, sources: &mut SourceMap) -> Loaded {
    let mut loader = Loader { files, sources, out: Loaded::default(), open: Vec::new() };
    for path in paths {
        loader.pattern(path.as_ref(), None, false);
    }
    loader.out
}

struct Loader<'a, F> {
    files: &'a F,
    sources: &'a mut SourceMap,
    out: Loaded,
    /// The files being read, outermost first.
    open: Vec<PathBuf>,
}

impl<F: Files> Loader<'_, F> {
    fn report(&mut self, diagnostic: Diagnostic, span: Option<Span>) {
        self.out.diagnostics.push(match span {
            Some(span) => diagnostic.at(span),
            None => diagnostic,
        });
    }

    fn pattern(&mut self, pattern: &Path, span: Option<Span>, optional: bool) {
        if self.open.len() >= MAX_DEPTH {
            let message = format!("includes nest deeper than {MAX_DEPTH} files");
            self.report(Diagnostic::error(codes::INCLUDE_RECURSION, message), span);
            return;
        }
        let paths = match self.expand(pattern) {
            Ok(paths) => paths,
            Err((directory, error)) => {
                if !(optional && error.kind() == io::ErrorKind::NotFound) {
                    let message = format!("cannot read the directory {}: {error}", directory.display());
                    self.report(Diagnostic::error(codes::UNREADABLE_FILE, message), span);
                }
                return;
            }
        };
        if paths.is_empty() && !optional {
            let message = format!("no file matches {}", pattern.display());
            let help = "use `IncludeOptional` where files may be absent";
            let diagnostic = Diagnostic::error(codes::NO_SUCH_FILE, message);
            self.report(if span.is_some() { diagnostic.help(help) } else { diagnostic }, span);
        }
        for path in paths {
            self.file(path, span, optional);
        }
    }

    fn file(&mut self, path: PathBuf, span: Option<Span>, optional: bool) {
        if self.open.contains(&path) {
            let message = format!("{} includes itself", path.display());
            self.report(Diagnostic::error(codes::INCLUDE_RECURSION, message), span);
            return;
        }
        if self.out.files.len() >= MAX_FILES {
            if self.out.files.len() == MAX_FILES {
                let message = format!("more than {MAX_FILES} files are included; the rest is left out");
                self.report(Diagnostic::error(codes::TOO_MANY_FILES, message), span);
                self.out.files.push(path);
            }
            return;
        }
        let bytes = match self.files.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if optional && error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let code = match error.kind() {
                    io::ErrorKind::NotFound => codes::NO_SUCH_FILE,
                    _ => codes::UNREADABLE_FILE,
                };
                let message = format!("cannot read {}: {error}", path.display());
                self.report(Diagnostic::error(code, message), span);
                return;
            }
        };
        self.out.files.push(path.clone());
        let id = self.sources.add_bytes(path.to_string_lossy(), &bytes);
        let parsed = parse(self.sources, id);
        self.out.diagnostics.append(parsed.diagnostics);
        self.open.push(path);
        for directive in parsed.directives {
            match directive.kind {
                DirectiveKind::Include(include) => self.include(&include),
                _ => self.out.directives.push(directive),
            }
        }
        self.open.pop();
    }

    fn include(&mut self, include: &Include) {
        let directory = self.open.last().and_then(|path| path.parent()).unwrap_or(Path::new(""));
        let pattern = directory.join(&*include.pattern);
        self.pattern(&pattern, Some(include.pattern.span), include.optional);
    }

    /// The paths a pattern means, sorted; a path without pattern characters means itself.
    fn expand(&self, pattern: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
        let mut found = vec![PathBuf::new()];
        let mut components = pattern.components().peekable();
        while let Some(component) = components.next() {
            let last = components.peek().is_none();
            let name = component.as_os_str().to_string_lossy();
            if !matches!(component, Component::Normal(_)) || !glob::is_pattern(&name) {
                for path in &mut found {
                    path.push(component);
                }
                continue;
            }
            let mut matched = Vec::new();
            for directory in found {
                let mut names = match self.files.list(&directory) {
                    Ok(names) => names,
                    // A file where `a*/b*.conf` would need a directory does not count.
                    Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
                    Err(error) => return Err((directory, error)),
                };
                names.retain(|entry| glob::matches(&name, entry));
                names.sort();
                matched.extend(names.into_iter().map(|entry| directory.join(entry)));
            }
            found = matched;
            if last {
                found.sort();
            }
        }
        Ok(found)
    }
}
