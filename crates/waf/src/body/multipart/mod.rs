//! `multipart/form-data` (RFC 7578): a push parser that takes the body in any pieces.
//!
//! It is strict where backends differ: what some of them would read otherwise is an [`Error`], or one of the [`Flag`]s
//! that rules can ask about. What was found before an error stays: a body that breaks at its end must not hide what
//! stands at its beginning. Names and values are as sent; nothing is percent-decoded.

mod boundary;
mod disposition;

use disposition::Disposition;

/// Most bytes of a header line of a part, folded lines included.
const HEADER_LINE: usize = 4096;
/// Most header lines of a part; browsers send two.
const HEADER_LINES: usize = 64;

/// Where the parts of a body go.
pub(crate) trait Parts {
    /// A header line of a part, as sent without its end; folded lines are joined. `part` is empty when the part has no
    /// name.
    fn header(&mut self, part: &[u8], line: &[u8]);
    /// A part that is no file. `false`: no more are wanted.
    fn field(&mut self, name: &[u8], value: &[u8]) -> bool;
    /// A part that is a file, with its `filename*` decoded if it has one. `false`: no more are wanted.
    fn file(&mut self, name: &[u8], file_name: &[u8], extended: Option<&[u8]>, size: usize) -> bool;
}

/// A way in which a body bends the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Flag {
    BoundaryQuoted,
    BoundaryWhitespace,
    DataBefore,
    DataAfter,
    HeaderFolding,
    LfLine,
    CrlfLine,
    MissingSemicolon,
    InvalidQuoting,
    InvalidPart,
    InvalidHeaderFolding,
    FileLimitExceeded,
}

/// Some of the flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(u16);

impl Flags {
    pub(crate) const fn has(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }

    pub(crate) const fn raise(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u8;
    }

    const fn lower(&mut self, flag: Flag) {
        self.0 &= !(1 << flag as u8);
    }

    /// Whether any of them counts as an error of the strict grammar: all but lines that end as they should.
    pub(crate) const fn strict_error(self) -> bool {
        self.0 & !(1 << Flag::CrlfLine as u8) != 0
    }
}

/// Why a body is no form. The texts are those of ModSecurity, which tests and log readers look for.
pub(crate) type Error = &'static str;

/// What became of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) flags: Flags,
    /// 1: the first or the last boundary is missing or looks different; 2: everything is there, and more lines that
    /// begin with `--` or hold the boundary.
    pub(crate) unmatched_boundary: u8,
    pub(crate) error: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Before,
    Headers,
    Data,
    After,
}

/// The part being read.
#[derive(Debug, Default)]
struct Part {
    /// Header lines, one after the other.
    headers: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    disposition: Disposition,
    data: Vec<u8>,
    size: usize,
    /// The end of the last data line, which belongs to the boundary if one follows.
    line_end: &'static [u8],
}

impl Part {
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.headers.get(start..*end).unwrap_or_default())
    }

    fn clear(&mut self) {
        self.headers.clear();
        self.ends.clear();
        self.disposition = Disposition::default();
        self.data.clear();
        self.size = 0;
        self.line_end = b"";
    }

    fn append(&mut self, bytes: &[u8]) {
        self.size += bytes.len();
        if !self.disposition.is_file() {
            self.data.extend_from_slice(bytes);
        }
    }
}

/// The parser of one body.
#[derive(Debug)]
pub(crate) struct Parser {
    /// `--` and the boundary.
    delimiter: Vec<u8>,
    /// A line that was not complete yet.
    line: Vec<u8>,
    place: Place,
    part: Part,
    files: usize,
    file_limit: usize,
    outcome: Outcome,
}

impl Parser {
    /// A parser for a body with this Content-Type. When that names no usable boundary, the outcome is an error.
    pub(crate) fn new(content_type: &[u8], file_limit: usize) -> Self {
        let mut outcome = Outcome { flags: Flags::default(), unmatched_boundary: 0, error: None };
        let delimiter = match boundary::of(content_type, &mut outcome.flags) {
            Ok(boundary) => [b"--", boundary].concat(),
            Err(error) => {
                outcome.error = Some(error);
                Vec::new()
            }
        };
        Self {
            delimiter,
            line: Vec::new(),
            place: Place::Before,
            part: Part::default(),
            files: 0,
            file_limit,
            outcome,
        }
    }

