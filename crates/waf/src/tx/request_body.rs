//! From the request body to variables.

use super::arguments::Arguments;
use super::state::State;
use super::values::ValueId;
use crate::body::{Sink, graphql, json, multipart, urlencoded, xml};
use crate::program::Program;
use crate::rule::Processor;
use crate::settings::Settings;
use crate::variable::Var;
use multipart::Flag;

/// Said in the report when arguments went uninspected.
const NOTE_ARGUMENTS: &str = "arguments beyond SecArgumentsLimit were not inspected one by one";

/// Said in the report when there was more of the body than the limit.
const NOTE_CUT: &str = "only the beginning of the request body was inspected";
/// Said in the report when a processor stopped before the body's end.
const NOTE_ERROR: &str = "the request body could not be taken apart to its end";

/// The flags of a multipart body as rules see them.
const FLAGS: [(Flag, Var); 11] = [
    (Flag::BoundaryQuoted, Var::MultipartBoundaryQuoted),
    (Flag::BoundaryWhitespace, Var::MultipartBoundaryWhitespace),
    (Flag::DataBefore, Var::MultipartDataBefore),
    (Flag::DataAfter, Var::MultipartDataAfter),
    (Flag::HeaderFolding, Var::MultipartHeaderFolding),
    (Flag::LfLine, Var::MultipartLfLine),
    (Flag::MissingSemicolon, Var::MultipartMissingSemicolon),
    (Flag::InvalidQuoting, Var::MultipartInvalidQuoting),
    (Flag::InvalidPart, Var::MultipartInvalidPart),
    (Flag::InvalidHeaderFolding, Var::MultipartInvalidHeaderFolding),
    (Flag::FileLimitExceeded, Var::MultipartFileLimitExceeded),
];

impl State {
    /// Parses the request body and fills what comes from it.
    pub(super) fn process_body(&mut self, program: &Program) {
        let zero = self.values.intern(b"0");
        for var in [
            Var::ReqbodyError,
            Var::ReqbodyProcessorError,
            Var::InboundDataError,
            Var::FilesCombinedSize,
            Var::MultipartStrictError,
            Var::MultipartUnmatchedBoundary,
        ] {
            if !self.stored_scalar(var).is_some() {
                self.set_scalar_id(var, zero);
            }
        }
        self.set_number(Var::RequestBodyLength, self.request_body.len() as u64);
        if self.request_body.is_empty() {
            return;
        }
        let body = std::mem::take(&mut self.request_body);
        let settings = &program.settings;
        let parsed = match self.processor {
            Some(Processor::Urlencoded) => {
                self.urlencoded(&body, settings, true);
                false
            }
            Some(Processor::Json) => self.json(&body, settings),
            Some(Processor::Multipart) => self.multipart(&body, settings),
            Some(Processor::Xml) => self.xml(&body, &program.xml_paths),
            Some(Processor::GraphQl) => self.graphql(&body, settings),
            None => false,
        };
        let files = self.values.get(self.stored_scalar(Var::FilesCombinedSize));
        let files = usize::try_from(crate::operator::atoi(files)).unwrap_or(0);
        if body.len().saturating_sub(files) > settings.no_files_limit {
            self.set_scalar(Var::InboundDataError, b"1");
            self.body_error("the body without its files is longer than SecRequestBodyNoFilesLimit");
        }
        // What could not be parsed is looked at as it is, and so is what was cut off: its end may stand in no variable.
        if !parsed || self.force_body || self.request_body_full {
            self.set_scalar(Var::RequestBody, &body);
        }
        self.request_body = body;
    }

    /// The body as it came, as far as it is kept. Few rules ask: nothing is copied before one does.
    pub(super) fn whole_request_body(&mut self) -> ValueId {
        if self.request_body.is_empty() {
            return ValueId::NONE;
        }
        self.values.intern(&self.request_body)
    }

    /// The body is longer than what is kept of it.
    pub(super) fn cut_request_body(&mut self) {
        self.request_body_full = true;
        self.set_scalar(Var::InboundDataError, b"1");
        self.note(NOTE_CUT);
    }

    /// Parses urlencoded text into the arguments of the query or of the body.
    pub(super) fn urlencoded(&mut self, input: &[u8], settings: &Settings, body: bool) {
        let mut buffers = std::mem::take(&mut self.pair);
        let mut sink = Arguments::new(self, settings, input.len(), body);
        let outcome = urlencoded::parse(input, settings.argument_separator, &mut buffers, &mut sink);
        self.pair = buffers;
        if outcome.invalid_encoding {
            self.set_scalar(Var::UrlencodedError, b"1");
        }
        if outcome.truncated {
            self.note(NOTE_ARGUMENTS);
            if body {
                self.body_error("more arguments than SecArgumentsLimit");
            }
        }
    }

