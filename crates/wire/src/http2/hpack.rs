//! What a request's fields say that hyper does not tell (HPACK, RFC 7541).
//!
//! hyper cuts a fragment off `:path`, forgets `:scheme` where there is no `:authority`, and drops pseudo fields in
//! trailers. All three must be known: a fragment and such trailers make a message malformed (RFC 9113 §8.1, §8.3.1). So
//! the blocks are read here once more. Nothing is kept of the fields but what is asked for and how long they are, which
//! the dynamic table's size hangs on.

use super::huffman;
use portcullis_http::Scheme;
use std::collections::VecDeque;

/// The dynamic table's size: the protocol's own, which we never offer to change.
const TABLE: usize = 4096;
/// What an entry costs beside its text (RFC 7541 §4.1).
const OVERHEAD: usize = 32;

/// The block cannot be read, and so no later one of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// What a block says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// There is a pseudo field.
    pub(crate) pseudo: bool,
    /// `:path` holds a fragment.
    pub(crate) fragment: bool,
    /// `:method` is CONNECT.
    pub(crate) connect: bool,
    /// There is a `content-length`.
    pub(crate) length: bool,
    /// `:scheme`, if it is one of ours.
    pub(crate) scheme: Option<Scheme>,
    /// `:status`, if it is a number.
    pub(crate) status: Option<u16>,
    /// There is a pseudo field of requests.
    pub(crate) asks: bool,
}

/// The names that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Method,
    Scheme,
    Path,
    Status,
    OtherPseudo,
    ContentLength,
    Plain,
}

impl Name {
    fn read(name: &[u8]) -> Self {
        match name {
            b":method" => Name::Method,
            b":scheme" => Name::Scheme,
            b":path" => Name::Path,
            b":status" => Name::Status,
            b"content-length" => Name::ContentLength,
            [b':', ..] => Name::OtherPseudo,
            _ => Name::Plain,
        }
    }
}

/// What a value says that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Fragment,
    Connect,
    Scheme(Scheme),
    Status(u16),
}

impl Says {
    fn read(name: Name, value: &[u8]) -> Self {
        match (name, value) {
            (Name::Method, b"CONNECT") => Says::Connect,
            (Name::Path, value) if value.contains(&b'#') => Says::Fragment,
            (Name::Scheme, value) if value.eq_ignore_ascii_case(b"http") => Says::Scheme(Scheme::Http),
            (Name::Scheme, value) if value.eq_ignore_ascii_case(b"https") => Says::Scheme(Scheme::Https),
            (Name::Status, [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9']) => Says::Status(
                [a, b, c].into_iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')),
            ),
            _ => Says::Nothing,
        }
    }
}

/// A field, as far as it matters.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: Name,
    says: Says,
    name_length: usize,
    value_length: usize,
}

impl Field {
    fn size(&self) -> usize {
        self.name_length + self.value_length + OVERHEAD
    }
}

/// Reads the blocks of one connection, in order.
#[derive(Debug)]
pub(crate) struct Decoder {
    entries: VecDeque<Field>,
    size: usize,
    most: usize,
    text: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Decoder { entries: VecDeque::new(), size: 0, most: TABLE, text: Vec::new() }
    }

    /// Reads a whole block.
    pub(crate) fn read(&mut self, mut block: &[u8]) -> Result<Block, Broken> {
        let mut found = Block::default();
        let mut resizable = true;
        while let Some(byte) = block.first() {
            let field = match byte {
                0x80.. => self.indexed(integer(&mut block, 7)?)?,
                0x40.. => {
                    let field = self.literal(&mut block, 6, true)?;
                    self.insert(field);
                    field
                }
                0x20.. => {
                    // Only in front of a block (RFC 7541 §4.2).
                    let size = integer(&mut block, 5)?;
                    if !resizable || size > TABLE {
                        return Err(Broken);
                    }
                    self.most = size;
                    self.evict(0);
                    continue;
                }
                _ => self.literal(&mut block, 4, false)?,
            };
            resizable = false;
            let is_pseudo = !matches!(field.name, Name::Plain | Name::ContentLength);
            found.pseudo |= is_pseudo;
            found.asks |= is_pseudo && field.name != Name::Status;
            found.length |= field.name == Name::ContentLength;
            match field.says {
                Says::Nothing => {}
                Says::Fragment => found.fragment = true,
                Says::Connect => found.connect = true,
                Says::Scheme(scheme) => found.scheme = Some(scheme),
                Says::Status(status) => found.status = Some(status),
            }
        }
        Ok(found)
    }

    fn indexed(&self, index: usize) -> Result<Field, Broken> {
        let place = index.checked_sub(1).ok_or(Broken)?;
        if let Some((name, value)) = STATIC.get(place) {
            let kind = Name::read(name.as_bytes());
            let says = Says::read(kind, value.as_bytes());
            return Ok(Field { name: kind, says, name_length: name.len(), value_length: value.len() });
        }
        self.entries.get(place - STATIC.len()).copied().ok_or(Broken)
    }

    /// Reads a literal. Of a value that says nothing no more is read than is needed: its length, where it goes into the
    /// table, and nothing else. hyper decodes it in any case, and ends the connection where that cannot be done.
    fn literal(&mut self, block: &mut &[u8], prefix: u32, kept: bool) -> Result<Field, Broken> {
        let index = integer(block, prefix)?;
        let (name, name_length) = if index == 0 {
            let name = string(block)?;
            let text = self.decoded(name)?;
            (Name::read(text), text.len())
        } else {
            let named = self.indexed(index)?;
            (named.name, named.name_length)
        };
        let value = string(block)?;
        let (says, value_length) = match name {
            Name::Method | Name::Scheme | Name::Path | Name::Status => {
                let text = self.decoded(value)?;
                (Says::read(name, text), text.len())
            }
            Name::OtherPseudo | Name::ContentLength | Name::Plain if kept => (Says::Nothing, value.length()?),
            Name::OtherPseudo | Name::ContentLength | Name::Plain => (Says::Nothing, 0),
        };
        Ok(Field { name, says, name_length, value_length })
    }

    fn decoded(&mut self, string: Text<'_>) -> Result<&[u8], Broken> {
        self.text.clear();
        if string.coded {
            huffman::decode(string.bytes, |byte| self.text.push(byte)).ok_or(Broken)?;
        } else {
            self.text.extend_from_slice(string.bytes);
        }
        Ok(&self.text)
    }

    fn insert(&mut self, field: Field) {
        self.evict(field.size());
        // One that is too large for the table empties it, and that is all (RFC 7541 §4.4).
        if field.size() <= self.most {
            self.size += field.size();
            self.entries.push_front(field);
        }
    }

    /// Makes room.
    fn evict(&mut self, room: usize) {
        while self.size + room > self.most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}

