//! The request that a `curl` command makes, as browsers copy it ("Copy as cURL").

use super::message::{Field, Request};
use super::shell;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;

/// The version in the User-Agent that curl sends of itself.
const AGENT: &[u8] = b"curl/8.5.0";
const BOUNDARY: &str = "------------------------d74496d66958873e";
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// What an option does.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// It changes nothing about the request.
    Nothing,
    /// The same, with a value.
    NothingWith,
    Request,
    Url,
    Query,
    Header,
    Data(Data),
    Json,
    Form,
    FormString,
    Get,
    Head,
    Upload,
    User,
    Bearer,
    Agent,
    Referer,
    Cookie,
    Range,
    Compressed,
    PathAsIs,
    Http10,
    Http2,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Data {
    /// `@file` without its line ends.
    Plain,
    /// `@file` as it is.
    Binary,
    /// `@` is text.
    Raw,
    /// Percent-encoded, with `+` for a space.
    Encoded,
}

/// The options that are known: the long name, the short one, what they do.
const OPTIONS: &[(&str, char, Does)] = &[
    ("basic", ' ', Does::Nothing),
    ("cacert", ' ', Does::NothingWith),
    ("cert", 'E', Does::NothingWith),
    ("compressed", ' ', Does::Compressed),
    ("connect-timeout", ' ', Does::NothingWith),
    ("cookie", 'b', Does::Cookie),
    ("cookie-jar", 'c', Does::NothingWith),
    ("data", 'd', Does::Data(Data::Plain)),
    ("data-ascii", ' ', Does::Data(Data::Plain)),
    ("data-binary", ' ', Does::Data(Data::Binary)),
    ("data-raw", ' ', Does::Data(Data::Raw)),
    ("data-urlencode", ' ', Does::Data(Data::Encoded)),
    ("dump-header", 'D', Does::NothingWith),
    ("fail", 'f', Does::Nothing),
    ("form", 'F', Does::Form),
    ("form-string", ' ', Does::FormString),
    ("get", 'G', Does::Get),
    ("globoff", 'g', Does::Nothing),
    ("head", 'I', Does::Head),
    ("header", 'H', Does::Header),
    ("http1.0", '0', Does::Http10),
    ("http1.1", ' ', Does::Nothing),
    ("http2", ' ', Does::Http2),
    ("http2-prior-knowledge", ' ', Does::Http2),
    ("http3", ' ', Does::Http2),
    ("include", 'i', Does::Nothing),
    ("insecure", 'k', Does::Nothing),
    ("ipv4", '4', Does::Nothing),
    ("ipv6", '6', Does::Nothing),
    ("json", ' ', Does::Json),
    ("key", ' ', Does::NothingWith),
    ("keepalive", ' ', Does::Nothing),
    ("location", 'L', Does::Nothing),
    ("max-time", 'm', Does::NothingWith),
    ("no-buffer", 'N', Does::Nothing),
    ("oauth2-bearer", ' ', Does::Bearer),
    ("output", 'o', Does::NothingWith),
    ("path-as-is", ' ', Does::PathAsIs),
    ("progress-bar", '#', Does::Nothing),
    ("proxy", 'x', Does::NothingWith),
    ("range", 'r', Does::Range),
    ("referer", 'e', Does::Referer),
    ("remote-name", 'O', Does::Nothing),
    ("request", 'X', Does::Request),
    ("resolve", ' ', Does::NothingWith),
    ("retry", ' ', Does::NothingWith),
    ("show-error", 'S', Does::Nothing),
    ("silent", 's', Does::Nothing),
    ("tlsv1.2", ' ', Does::Nothing),
    ("tlsv1.3", ' ', Does::Nothing),
    ("upload-file", 'T', Does::Upload),
    ("url", ' ', Does::Url),
    ("url-query", ' ', Does::Query),
    ("user", 'u', Does::User),
    ("user-agent", 'A', Does::Agent),
    ("verbose", 'v', Does::Nothing),
    ("write-out", 'w', Does::NothingWith),
];

