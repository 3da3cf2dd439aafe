//! Where a text came from, and how a byte offset becomes a line and a column.

use std::fmt;
use std::sync::Arc;

/// Names one [`Source`] of a [`SourceMap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(u32);

impl SourceId {
    /// The source's place in its map, counted from 0 in the order of addition.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A range of bytes of one source: `start` is the first byte, `end` the one after the last.
///
/// An empty span (`start == end`) is a place between two bytes; at the end of the text it means
/// "something is missing here".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The source the bytes belong to.
    pub source: SourceId,
    /// Offset of the first byte, from 0.
    pub start: u32,
    /// Offset just after the last byte; never below `start`.
    pub end: u32,
}

impl Span {
    /// The bytes `start..end` of `source`. Offsets beyond 4 GiB saturate, and an `end` before
    /// `start` gives an empty span at `start`.
    #[must_use]
    pub fn new(source: SourceId, start: usize, end: usize) -> Self {
        let start = u32::try_from(start).unwrap_or(u32::MAX);
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        Self { source, start, end: end.max(start) }
    }

    /// The span from this one's start to `other`'s end, when both lie in the same source;
    /// otherwise this span unchanged.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        if self.source != other.source {
            return self;
        }
        Self { source: self.source, start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether the span covers no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The range of byte offsets.
    #[must_use]
    pub const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}..{}", self.source.0, self.start, self.end)
    }
}

/// A place as people count it: both numbers start at 1, the column counts characters (not bytes,
/// not display cells).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line number, from 1.
    pub line: u32,
    /// Character of the line, from 1.
    pub column: u32,
}

/// One text with its name. The text is UTF-8: bytes that were not are replaced by U+FFFD when
/// the source is added, and [`Source::invalid_utf8`] says where the first of them was.
#[derive(Clone, Debug)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    /// Offset of the first byte of every line; the first is always 0.
    lines: Vec<u32>,
    invalid_utf8: Option<u32>,
}

impl Source {
    fn new(name: Arc<str>, text: Arc<str>, invalid_utf8: Option<u32>) -> Self {
        let mut lines = vec![0];
        for (at, byte) in text.bytes().enumerate() {
            if byte == b'\n' {
                lines.push(u32::try_from(at + 1).unwrap_or(u32::MAX));
            }
        }
        Self { name, text, lines, invalid_utf8 }
    }

    /// The file name as it is shown to people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text as a shared pointer, for parsers that keep it.
    #[must_use]
    pub fn shared_text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// Offset of the first byte that was not UTF-8 and has been replaced, if there was one.
    #[must_use]
    pub const fn invalid_utf8(&self) -> Option<u32> {
        self.invalid_utf8
    }

    /// Number of lines; a text that ends in a line feed has an empty last line.
    #[must_use]
    pub fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// Index (from 0) of the line that holds `offset`.
    fn line_index(&self, offset: u32) -> usize {
        self.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// Text of line `number` (from 1) without its line ending; `None` beyond the last line.
    #[must_use]
    pub fn line(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let start = *self.lines.get(index)? as usize;
        let end = self.lines.get(index + 1).map_or(self.text.len(), |next| *next as usize);
        let line = self.text.get(start..end)?;
        let line = line.strip_suffix('\n').unwrap_or(line);
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    /// Byte offset at which line `number` (from 1) starts.
    #[must_use]
    pub fn line_start(&self, number: u32) -> Option<u32> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.lines.get(index).copied()
    }

    /// Line and column of a byte offset. Offsets beyond the text mean its end; an offset inside a
    /// character means that character.
    #[must_use]
    pub fn position(&self, offset: u32) -> Position {
        let offset = self.floor(offset);
        let index = self.line_index(offset);
        let start = self.lines.get(index).copied().unwrap_or(0) as usize;
        let before = self.text.get(start..offset as usize).unwrap_or("");
        let line = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let column = u32::try_from(before.chars().count() + 1).unwrap_or(u32::MAX);
        Position { line, column }
    }

    /// The largest character boundary not after `offset`.
    fn floor(&self, offset: u32) -> u32 {
        let mut at = (offset as usize).min(self.text.len());
        while at > 0 && !self.text.is_char_boundary(at) {
            at -= 1;
        }
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}

/// All texts that were read, so that a [`Span`] can be shown long after its parser is gone.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    sources: Vec<Source>,
}

impl SourceMap {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self { sources: Vec::new() }
    }

    /// Adds a text under the name people know it by.
    pub fn add(&mut self, name: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> SourceId {
        self.push(Source::new(name.into(), text.into(), None))
    }

    /// Adds a text read as bytes. What is not UTF-8 is replaced (see [`Source::invalid_utf8`]); a
    /// UTF-8 byte order mark at the start is dropped.
    pub fn add_bytes(&mut self, name: impl Into<Arc<str>>, bytes: &[u8]) -> SourceId {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let invalid = std::str::from_utf8(bytes)
            .err()
            .map(|error| u32::try_from(error.valid_up_to()).unwrap_or(u32::MAX));
        let text: Arc<str> = String::from_utf8_lossy(bytes).into();
        self.push(Source::new(name.into(), text, invalid))
    }

    fn push(&mut self, source: Source) -> SourceId {
        let id = SourceId(u32::try_from(self.sources.len()).unwrap_or(u32::MAX));
        self.sources.push(source);
        id
    }

    /// The source with this id; `None` when the id comes from another map.
    #[must_use]
    pub fn get(&self, id: SourceId) -> Option<&Source> {
        self.sources.get(id.index())
    }

    /// All sources with their ids, in the order of addition.
    pub fn iter(&self) -> impl Iterator<Item = (SourceId, &Source)> {
        (0u32..).map(SourceId).zip(&self.sources)
    }

    /// The text a span covers; empty when the span does not fit its source.
    #[must_use]
    pub fn text(&self, span: Span) -> &str {
        self.get(span.source).and_then(|source| source.text().get(span.range())).unwrap_or("")
    }

    /// Line and column of a span's first byte.
    #[must_use]
    pub fn position(&self, span: Span) -> Option<Position> {
        self.get(span.source).map(|source| source.position(span.start))
    }

    /// The span of the first occurrence of `needle` in a source; handy in tests and for places a
    /// parser does not report.
    #[must_use]
    pub fn span_of(&self, id: SourceId, needle: &str) -> Option<Span> {
        let start = self.get(id)?.text().find(needle)?;
        Some(Span::new(id, start, start + needle.len()))
    }
}
