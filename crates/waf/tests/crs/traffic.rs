//! Ordinary requests, from `testdata/`: what clients say in their heads, what people write, where they live, what
//! programs post. Combined in turn, so that the same requests come out each time.

use std::fmt::Write as _;

const HEADS: &str = include_str!("testdata/heads.txt");
const TARGETS: &str = include_str!("testdata/targets.txt");
const BODIES: &str = include_str!("testdata/bodies.txt");
const COOKIES: &str = include_str!("testdata/cookies.txt");
const NOTES: &str = include_str!("testdata/notes.txt");
const QUERIES: &str = include_str!("testdata/queries.txt");
const PEOPLE: &str = include_str!("testdata/people.tsv");
const PROSE: &str = include_str!("testdata/prose.tsv");
const HOSTS: [&str; 4] = ["www.example.com", "shop.example.org", "app.example.net:8443", "blog.example.de"];

/// A request, and what it was made of.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) name: String,
    /// Where it goes, before the target's places were filled, without the query.
    pub(crate) path: String,
    /// What was filled in: what somebody wrote or searched for, else the target.
    pub(crate) text: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// The head of a client, with places to fill.
struct Head {
    client: &'static str,
    kind: &'static str,
    fields: Vec<&'static str>,
}

/// A body with places to fill.
struct Template {
    kind: &'static str,
    method: &'static str,
    target: &'static str,
    media: &'static str,
    text: String,
}

/// What the places are filled with.
struct Filling<'a> {
    id: usize,
    person: [&'a str; 7],
    text: &'a str,
}

/// The lines that say something, less the comments.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("# "))
}

/// Blocks of `[words]` and the lines below each.
fn blocks(text: &'static str) -> Vec<(Vec<&'static str>, Vec<&'static str>)> {
    let mut blocks: Vec<(Vec<_>, Vec<_>)> = Vec::new();
    for line in lines(text) {
        match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((kind, rest)) => {
                blocks.push((kind.split(' ').chain(rest.trim().splitn(3, ' ')).collect(), Vec::new()));
            }
            None => blocks.last_mut().unwrap().1.push(line),
        }
    }
    blocks
}

fn heads() -> Vec<Head> {
    let heads = blocks(HEADS).into_iter();
    heads.map(|(words, fields)| Head { client: words[0], kind: words[1], fields }).collect()
}

fn templates() -> Vec<Template> {
    let templates = blocks(BODIES).into_iter();
    let template = |(words, lines): (Vec<&'static str>, Vec<&str>)| Template {
        kind: words[0],
        method: words[1],
        target: words[2],
        media: words[3],
        text: lines.join("\n"),
    };
    templates.map(template).collect()
}

/// Everything in turn.
struct Generator {
    heads: Vec<Head>,
    templates: Vec<Template>,
    people: Vec<[&'static str; 7]>,
    requests: Vec<Request>,
}

/// All of it.
pub(crate) fn ordinary() -> Vec<Request> {
    let people = lines(PEOPLE).map(|line| {
        let fields: Vec<_> = line.split('\t').collect();
        fields[1..8].try_into().unwrap()
    });
    let mut all =
        Generator { heads: heads(), templates: templates(), people: people.collect(), requests: Vec::new() };
    for (at, line) in lines(TARGETS).enumerate() {
        let words: Vec<_> = line.split(' ').collect();
        for turn in 0..3 {
            all.plain(at + 5 * turn, words[1], words[0], words[2], words[2]);
        }
    }
    for (at, query) in lines(QUERIES).enumerate() {
        all.plain(at, "navigate", "GET", &format!("/search?q={}&lang=en", form(query)), query);
        let target = format!("/api/suggest?term={}", form(query).replace('+', "%20"));
        all.plain(at, "fetch", "GET", &target, query);
    }
    let sentences = lines(PEOPLE).map(|line| line.split('\t').nth(8).unwrap());
    for (at, sentence) in sentences.enumerate() {
        all.with_body(at, at, sentence);
        if at % 4 == 0 {
            let name = all.people[at][0];
            all.plain(at, "navigate", "GET", &format!("/people?name={}&page=1", form(name)), name);
        }
    }
    let with_text: Vec<_> =
        (0..all.templates.len()).filter(|at| all.templates[*at].text.contains("{text}")).collect();
    for (at, line) in lines(PROSE).enumerate() {
        all.with_body(at, with_text[at % with_text.len()], line.split_once('\t').unwrap().1);
    }
    for (at, note) in lines(NOTES).enumerate() {
        for turn in 0..3 {
            let template = with_text[(at + turn * 7) % with_text.len()];
            all.with_body(at + turn, template, &note.replace("\\n", "\n"));
        }
    }
    all.requests
}

/// A text as somebody searches for it.
pub(crate) fn search(name: &str, text: &str) -> Request {
    let mut one =
        Generator { heads: heads(), templates: Vec::new(), people: Vec::new(), requests: Vec::new() };
    one.plain(0, "navigate", "GET", &format!("/search?q={}", form(text)), text);
    Request { name: name.to_owned(), ..one.requests.remove(0) }
}

impl Generator {
    fn head(&self, kind: &str, turn: usize) -> usize {
        let fitting: Vec<_> = (0..self.heads.len()).filter(|at| self.heads[*at].kind == kind).collect();
        fitting[turn % fitting.len()]
    }