impl Does {
    fn takes_value(self) -> bool {
        !matches!(
            self,
            Does::Nothing
                | Does::Get
                | Does::Head
                | Does::Compressed
                | Does::PathAsIs
                | Does::Http10
                | Does::Http2
        )
    }
}

/// What a command line says so far.
#[derive(Default)]
struct Curl {
    url: Option<Vec<u8>>,
    query: Vec<u8>,
    method: Option<Vec<u8>>,
    headers: Vec<Vec<u8>>,
    data: Option<Vec<u8>>,
    parts: Vec<u8>,
    upload: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    bearer: Option<Vec<u8>>,
    agent: Option<Vec<u8>>,
    referer: Option<Vec<u8>>,
    cookies: Vec<Vec<u8>>,
    range: Option<Vec<u8>>,
    json: bool,
    get: bool,
    head: bool,
    compressed: bool,
    path_as_is: bool,
    version: Option<&'static [u8]>,
}

/// The request that `command` makes. Files that it names are read.
///
/// # Errors
/// What is not understood of it.
pub(super) fn request(command: &str) -> Result<Request, String> {
    let words = shell::words(command)?;
    let words = words.strip_prefix(&[b"curl".to_vec()]).unwrap_or(&words);
    let mut curl = Curl::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix(b"--").filter(|name| !name.is_empty()) {
            let does = long_option(long)?;
            let value = if does.takes_value() { Some(value_of(words.next(), word)?) } else { None };
            curl.option(does, value.unwrap_or_default())?;
        } else if let Some(cluster) = word.strip_prefix(b"-").filter(|cluster| !cluster.is_empty()) {
            let mut cluster = cluster;
            while let Some((short, rest)) = cluster.split_first() {
                let does = short_option(*short)?;
                cluster = rest;
                let mut value = &[][..];
                if does.takes_value() {
                    value = if rest.is_empty() { value_of(words.next(), word)? } else { rest };
                    cluster = &[];
                }
                curl.option(does, value)?;
            }
        } else {
            curl.option(Does::Url, word)?;
        }
    }
    curl.finish()
}

fn value_of<'a>(value: Option<&'a Vec<u8>>, option: &[u8]) -> Result<&'a [u8], String> {
    value.map(Vec::as_slice).ok_or_else(|| format!("curl: {} wants a value", shown(option)))
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn long_option(name: &[u8]) -> Result<Does, String> {
    let name = shown(name);
    let find = |name: &str| OPTIONS.iter().find(|(long, ..)| *long == name).map(|(.., does)| *does);
    let negated = || name.strip_prefix("no-").and_then(find).filter(|does| !does.takes_value());
    find(&name).or_else(|| negated().map(|_| Does::Nothing)).ok_or_else(|| {
        let hint = portcullis_diag::suggest(&name, OPTIONS.iter().map(|(long, ..)| *long));
        let hint = hint.map(|hint| format!("; did you mean `--{hint}`?")).unwrap_or_default();
        format!("curl: `--{name}` is not understood{hint}")
    })
}

fn short_option(letter: u8) -> Result<Does, String> {
    let found = OPTIONS.iter().find(|(_, short, _)| *short != ' ' && u32::from(*short) == u32::from(letter));
    found.map(|(.., does)| *does).ok_or_else(|| format!("curl: `-{}` is not understood", char::from(letter)))
}