    /// The body could not be taken apart as a whole: for rules to decide about.
    fn body_error(&mut self, message: &str) {
        self.note(NOTE_ERROR);
        for var in [Var::ReqbodyError, Var::ReqbodyProcessorError] {
            self.set_scalar(var, b"1");
        }
        for var in [Var::ReqbodyErrorMsg, Var::ReqbodyProcessorErrorMsg] {
            self.set_scalar(var, message.as_bytes());
        }
    }

    /// Whether the body was JSON to its end.
    fn json(&mut self, body: &[u8], settings: &Settings) -> bool {
        let mut sink = Arguments::new(self, settings, body.len(), true);
        let result = json::parse(body, b"json", settings.json_depth_limit, &mut sink);
        match result {
            Ok(()) => true,
            // That its end is missing is our doing.
            Err(json::Error::End(_)) if self.request_body_full => true,
            Err(error) => {
                self.body_error(&error.message());
                false
            }
        }
    }

    /// Whether the body was a GraphQL document to its end.
    fn graphql(&mut self, body: &[u8], settings: &Settings) -> bool {
        let mut sink = Arguments::new(self, settings, body.len(), true);
        let complete = graphql::parse(body, b"graphql", &mut sink).is_ok();
        if !complete && !self.request_body_full {
            self.body_error("GraphQL parsing error: not an executable document, or beyond the limits");
        }
        complete
    }

    /// Whether the body was a form to its end.
    fn multipart(&mut self, body: &[u8], settings: &Settings) -> bool {
        let content_type = self.content_type();
        let mut parser = multipart::Parser::new(self.values.get(content_type), settings.upload_file_limit);
        let cut = self.request_body_full;
        let mut form = Form { state: self, settings, length: body.len(), size: 0 };
        parser.push(body, &mut form);
        let outcome = parser.finish(cut, &mut form);
        let size = form.size.to_string();
        self.set_scalar(Var::FilesCombinedSize, size.as_bytes());
        let mut flag = |var: Var, raised: bool| self.set_scalar(var, if raised { b"1" } else { b"0" });
        for (bit, var) in FLAGS {
            flag(var, outcome.flags.has(bit));
        }
        let both = outcome.flags.has(Flag::LfLine) && outcome.flags.has(Flag::CrlfLine);
        flag(Var::MultipartCrlfLfLines, both);
        flag(Var::MultipartStrictError, outcome.error.is_some() || outcome.flags.strict_error());
        let unmatched = outcome.unmatched_boundary.to_string();
        self.set_scalar(Var::MultipartUnmatchedBoundary, unmatched.as_bytes());
        if let Some(error) = outcome.error {
            self.body_error(&format!("Multipart parsing error: {error}"));
        }
        outcome.error.is_none()
    }

    /// Whether the body was XML to its end.
    fn xml(&mut self, body: &[u8], paths: &[xml::Path]) -> bool {
        let result = xml::parse(body, paths, self.request_body_full, &mut |path, value| {
            let entry = self.entry(path.source().as_bytes(), value);
            self.xml.push(entry);
        });
        let Err(error) = result else { return true };
        self.body_error(&format!("XML parsing error: {error}"));
        false
    }
}

/// Takes the parts of a multipart body.
struct Form<'a> {
    state: &'a mut State,
    settings: &'a Settings,
    /// Bytes of the whole body.
    length: usize,
    /// Bytes of all files.
    size: usize,
}

impl multipart::Parts for Form<'_> {
    fn header(&mut self, part: &[u8], line: &[u8]) {
        let entry = self.state.entry(part, line);
        self.state.upload.headers.push(entry);
    }

    fn field(&mut self, name: &[u8], value: &[u8]) -> bool {
        let part = self.state.entry(name, name);
        self.state.upload.parts.push(part);
        Arguments::new(self.state, self.settings, self.length, true).argument(name, value)
    }

    fn file(&mut self, name: &[u8], file_name: &[u8], extended: Option<&[u8]>, size: usize) -> bool {
        if self.state.upload.files.len() >= self.settings.arguments_limit {
            return false;
        }
        self.size += size;
        let part = self.state.entry(name, name);
        self.state.upload.parts.push(part);
        for file_name in [Some(file_name), extended].into_iter().flatten() {
            let file = self.state.entry(name, file_name);
            self.state.upload.file_names.push(file);
            // Either of the two may be the one the application goes by.
            self.state.upload.files.push(file);
        }
        let size = self.state.entry(name, size.to_string().as_bytes());
        self.state.upload.sizes.push(size);
        true
    }
}