    fn plain(&mut self, turn: usize, kind: &str, method: &str, target: &str, text: &str) {
        let head = self.head(kind, turn);
        let path = target.split('?').next().unwrap().to_owned();
        let (method, target, text) = (method.to_owned(), target.to_owned(), text.to_owned());
        let (name, fields, body) = (String::new(), Vec::new(), Vec::new());
        self.push(turn, head, None, Request { name, path, text, method, target, fields, body });
    }

    fn with_body(&mut self, turn: usize, template: usize, text: &str) {
        let template = template % self.templates.len();
        let head = self.head(self.templates[template].kind, turn);
        let Template { method, target, media, text: pattern, .. } = &self.templates[template];
        let (method, target, client) = (*method, *target, self.heads[head].client);
        let filling = Filling { id: 1000 + turn, person: self.people[turn % self.people.len()], text };
        let (media, body) = if *media == "multipart/form-data" {
            let boundary = boundary(client, turn);
            (format!("{media}; boundary={boundary}"), multipart(pattern, &filling, &boundary))
        } else {
            let escape: fn(&str) -> String = match *media {
                media if media.contains("json") && ["python-requests", "guzzle"].contains(&client) => {
                    ascii_json
                }
                media if media.contains("json") => json,
                media if media.contains("xml") => xml,
                _ => form,
            };
            ((*media).to_owned(), filling.fill(pattern, escape).into_bytes())
        };
        let (path, name, fields) = (target.to_owned(), String::new(), Vec::new());
        let (method, target) = (method.to_owned(), filling.fill(target, form));
        let text = if pattern.contains("{text}") { text.to_owned() } else { path.clone() };
        self.push(turn, head, Some(media), Request { name, path, text, method, target, fields, body });
    }

    /// Gives a request the head of a client, and keeps it.
    fn push(&mut self, turn: usize, head: usize, media: Option<String>, mut request: Request) {
        let Head { client, kind, fields: template } = &self.heads[head];
        let host = HOSTS[turn % HOSTS.len()];
        let fields = &mut request.fields;
        for line in template {
            if *line == "{body}" {
                if let Some(media) = &media {
                    fields.push(("Content-Type".to_owned(), media.clone()));
                    fields.push(("Content-Length".to_owned(), request.body.len().to_string()));
                }
                continue;
            }
            let (name, value) = line.split_once(": ").unwrap();
            // Browsers say where a request comes from when it changes something.
            if name == "Origin" && request.method == "GET" {
                continue;
            }
            let value = value.replace("{host}", host).replace("{origin}", &format!("https://{host}"));
            fields.push((
                name.to_owned(),
                value.replace("{page}", &format!("https://{host}/shop/p/{turn}?ref=nav")),
            ));
        }
        if *kind != "api" && !turn.is_multiple_of(3) {
            let cookies: Vec<_> = lines(COOKIES).collect();
            fields.push(("Cookie".to_owned(), cookies[turn % cookies.len()].to_owned()));
        }
        request.name = format!("#{} {client} {} {}", self.requests.len(), request.method, request.target);
        self.requests.push(request);
    }
}

impl Filling<'_> {
    fn fill(&self, pattern: &str, escape: fn(&str) -> String) -> String {
        let [name, street, city, email, phone, company, job] = self.person;
        let id = self.id.to_string();
        let places = [
            ("{id}", id.as_str()),
            ("{name}", name),
            ("{street}", street),
            ("{city}", city),
            ("{email}", email),
            ("{phone}", phone),
            ("{company}", company),
            ("{job}", job),
            ("{text}", self.text),
        ];
        let fill = |text: String, (place, value): &(&str, &str)| text.replace(place, &escape(value));
        places.iter().fold(pattern.to_owned(), fill)
    }
}