impl Curl {
    fn option(&mut self, does: Does, value: &[u8]) -> Result<(), String> {
        let owned = value.to_vec();
        match does {
            Does::Nothing | Does::NothingWith => {}
            Does::Url if self.url.is_some() => {
                return Err("curl: more than one URL; give one command each".to_owned());
            }
            Does::Url => self.url = Some(owned),
            Does::Request => self.method = Some(owned),
            Does::Query => {
                let piece = data(Data::Encoded, value)?;
                append(&mut self.query, b'&', &piece);
            }
            Does::Header => self.headers.push(owned),
            Does::Data(kind) => {
                let piece = data(kind, value)?;
                append(self.data.get_or_insert_default(), b'&', &piece);
            }
            Does::Json => {
                self.json = true;
                self.data.get_or_insert_default().extend(data(Data::Binary, value)?);
            }
            Does::Form => self.part(value, false)?,
            Does::FormString => self.part(value, true)?,
            Does::Get => self.get = true,
            Does::Head => self.head = true,
            Does::Upload => self.upload = Some(read(value)?),
            Does::User => self.user = Some(owned),
            Does::Bearer => self.bearer = Some(owned),
            Does::Agent => self.agent = Some(owned),
            Does::Referer => self.referer = Some(owned),
            Does::Cookie if !value.contains(&b'=') => {
                return Err(
                    "curl: cookies from files are not read; write them as `-b 'name=value'`".to_owned()
                );
            }
            Does::Cookie => self.cookies.push(owned),
            Does::Range => self.range = Some(owned),
            Does::Compressed => self.compressed = true,
            Does::PathAsIs => self.path_as_is = true,
            Does::Http10 => self.version = Some(b"HTTP/1.0"),
            Does::Http2 => self.version = Some(b"HTTP/2.0"),
        }
        Ok(())
    }

