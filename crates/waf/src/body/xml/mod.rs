//! XML bodies: the text and attributes that `XML:` selectors name.
//!
//! `quick-xml` is the tokenizer; what a document may be is decided here. There are no document types and no entities
//! but the five of XML and numeric ones, so that nothing can be expanded or fetched. What was found before an error
//! stays and is handed over.

mod path;

use quick_xml::errors::{IllFormedError, SyntaxError};
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

pub(crate) use path::Path;
use path::Progress;

/// Deepest nesting of elements.
const DEPTH: usize = 256;
/// Most elements and attributes of a document.
const NODES: usize = 200_000;
/// Most attributes of an element; checking for duplicates takes the square of it.
const ATTRIBUTES: usize = 256;
/// Bytes handed over for each byte of body, beyond an allowance: nested elements hold the same text many times.
const TEXT_FACTOR: usize = 8;
const TEXT_ALLOWANCE: usize = 64 << 10;

/// Why a body is no XML, for REQBODY_ERROR_MSG.
pub(crate) type Error = &'static str;

const NOT_READABLE: Error = "the document is not in the encoding it declares.";

/// Takes a path and a value it was found to name.
pub(crate) type Sink<'a> = dyn FnMut(&Path, &[u8]) + 'a;

struct Parser<'a> {
    paths: &'a [Path],
    /// Where the text of each open element begins.
    starts: Vec<usize>,
    /// How far each path has come: one entry for each path at each open element, the document itself first.
    progress: Vec<Progress>,
    /// The text of the document so far: an element's content is what was added since it was opened.
    text: Vec<u8>,
    nodes: usize,
    /// Bytes that may still be handed over.
    budget: usize,
    root_seen: bool,
    cut: bool,
}

/// Longest tag, comment or other markup that a document which goes on elsewhere may end in: what stands in it is not
/// handed over.
const CUT_MARKUP: usize = 1024;

/// Parses a document and hands over what the paths name. `cut`: there is more of it that nobody will see.
pub(crate) fn parse(body: &[u8], paths: &[Path], cut: bool, sink: &mut Sink<'_>) -> Result<(), Error> {
    let mut parser = Parser {
        paths,
        starts: Vec::new(),
        progress: paths.iter().map(Path::start).collect(),
        text: Vec::new(),
        nodes: 0,
        budget: TEXT_ALLOWANCE + body.len().saturating_mul(TEXT_FACTOR),
        root_seen: false,
        cut,
    };
    // A character that is cut in two is none that is broken.
    let utf8 = std::str::from_utf8(body).map_or_else(|error| cut && error.error_len().is_none(), |_| true);
    let result = parser.document(&String::from_utf8_lossy(body), utf8, sink);
    // What is still open after an error is handed over as far as it goes.
    while !parser.starts.is_empty() && parser.close(sink).is_ok() {}
    result
}

