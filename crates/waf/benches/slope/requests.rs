//! Whole requests whose parts are made to cost as much as possible, of any size.

/// A request.
pub(crate) struct Request {
    pub(crate) target: Vec<u8>,
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

/// A kind of request, by size.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) make: fn(usize) -> Request,
}

fn body(media_type: &str, body: Vec<u8>) -> Request {
    let fields = vec![(b"Content-Type".to_vec(), media_type.as_bytes().to_vec())];
    Request { target: b"/".to_vec(), fields, body }
}

/// Numbered pieces up to the size, so that no two values are the same.
fn many(size: usize, piece: impl Fn(usize) -> String) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 64);
    for number in 0.. {
        if out.len() >= size {
            break;
        }
        out.extend_from_slice(piece(number).as_bytes());
    }
    out
}

fn repeated(unit: &[u8], size: usize) -> Vec<u8> {
    unit.iter().copied().cycle().take(size).collect()
}

fn form(value: Vec<u8>) -> Request {
    body("application/x-www-form-urlencoded", [b"a=".as_slice(), &value].concat())
}

fn json(text: Vec<u8>) -> Request {
    body("application/json", text)
}

fn multipart(part: impl Fn(usize) -> String, size: usize) -> Request {
    let mut text = many(size, part);
    text.extend_from_slice(b"--b--\r\n");
    body("multipart/form-data; boundary=b", text)
}

fn xml(middle: Vec<u8>) -> Request {
    body("text/xml", [b"<r>".as_slice(), &middle, b"</r>"].concat())
}

const PROSE: &[u8] =
    b"The quick brown fox (it's 7) jumps over; \"lazy\" dogs & cats -- select one from all: 50% off! http://a.example/x?y=z ";
const ATTACK: &[u8] = b"' or 1=1 union select password from users-- <script>alert(1)</script> ../../etc/passwd; cat /bin/ls | curl ";

/// All kinds. Names say what they are made of.
pub(crate) fn shapes() -> Vec<Shape> {
    let shape = |name, make| Shape { name, make };
    vec![
        shape("form, one value of letters", |size| form(repeated(b"a", size))),
        shape("form, one value of prose", |size| form(repeated(PROSE, size))),
        shape("form, one value of attacks", |size| form(repeated(ATTACK, size))),
        shape("form, one value of escapes", |size| {
            form(repeated(b"%2525u0041&amp;\\u0041+".as_slice(), size).replace_ampersands())
        }),
        shape("form, one value of `and.`", |size| form(repeated(b"and.", size))),
        shape("form, arguments", |size| form(many(size, |number| format!("&n{number}=v{number}")))),
        shape("form, arguments that are attacks", |size| {
            form(many(size, |number| format!("&n{number}='+or+{number}=1+union+select+x--<svg/onload=a>")))
        }),
        shape("form, one name of brackets", |size| {
            body("application/x-www-form-urlencoded", repeated(b"a[", size))
        }),
        shape("query, one value", |size| Request {
            target: [b"/?q=".as_slice(), &repeated(PROSE, size)].concat(),
            fields: Vec::new(),
            body: Vec::new(),
        }),
        shape("path of dots", |size| Request {
            target: repeated(b"/../", size),
            fields: Vec::new(),
            body: Vec::new(),
        }),
        shape("cookies", |size| Request {
            target: b"/".to_vec(),
            fields: vec![(b"Cookie".to_vec(), many(size, |number| format!("c{number}=v{number};")))],
            body: Vec::new(),
        }),
        // As many as the gateway takes unless told otherwise.
        shape("a hundred header fields", |size| Request {
            target: b"/".to_vec(),
            fields: (0..100)
                .map(|number| {
                    let value = many(size / 100 - 12, |piece| format!("{number}-{piece},"));
                    (format!("X-{number:06}").into_bytes(), value)
                })
                .collect(),
            body: Vec::new(),
        }),
        shape("one field of prose", |size| Request {
            target: b"/".to_vec(),
            fields: vec![(b"Referer".to_vec(), repeated(PROSE, size))],
            body: Vec::new(),
        }),
        shape("no media type", |size| Request {
            target: b"/".to_vec(),
            fields: Vec::new(),
            body: repeated(ATTACK, size),
        }),
        shape("JSON, array of numbers", |size| {
            json([b"[", many(size, |number| format!("{number},")).as_slice(), b"0]"].concat())
        }),
        shape("JSON, nested", |size| json([repeated(b"[", size / 2), repeated(b"]", size / 2)].concat())),
        shape("JSON, long key over an array", |size| {
            let key = repeated(b"k", size / 2);
            let list = repeated(b"1,", size / 2);
            json([b"{\"", key.as_slice(), b"\":[", list.as_slice(), b"1]}"].concat())
        }),
        shape("JSON, objects of strings", |size| {
            json(
                [
                    b"[",
                    many(size, |number| format!("{{\"k{number}\":\"it's {number}\"}},")).as_slice(),
                    b"0]",
                ]
                .concat(),
            )
        }),
        shape("JSON, one string of attacks", |size| {
            json([b"[\"", repeated(ATTACK, size).as_slice(), b"\"]"].concat())
        }),
        shape("multipart, fields", |size| {
            multipart(
                |number| {
                    format!("--b\r\nContent-Disposition: form-data; name=\"n{number}\"\r\n\r\nv{number}\r\n")
                },
                size,
            )
        }),
        shape("multipart, files", |size| {
            multipart(
                |number| {
                    format!(
                        "--b\r\nContent-Disposition: form-data; name=\"n{number}\"; filename=\"f{number}.txt\"\r\n\r\nv\r\n"
                    )
                },
                size,
            )
        }),
        shape("multipart, one field of short lines", |size| {
            let mut text = b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n".to_vec();
            text.extend(repeated(b"-\r\n", size));
            text.extend_from_slice(b"\r\n--b--\r\n");
            body("multipart/form-data; boundary=b", text)
        }),
        shape("XML, attributes", |size| xml(many(size, |number| format!("<e a=\"v{number}\"/>")))),
        shape("XML, equal attributes", |size| xml(repeated(b"<e a=\"\"/>", size / 9 * 9))),
        shape("XML, text of prose", |size| xml(repeated(b"the quick (brown) fox; it's 50% off ", size))),
        shape("XML, nested", |size| {
            let depth = 200;
            let text = repeated(b"a", size);
            xml([repeated(b"<e>", depth * 3), text, repeated(b"</e>", depth * 4)].concat())
        }),
    ]
}

trait ReplaceAmpersands {
    fn replace_ampersands(self) -> Self;
}

impl ReplaceAmpersands for Vec<u8> {
    /// A `&` would end the value.
    fn replace_ampersands(self) -> Self {
        String::from_utf8_lossy(&self).replace('&', "%26").into_bytes()
    }
}