    /// One part of a multipart form: `name=value`, `name=@file;type=…;filename=…`, `name=<file`.
    fn part(&mut self, text: &[u8], literally: bool) -> Result<(), String> {
        let (name, value) = split_once(text, b'=').ok_or("curl: -F wants `name=value`")?;
        let (mut content, mut file, mut media_type) = (value.to_vec(), None, None);
        let source = value.split_first().filter(|(first, _)| !literally && matches!(first, b'@' | b'<'));
        if !literally {
            let mut pieces = source.map_or(value, |(_, rest)| rest).split(|byte| *byte == b';');
            let base = pieces.next().unwrap_or_default();
            for piece in pieces {
                match split_once(piece.trim_ascii(), b'=') {
                    Some((b"type", value)) => media_type = Some(shown(value)),
                    Some((b"filename", value)) => file = Some(shown(value).trim_matches('"').to_owned()),
                    _ => return Err(format!("curl: -F: `{}` is not understood", shown(piece))),
                }
            }
            content = if source.is_some() { read(base)? } else { base.to_vec() };
            if source.is_some_and(|(first, _)| *first == b'@') {
                let path = shown(base);
                let name = Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned());
                file = file.or(name);
                media_type =
                    media_type.or_else(|| Some(guess(file.as_deref().unwrap_or_default()).to_owned()));
            }
        }
        let file = file.map(|file| format!("; filename=\"{file}\"")).unwrap_or_default();
        let media_type = media_type.map(|kind| format!("Content-Type: {kind}\r\n")).unwrap_or_default();
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{}\"{file}\r\n{media_type}\r\n",
            shown(name)
        );
        self.parts.extend_from_slice(head.as_bytes());
        self.parts.extend_from_slice(&content);
        self.parts.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn finish(mut self) -> Result<Request, String> {
        let url = self.url.take().ok_or("curl: there is no URL")?;
        let mut url = Url::parse(&url, self.path_as_is)?;
        append(&mut url.query, b'&', &std::mem::take(&mut self.query));
        if self.get {
            append(&mut url.query, b'&', &self.data.take().unwrap_or_default());
        }
        let (body, media_type) = self.body();
        let method = self.method.clone().unwrap_or_else(|| match (&body, self.head, &self.upload) {
            (_, true, _) => b"HEAD".to_vec(),
            (_, _, Some(_)) => b"PUT".to_vec(),
            (Some(_), ..) => b"POST".to_vec(),
            _ => b"GET".to_vec(),
        });
        let fields = self.fields(&url, body.as_deref(), media_type.as_deref());
        let version = self.version.unwrap_or(b"HTTP/1.1").to_vec();
        Ok(Request { method, target: url.target(), version, fields, body: body.unwrap_or_default() })
    }

    fn body(&mut self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        if let Some(file) = &self.upload {
            return (Some(file.clone()), None);
        }
        if !self.parts.is_empty() {
            let mut body = std::mem::take(&mut self.parts);
            body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
            return (Some(body), Some(format!("multipart/form-data; boundary={BOUNDARY}").into_bytes()));
        }
        (self.data.take(), Some(FORM.to_vec()))
    }

    /// The fields in curl's order: its own first, then the given ones, then those of the body.
    fn fields(&self, url: &Url, body: Option<&[u8]>, media_type: Option<&[u8]>) -> Vec<Field> {
        let mut given: Vec<(Vec<u8>, Option<Vec<u8>>)> =
            self.headers.iter().filter_map(|line| header(line)).collect();
        if self.json {
            for name in [&b"Content-Type"[..], b"Accept"] {
                if !given.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                    given.push((name.to_vec(), Some(b"application/json".to_vec())));
                }
            }
        }
        let mut fields: Vec<Field> = Vec::new();
        let host = given.iter().position(|(name, _)| name.eq_ignore_ascii_case(b"host"));
        let host = host.map_or_else(|| (b"Host".to_vec(), Some(url.host.clone())), |at| given.remove(at));
        fields.extend(host.1.map(|value| (host.0, value)));
        let user = self.user.as_ref().or(url.user.as_ref());
        let basic = user.map(|user| format!("Basic {}", STANDARD.encode(user)).into_bytes());
        let bearer = self.bearer.as_ref().map(|token| [b"Bearer ", token.as_slice()].concat());
        let cookies = (!self.cookies.is_empty()).then(|| self.cookies.join(&b';'));
        let length = body.map(|body| body.len().to_string().into_bytes());
        let defaults = [
            (&b"Authorization"[..], bearer.or(basic)),
            (b"Range", self.range.as_ref().map(|range| [b"bytes=", range.as_slice()].concat())),
            (b"User-Agent", Some(self.agent.clone().unwrap_or_else(|| AGENT.to_vec()))),
            (b"Accept", Some(b"*/*".to_vec())),
            (b"Accept-Encoding", self.compressed.then(|| b"deflate, gzip, br, zstd".to_vec())),
            (b"Referer", self.referer.clone()),
            (b"Cookie", cookies),
        ];
        let behind = [
            (&b"Content-Length"[..], length),
            (b"Content-Type", media_type.filter(|_| body.is_some()).map(<[u8]>::to_vec)),
        ];
        // What is given takes the place of curl's own, or takes it away.
        let own = |(name, value): (&[u8], Option<Vec<u8>>)| {
            let replaced = given.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
            value.filter(|value| !replaced && !value.is_empty()).map(|value| (name.to_vec(), value))
        };
        fields.extend(defaults.into_iter().filter_map(own));
        let behind: Vec<Field> = behind.into_iter().filter_map(own).collect();
        fields.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
        fields.extend(behind);
        fields
    }
}

/// `Name: value`; `Name;` is a field without a value, `Name:` takes curl's own away.
fn header(line: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    if let Some((name, value)) = split_once(line, b':') {
        let value = value.trim_ascii();
        return Some((name.to_vec(), (!value.is_empty()).then(|| value.to_vec())));
    }
    line.strip_suffix(b";").map(|name| (name.to_vec(), Some(Vec::new())))
}

fn split_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == at)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Appends a piece behind a separator.
fn append(to: &mut Vec<u8>, separator: u8, piece: &[u8]) {
    if !to.is_empty() && !piece.is_empty() {
        to.push(separator);
    }
    to.extend_from_slice(piece);
}

fn read(path: &[u8]) -> Result<Vec<u8>, String> {
    let path = shown(path);
    std::fs::read(&path).map_err(|error| format!("curl: {path}: {error}"))
}