    /// Takes bytes of the body.
    pub(crate) fn push(&mut self, mut bytes: &[u8], out: &mut dyn Parts) {
        while self.outcome.error.is_none()
            && let Some((line, rest)) =
                memchr::memchr(b'\n', bytes).and_then(|end| bytes.split_at_checked(end + 1))
        {
            bytes = rest;
            if self.line.is_empty() {
                self.take_line(line, out);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.take_line(&whole, out);
                whole.clear();
                self.line = whole;
            }
        }
        if self.outcome.error.is_none() {
            self.line.extend_from_slice(bytes);
        }
    }

    /// The body is complete, or there is more of it that nobody will see (`cut`).
    pub(crate) fn finish(mut self, cut: bool, out: &mut dyn Parts) -> Outcome {
        let rest = std::mem::take(&mut self.line);
        if cut && self.outcome.error.is_none() && matches!(self.place, Place::Headers | Place::Data) {
            return self.finish_cut(&rest, out);
        }
        if self.outcome.error.is_none() && !rest.is_empty() {
            self.take_line(&rest, out);
        }
        if self.outcome.error.is_none() && self.place != Place::After {
            self.outcome.unmatched_boundary = 1;
            self.fail(match self.place {
                Place::Before => "Multipart: No boundaries found in payload.",
                _ => "Multipart: Final boundary missing.",
            });
        }
        if self.outcome.error.is_some() && matches!(self.place, Place::Headers | Place::Data) {
            let line_end = std::mem::take(&mut self.part.line_end);
            self.part.append(line_end);
            self.end_part(out);
        }
        self.outcome
    }

    /// Hands over the part that was cut off. What its last line would have become cannot be told.
    fn finish_cut(mut self, rest: &[u8], out: &mut dyn Parts) -> Outcome {
        if self.place == Place::Headers {
            self.part.headers.extend_from_slice(rest);
            self.part.ends.push(self.part.headers.len());
        } else {
            let line_end = std::mem::take(&mut self.part.line_end);
            self.part.append(line_end);
            self.part.append(rest);
        }
        let flags = self.outcome.flags;
        self.end_part(out);
        // That a part is not whole is our doing.
        if !flags.has(Flag::InvalidPart) {
            self.outcome.flags.lower(Flag::InvalidPart);
        }
        self.outcome
    }

    fn fail(&mut self, error: Error) {
        self.outcome.error.get_or_insert(error);
    }

    /// One line with its end; only the last one of the body may have none.
    fn take_line(&mut self, line: &[u8], out: &mut dyn Parts) {
        let (text, end) = split_line_end(line);
        if self.place == Place::After {
            if !text.is_empty() {
                self.outcome.flags.raise(Flag::DataAfter);
            }
            return;
        }
        if let Some(rest) = text.strip_prefix(b"--") {
            if let Some(tail) = text.strip_prefix(self.delimiter.as_slice()) {
                return self.boundary(tail, end, out);
            }
            if let Some(error) = self.disguised(rest) {
                self.outcome.unmatched_boundary = 1;
                return self.fail(error);
            }
            self.outcome.unmatched_boundary = 2;
        } else if memchr::memmem::find(text, &self.delimiter).is_some() {
            self.outcome.unmatched_boundary = 2;
        }
        match self.place {
            Place::Before => self.outcome.flags.raise(Flag::DataBefore),
            Place::Headers => {
                if let Err(error) = self.header(text, end) {
                    self.fail(error);
                }
            }
            Place::Data => {
                let pending = self.part.line_end;
                self.part.append(pending);
                self.part.append(text);
                self.part.line_end = end;
            }
            Place::After => {}
        }
    }

    /// A line that some reader may take for a boundary although it is none.
    fn disguised(&self, rest: &[u8]) -> Option<Error> {
        let boundary = self.delimiter.get(2..).unwrap_or_default();
        let quoted = rest.strip_prefix(b"\"").and_then(|rest| rest.strip_prefix(boundary));
        if quoted.is_some_and(|tail| tail.starts_with(b"\"")) {
            return Some("Multipart: Invalid boundary (quotes).");
        }
        let bare = rest.trim_ascii_start();
        (bare.len() < rest.len() && bare.starts_with(boundary))
            .then_some("Multipart: Invalid boundary (whitespace).")
    }

    fn line_end(&mut self, end: &[u8]) {
        match end {
            b"\r\n" => self.outcome.flags.raise(Flag::CrlfLine),
            b"\n" => self.outcome.flags.raise(Flag::LfLine),
            _ => {}
        }
    }

    /// A line that begins with the boundary; `tail` is what follows.
    fn boundary(&mut self, tail: &[u8], end: &[u8], out: &mut dyn Parts) {
        let last = match tail {
            b"" => false,
            b"--" => true,
            _ => return self.fail("Multipart: Invalid boundary."),
        };
        self.line_end(end);
        if self.place != Place::Before {
            self.line_end(self.part.line_end);
            self.end_part(out);
        }
        self.place = if last { Place::After } else { Place::Headers };
    }