/// `application/x-www-form-urlencoded` as the URL standard has it; line breaks are CRLF.
fn form(text: &str) -> String {
    let mut out = String::new();
    for byte in text.replace('\n', "\r\n").bytes() {
        match byte {
            b' ' => out.push('+'),
            b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => write!(out, "%{byte:02X}").unwrap(),
        }
    }
    out
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap().trim_start_matches('"').strip_suffix('"').unwrap().to_owned()
}

/// JSON as programs write it that trust nothing beyond ASCII.
fn ascii_json(text: &str) -> String {
    let mut out = String::new();
    for unit in json(text).encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => out.push(char::from(byte)),
            _ => write!(out, "\\u{unit:04x}").unwrap(),
        }
    }
    out
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn boundary(client: &str, turn: usize) -> String {
    match client {
        _ if client.starts_with("firefox") => {
            format!("----geckoformboundary{:032x}", 0x9E37_79B9_u64 * (turn as u64 + 7))
        }
        "curl" => format!("------------------------{:016x}", 0x9E37_79B9_u64 * (turn as u64 + 7)),
        _ if client.starts_with("python") => format!("{:032x}", 0x9E37_79B9_u64 * (turn as u64 + 7)),
        _ => format!("----WebKitFormBoundary{:016X}", 0x9E37_79B9_u64 * (turn as u64 + 7)),
    }
}

/// Fields `name=value`, of which those that name a file become one.
fn multipart(pattern: &str, filling: &Filling<'_>, boundary: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in pattern.lines() {
        let (name, value) = line.split_once('=').unwrap();
        let value = filling.fill(value, str::to_owned);
        let file = value.rsplit_once('.').and_then(|(_, ending)| content(ending, filling));
        out.extend(format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"").into_bytes());
        match file {
            Some((media, bytes)) => {
                out.extend(format!("; filename=\"{value}\"\r\nContent-Type: {media}\r\n\r\n").into_bytes());
                out.extend(bytes);
            }
            None => out.extend(format!("\r\n\r\n{}", value.replace('\n', "\r\n")).into_bytes()),
        }
        out.extend(b"\r\n");
    }
    out.extend(format!("--{boundary}--\r\n").into_bytes());
    out
}

/// What a file with this ending holds.
fn content(ending: &str, filling: &Filling<'_>) -> Option<(&'static str, Vec<u8>)> {
    // Bytes as good as random ones, the same each time.
    let noise = |len: usize| {
        let mut state = filling.id as u32 | 1;
        (0..len).map(move |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
    };
    let [name, street, city, email, phone, ..] = filling.person;
    match ending {
        "jpg" => Some((
            "image/jpeg",
            b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0H\0H\0\0".iter().copied().chain(noise(3000)).collect(),
        )),
        "png" => Some((
            "image/png",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x40\x08\x06\0\0\0"
                .iter()
                .copied()
                .chain(noise(1200))
                .collect(),
        )),
        "pdf" => {
            let head = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n4 0 obj\n<</Length 900/Filter/FlateDecode>>\nstream\n";
            Some((
                "application/pdf",
                head.iter().copied().chain(noise(900)).chain(*b"\nendstream\nendobj\n%%EOF\n").collect(),
            ))
        }
        "csv" => Some((
            "text/csv",
            format!("Name;Street;City;E-Mail;Phone\r\n{name};\"{street}\";{city};{email};{phone}\r\n")
                .into_bytes(),
        )),
        "txt" => Some(("text/plain", format!("{}\n\n{name}\n{street}\n{city}\n", filling.text).into_bytes())),
        _ => None,
    }
}