/// What an option of the `--data` family stands for.
fn data(kind: Data, value: &[u8]) -> Result<Vec<u8>, String> {
    match (kind, value.strip_prefix(b"@")) {
        (Data::Plain, Some(path)) => {
            let mut text = read(path)?;
            text.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
            Ok(text)
        }
        (Data::Binary, Some(path)) => read(path),
        (Data::Encoded, _) => {
            let at = value.iter().position(|byte| matches!(byte, b'=' | b'@'));
            let (name, mark, content) =
                match at.and_then(|at| Some((value.get(..at)?, value.get(at)?, value.get(at + 1..)?))) {
                    Some((name, mark, content)) => (name, *mark, content),
                    None => (&[][..], b'=', value),
                };
            let content = if mark == b'@' { read(content)? } else { content.to_vec() };
            let name = if name.is_empty() { Vec::new() } else { [name, b"="].concat() };
            Ok([name, percent_encoded(&content)].concat())
        }
        _ => Ok(value.to_vec()),
    }
}

fn percent_encoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(*byte),
            b' ' => out.push(b'+'),
            other => out.extend_from_slice(format!("%{other:02X}").as_bytes()),
        }
    }
    out
}

/// The media type that curl takes a file of this name to have.
fn guess(path: &str) -> &'static str {
    let extension = Path::new(path).extension().map(|extension| extension.to_ascii_lowercase());
    match extension.as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("gif") => "image/gif",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("png") => "image/png",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain",
        Some("htm" | "html") => "text/html",
        Some("pdf") => "application/pdf",
        Some("xml") => "application/xml",
        _ => "application/octet-stream",
    }
}

/// The parts of a URL that a request needs.
struct Url {
    user: Option<Vec<u8>>,
    /// For the Host field.
    host: Vec<u8>,
    path: Vec<u8>,
    query: Vec<u8>,
}

impl Url {
    fn parse(url: &[u8], as_is: bool) -> Result<Self, String> {
        let bad = |why: &str| format!("curl: `{}`: {why}", shown(url));
        if let Some(byte) = url.iter().find(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
            return Err(bad(&format!("a URL holds no {byte:#04x}; encode it, as %{byte:02X}")));
        }
        let scheme = url.windows(3).position(|three| three == b"://");
        let (scheme, rest) = match scheme.and_then(|at| Some((url.get(..at)?, url.get(at + 3..)?))) {
            Some((scheme, rest)) => (shown(scheme).to_ascii_lowercase(), rest),
            None => ("http".to_owned(), url),
        };
        let default_port = match scheme.as_str() {
            "http" => &b":80"[..],
            "https" => b":443",
            _ => return Err(bad("only http and https")),
        };
        let rest = rest.split(|byte| *byte == b'#').next().unwrap_or_default();
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        let at = authority.iter().rposition(|byte| *byte == b'@');
        let (user, host) = match at.and_then(|at| Some((authority.get(..at)?, authority.get(at + 1..)?))) {
            Some((user, host)) => (Some(user.to_vec()), host),
            None => (None, authority),
        };
        if host.is_empty() {
            return Err(bad("there is no host"));
        }
        let host = host.strip_suffix(default_port).unwrap_or(host).to_vec();
        let (path, query) = split_once(rest, b'?').unwrap_or((rest, &[]));
        let path = if as_is { path.to_vec() } else { without_dots(path) };
        Ok(Self {
            user,
            host,
            path: if path.is_empty() { b"/".to_vec() } else { path },
            query: query.to_vec(),
        })
    }

    fn target(&self) -> Vec<u8> {
        let mut target = self.path.clone();
        if !self.query.is_empty() {
            append(&mut target, b'?', &self.query);
        }
        target
    }
}

/// A path without `.` and `..` (RFC 3986, 5.2.4), which curl leaves to `--path-as-is`.
fn without_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." && kept.len() > 1 {
                    kept.pop();
                }
                if last {
                    kept.push(b"");
                }
            }
            other => kept.push(other),
        }
    }
    kept.join(&b'/')
}
