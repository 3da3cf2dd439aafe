//! Cases of a corpus as text: what is sent and what must come of it, one file for each group.

use std::fs;
use std::path::Path;

/// One case: `[ROW name] source`, and the lines below it up to the next one. Empty lines and lines that begin with `#`
/// are left out.
#[derive(Clone, Debug)]
pub struct Case {
    /// The matrix row it belongs to.
    pub row: String,
    /// Its name, unique in its corpus.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// What it says.
    pub lines: Vec<String>,
    /// File and line, for messages.
    pub place: String,
}

/// Reads all files of a folder whose names end in `.txt`.
///
/// # Panics
/// When a file cannot be read, a line stands before the first case, or two cases have the same name.
#[must_use]
pub fn cases(folder: impl AsRef<Path>) -> Vec<Case> {
    let mut files: Vec<_> = fs::read_dir(folder.as_ref())
        .unwrap_or_else(|error| panic!("{}: {error}", folder.as_ref().display()))
        .map(|entry| entry.expect("a folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for (number, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = format!("{}:{}", path.display(), number + 1);
            if let Some((title, source)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
                let (row, name) = title.split_once(' ').unwrap_or_else(|| panic!("{place}: no name"));
                assert!(cases.iter().all(|case| case.name != name), "{place}: `{name}` stands twice");
                let (row, name) = (row.to_owned(), name.to_owned());
                let source = source.trim().to_owned();
                cases.push(Case { row, name, source, lines: Vec::new(), place });
            } else {
                cases.last_mut().unwrap_or_else(|| panic!("{place}: no case")).lines.push(line.to_owned());
            }
        }
    }
    cases
}

/// The bytes that a text with escapes stands for: `\r`, `\n`, `\t`, `\0`, `\s` (space), `\\`, `\"` and `\xHH`.
///
/// # Panics
/// At any other escape.
#[must_use]
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b's') => b' ',
                Some(b'0') => 0,
                Some(escaped @ (b'\\' | b'"')) => escaped,
                Some(b'x') => {
                    let digit = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16));
                    match (digit(rest.next()), digit(rest.next())) {
                        (Some(high), Some(low)) => (high << 4 | low) as u8,
                        _ => panic!("`\\x` without two digits in `{text}`"),
                    }
                }
                other => panic!("no such escape as {other:?} in `{text}`"),
            },
            byte => byte,
        });
    }
    bytes
}

/// The bytes of a line in one of the forms that all corpora know: `"text"`, `hex 00 ff`, `fill COUNT BYTE`.
///
/// # Panics
/// Where one of these forms is broken.
#[must_use]
pub fn bytes(line: &str) -> Option<Vec<u8>> {
    if let Some(text) = line.strip_prefix('"') {
        return Some(unescape(text.strip_suffix('"').unwrap_or_else(|| panic!("no closing quote: {line}"))));
    }
    let byte = |word: &str| u8::from_str_radix(word, 16).unwrap_or_else(|_| panic!("no byte: {word}"));
    if let Some(digits) = line.strip_prefix("hex ") {
        return Some(digits.split_whitespace().map(byte).collect());
    }
    let (count, value) = line.strip_prefix("fill ")?.split_once(' ')?;
    Some(vec![byte(value); count.parse().unwrap_or_else(|_| panic!("no count: {line}"))])
}