impl Parser<'_> {
    /// `utf8`: the document is valid UTF-8; otherwise it must say what it is.
    fn document(&mut self, document: &str, utf8: bool, sink: &mut Sink<'_>) -> Result<(), Error> {
        if document.contains('\0') {
            return Err("NUL byte in the document (or an encoding of more than one byte).");
        }
        let document = document.strip_prefix('\u{feff}').unwrap_or(document);
        let mut reader = Reader::from_str(document);
        reader.config_mut().enable_all_checks(true);
        let mut readable = utf8;
        loop {
            match reader.read_event() {
                Ok(Event::Decl(declaration)) => {
                    if let Some(encoding) = declaration.encoding() {
                        readable |= one_byte(&encoding.map_err(|_| "broken declaration.")?)?;
                    }
                }
                Ok(Event::Eof) => break,
                Ok(event) => self.event(event, sink)?,
                Err(error) if self.cut => {
                    let begin = usize::try_from(reader.error_position()).unwrap_or_default();
                    if is_cut_off(&error, document.len().saturating_sub(begin)) {
                        break;
                    }
                    return Err("not well-formed.");
                }
                Err(_) => return Err("not well-formed."),
            }
        }
        if self.cut {
            return if readable { Ok(()) } else { Err(NOT_READABLE) };
        }
        if !self.starts.is_empty() || !self.root_seen {
            return Err("the document ends too early.");
        }
        if readable { Ok(()) } else { Err(NOT_READABLE) }
    }

    fn event(&mut self, event: Event<'_>, sink: &mut Sink<'_>) -> Result<(), Error> {
        let outside = self.starts.is_empty();
        match event {
            Event::Start(element) => self.open(&element, sink),
            Event::Empty(element) => {
                self.open(&element, sink)?;
                self.close(sink)
            }
            Event::End(_) => self.close(sink),
            Event::Text(text) => {
                let text = text.into_inner();
                if outside && !text.trim_ascii().is_empty() {
                    return Err("text outside of the root element.");
                }
                self.text.extend_from_slice(text.as_bytes());
                Ok(())
            }
            Event::CData(_) | Event::GeneralRef(_) if outside => Err("text outside of the root element."),
            Event::CData(text) => {
                self.text.extend_from_slice(text.into_inner().as_bytes());
                Ok(())
            }
            Event::GeneralRef(reference) => self.reference(&reference),
            Event::DocType(_) => Err("document types are not accepted."),
            Event::Comment(_) | Event::PI(_) | Event::Decl(_) | Event::Eof => Ok(()),
        }
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), Error> {
        let broken = "broken character reference.";
        if let Some(character) = reference.resolve_char_ref().map_err(|_| broken)? {
            self.text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(());
        }
        self.text.push(match &**reference {
            "lt" => b'<',
            "gt" => b'>',
            "amp" => b'&',
            "apos" => b'\'',
            "quot" => b'"',
            _ => return Err("an entity that the document would have to declare."),
        });
        Ok(())
    }

    fn open(&mut self, element: &BytesStart<'_>, sink: &mut Sink<'_>) -> Result<(), Error> {
        let name = element.name();
        if self.starts.is_empty() && std::mem::replace(&mut self.root_seen, true) {
            return Err("more than one root element.");
        }
        if self.starts.len() >= DEPTH {
            return Err("nested too deeply.");
        }
        check_name(name.as_ref())?;
        self.count()?;
        let parent = self.progress.len() - self.paths.len();
        for (index, path) in self.paths.iter().enumerate() {
            let before = self.progress.get(parent + index).copied().unwrap_or_default();
            self.progress.push(path.enter(before, local(name.as_ref())));
        }
        self.starts.push(self.text.len());
        self.attributes(element, sink)
    }

    fn attributes(&mut self, element: &BytesStart<'_>, sink: &mut Sink<'_>) -> Result<(), Error> {
        for (count, attribute) in element.attributes().enumerate() {
            let attribute = attribute.map_err(|_| "broken attribute.")?;
            if count >= ATTRIBUTES {
                return Err("too many attributes.");
            }
            self.count()?;
            let name = attribute.key;
            check_name(name.as_ref())?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|_| "broken reference in an attribute.")?;
            let here = self.progress.len() - self.paths.len();
            for index in 0..self.paths.len() {
                let progress = self.progress.get(here + index).copied().unwrap_or_default();
                let path = self.paths.get(index);
                if let Some(path) = path.filter(|path| path.names_attribute(progress, local(name.as_ref()))) {
                    self.spend(value.len())?;
                    sink(path, value.as_bytes());
                }
            }
        }
        Ok(())
    }

    /// Closes the innermost element and hands over its content.
    fn close(&mut self, sink: &mut Sink<'_>) -> Result<(), Error> {
        let here = self.progress.len() - self.paths.len();
        let start = self.starts.pop().ok_or("an end without a beginning.")?;
        let ends = self.progress.split_off(here);
        for (path, progress) in self.paths.iter().zip(ends) {
            if path.names_content(progress) {
                self.spend(self.text.len() - start)?;
                sink(path, self.text.get(start..).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Error> {
        self.nodes += 1;
        if self.nodes > NODES { Err("too many elements and attributes.") } else { Ok(()) }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Error> {
        self.budget = self.budget.checked_sub(bytes).ok_or("the same text under too many paths.")?;
        Ok(())
    }
}

/// Whether markup that could not be read for the end of the input, `length` bytes before it, may be whole in the part
/// that is not there.
fn is_cut_off(error: &quick_xml::Error, length: usize) -> bool {
    match error {
        // What begins like a document type is refused as one.
        quick_xml::Error::Syntax(SyntaxError::UnclosedDoctype) => false,
        quick_xml::Error::Syntax(SyntaxError::InvalidBangMarkup) => length < "<![CDATA[".len(),
        quick_xml::Error::Syntax(_) => length <= CUT_MARKUP,
        quick_xml::Error::IllFormed(IllFormedError::UnclosedReference) => length <= "&#x0010ffff".len(),
        _ => false,
    }
}

/// The name without its prefix.
fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// The tokenizer takes anything for a name; what is none would hide in it unseen.
fn check_name(name: &str) -> Result<(), Error> {
    let start = |byte: &u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':') || !byte.is_ascii();
    let part = |byte: &u8| start(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let bytes = name.as_bytes();
    let right = bytes.first().is_some_and(start) && bytes.iter().all(part);
    if right { Ok(()) } else { Err("a name with characters that names do not have.") }
}

/// Whether the encoding has letters beyond ASCII in one byte; those whose ASCII looks different are not accepted.
fn one_byte(encoding: &str) -> Result<bool, Error> {
    let name = encoding.to_ascii_lowercase();
    match name.as_str() {
        "utf-8" | "utf8" | "us-ascii" | "ascii" => Ok(false),
        _ if name.starts_with("iso-8859-") || name.starts_with("windows-125") => Ok(true),
        _ => Err("an encoding that is not accepted."),
    }
}

#[cfg(test)]
mod tests;