/// A string as it stands in a block (RFC 7541 §5.2).
#[derive(Clone, Copy, Debug)]
struct Text<'a> {
    /// By Huffman's code.
    coded: bool,
    bytes: &'a [u8],
}

impl Text<'_> {
    /// How long it is, decoded.
    fn length(self) -> Result<usize, Broken> {
        if !self.coded {
            return Ok(self.bytes.len());
        }
        let mut length = 0;
        huffman::decode(self.bytes, |_| length += 1).ok_or(Broken)?;
        Ok(length)
    }
}

/// Takes a string off a block.
fn string<'a>(block: &mut &'a [u8]) -> Result<Text<'a>, Broken> {
    let coded = block.first().ok_or(Broken)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (bytes, rest) = block.split_at_checked(length).ok_or(Broken)?;
    *block = rest;
    Ok(Text { coded, bytes })
}

/// A number with a prefix of so many bits (RFC 7541 §5.1), in no more bytes than a length that can occur needs.
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Broken> {
    const MOST: usize = 4;
    let (first, rest) = block.split_first().ok_or(Broken)?;
    *block = rest;
    let full = (1usize << prefix) - 1;
    let mut value = usize::from(*first) & full;
    if value < full {
        return Ok(value);
    }
    for place in 0..MOST {
        let (byte, rest) = block.split_first().ok_or(Broken)?;
        *block = rest;
        value += usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Broken)
}

/// RFC 7541 appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    /// RFC 7541 appendix C.3 and C.4: requests that build on each other's entries; the size of the table after each.
    #[test]
    fn the_rfc_s_own_requests() {
        let plain = [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ];
        let coded = [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ];
        for requests in [plain, coded] {
            let mut decoder = Decoder::new();
            for (request, (scheme, size)) in
                requests.iter().zip([(Scheme::Http, 57), (Scheme::Http, 110), (Scheme::Https, 164)])
            {
                let block = decoder.read(&hex(request)).unwrap();
                let expected = Block { pseudo: true, asks: true, scheme: Some(scheme), ..Block::default() };
                assert_eq!((block, decoder.size), (expected, size));
            }
        }
    }

    #[test]
    fn entries_give_way_and_what_they_said_stays_with_them() {
        let mut decoder = Decoder::new();
        // `:path: /#a` with an entry, then by its index, then no more.
        let fragment = [&[0x44, 4][..], b"/#ab"].concat();
        assert!(decoder.read(&fragment).unwrap().fragment);
        assert!(decoder.read(&[0xbe]).unwrap().fragment);
        // The name of that entry with another value.
        assert!(!decoder.read(&[0x0f, 47, 1, b'/']).unwrap().fragment);
        assert_eq!(decoder.read(&[0x20, 0xbe]), Err(Broken));
        assert_eq!(decoder.size, 0);
    }

    #[test]
    fn trailers_and_tunnels() {
        let mut decoder = Decoder::new();
        let trailer = [&[0, 1][..], b"x", &[1], b"y"].concat();
        assert_eq!(decoder.read(&trailer), Ok(Block::default()));
        assert!(decoder.read(&[0x84]).unwrap().pseudo);
        let answer = Block { pseudo: true, status: Some(103), ..Block::default() };
        assert_eq!(decoder.read(&[0x08, 3, b'1', b'0', b'3']), Ok(answer));
        let tunnel = [&[0x02, 7][..], b"CONNECT", &[0x0f, 13, 1], b"5"].concat();
        let block = decoder.read(&tunnel).unwrap();
        assert!(block.connect && block.length);
    }

    #[test]
    fn what_is_no_block() {
        for (what, block) in [
            ("index 0", "80"),
            ("an index beyond the table", "be"),
            ("a name beyond the table", "7e 01 61"),
            ("a size over ours", "3f e2 1f"),
            ("a size behind a field", "82 20"),
            ("a number that ends too early", "ff"),
            ("a number of too many bytes", "ff 80 80 80 80 01"),
            ("a number that overflows", "ff ff ff ff ff ff ff ff ff 7f"),
            ("a name that ends too early", "00 05 61"),
            ("no value", "00 01 61"),
            ("bad padding", "00 81 00 01 61"),
        ] {
            assert_eq!(Decoder::new().read(&hex(block)), Err(Broken), "{what}");
        }
        assert!(Decoder::new().read(&hex("3f e1 1f 82")).is_ok(), "a size of exactly ours");
    }
}