    /// One header line of a part. A broken one is kept all the same, for rules to look at.
    fn header(&mut self, text: &[u8], end: &[u8]) -> Result<(), Error> {
        self.line_end(end);
        if text.is_empty() {
            return self.end_headers();
        }
        if text.len() > HEADER_LINE {
            return Err("Multipart: Part header too long.");
        }
        let folded = text.first().is_some_and(u8::is_ascii_whitespace);
        if folded && let Some(last) = self.part.ends.last().copied() {
            self.outcome.flags.raise(Flag::HeaderFolding);
            if !text.starts_with(b" ") && !text.starts_with(b"\t") {
                self.outcome.flags.raise(Flag::InvalidHeaderFolding);
            }
            let start = self.part.ends.iter().rev().nth(1).copied().unwrap_or(0);
            if last - start + text.len() > HEADER_LINE {
                return Err("Multipart: Part header too long.");
            }
            self.part.ends.pop();
            self.part.headers.push(b' ');
            self.part.headers.extend_from_slice(text.trim_ascii_start());
            self.part.ends.push(self.part.headers.len());
        } else {
            let duplicate =
                self.part.lines().any(|line| header_name(line).is_some_and(|name| same(text, name)));
            self.part.headers.extend_from_slice(text);
            self.part.ends.push(self.part.headers.len());
            if duplicate {
                return Err("Multipart: Duplicate part header.");
            }
            match header_name(text) {
                _ if folded => return Err("Multipart: Invalid part header (folding error)."),
                None => return Err("Multipart: Invalid part header (colon missing)."),
                Some([]) => return Err("Multipart: Invalid part header (header name missing)."),
                Some(name) if !name.iter().all(u8::is_ascii_graphic) => {
                    return Err("Multipart: Invalid part header (contains invalid character).");
                }
                Some(_) => {}
            }
        }
        if text.contains(&0) {
            return Err("Multipart: Nul byte in part headers.");
        }
        if self.part.ends.len() > HEADER_LINES {
            return Err("Multipart: Too many part headers.");
        }
        Ok(())
    }

    fn end_headers(&mut self) -> Result<(), Error> {
        self.place = Place::Data;
        let line = self.part.lines().find(|line| same(line, b"Content-Disposition"));
        let Some(line) = line else { return Err("Multipart: Part missing Content-Disposition header.") };
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii_start();
        let mut found = Disposition::default();
        let result = found.read(value, &mut self.outcome.flags);
        self.part.disposition = found;
        result?;
        if self.part.disposition.name.as_ref().is_none_or(Vec::is_empty) {
            return Err("Multipart: Content-Disposition header missing name field.");
        }
        Ok(())
    }

    /// Hands over what has been read of the current part.
    fn end_part(&mut self, out: &mut dyn Parts) {
        let part = &self.part;
        let name = part.disposition.name.as_deref().unwrap_or_default();
        for line in part.lines() {
            out.header(name, line);
        }
        let mut wanted = true;
        if self.place == Place::Headers || part.disposition.name.is_none() {
            self.outcome.flags.raise(Flag::InvalidPart);
        }
        if part.disposition.is_file() {
            self.files += 1;
            if self.files > self.file_limit {
                self.outcome.flags.raise(Flag::FileLimitExceeded);
            }
            let file_name = part.disposition.file_name.as_deref().unwrap_or_default();
            wanted = out.file(name, file_name, part.disposition.extended.as_deref(), part.size);
        } else if part.disposition.name.is_some() || !part.data.is_empty() {
            wanted = out.field(name, &part.data);
        }
        self.part.clear();
        if !wanted {
            self.place = Place::After;
            self.fail("Multipart: More parts than SecArgumentsLimit.");
        }
    }
}

/// The line and its end.
fn split_line_end(line: &[u8]) -> (&[u8], &'static [u8]) {
    if let Some(text) = line.strip_suffix(b"\r\n") {
        (text, b"\r\n")
    } else if let Some(text) = line.strip_suffix(b"\n") {
        (text, b"\n")
    } else {
        (line, b"")
    }
}

fn header_name(line: &[u8]) -> Option<&[u8]> {
    memchr::memchr(b':', line).and_then(|colon| line.get(..colon))
}

/// Whether the header line has this name.
fn same(line: &[u8], name: &[u8]) -> bool {
    header_name(line).is_some_and(|other| other.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
