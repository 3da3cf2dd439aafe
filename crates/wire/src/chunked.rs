//! The chunked coding (RFC 9112 §7.1), read strictly and without IO.

use portcullis_http::{BodyError, is_token};

/// Bytes of chunk extensions that one chunk may carry. They are read over and never forwarded.
const MAX_EXTENSION: u32 = 256;
/// Bytes of extensions over a whole body.
const MAX_EXTENSIONS: u32 = 16 * 1024;
/// Bytes of the trailer section.
const MAX_TRAILERS: usize = 8 * 1024;
/// Digits of a chunk's size, leading zeros among them.
const MAX_DIGITS: u8 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    /// Behind `;`: the name of an extension begins.
    ExtensionStart,
    ExtensionName,
    /// Behind `=`.
    ValueStart,
    Value,
    Quoted,
    /// Behind a backslash within quotes.
    QuotedPair,
    /// Behind the closing quote.
    QuotedEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    LineStart,
    Line,
    LineLf,
    EndLf,
    Done,
}

/// A reader of one chunked body, in whatever pieces it comes.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    left: u64,
    digits: u8,
    extension: u32,
    extensions: u32,
    trailers: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { state: State::Size, left: 0, digits: 0, extension: 0, extensions: 0, trailers: Vec::new() }
    }
}

/// What a step of the [`Decoder`] found at the start of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes of coding to discard.
    pub skip: usize,
    /// Bytes of payload that follow them; 0 where the input ended before any, or the body did.
    pub data: usize,
}

impl Decoder {
    /// Whether the last chunk and the trailer section have been read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The lines of the trailer section as they came, each with its CRLF.
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Reads on until payload, the end of the body or the end of the input.
    ///
    /// # Errors
    /// [`BodyError::Malformed`] at the first byte that breaks the coding, [`BodyError::TooLarge`] over a cap.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        for (at, &byte) in input.iter().enumerate() {
            match self.state {
                State::Data => {
                    let data = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                    self.left -= data as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Step { skip: at, data });
                }
                State::Done => return Ok(Step { skip: at, data: 0 }),
                _ => self.read(byte)?,
            }
        }
        Ok(Step { skip: input.len(), data: 0 })
    }

    fn read(&mut self, byte: u8) -> Result<(), BodyError> {
        self.state = match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => self.extension_byte(State::ExtensionStart)?,
            (State::Size, _) => {
                self.digit(byte)?;
                State::Size
            }
            (State::ExtensionName | State::Value | State::QuotedEnd, b'\r') => State::SizeLf,
            (
                State::ExtensionStart
                | State::ExtensionName
                | State::ValueStart
                | State::Value
                | State::Quoted
                | State::QuotedPair
                | State::QuotedEnd,
                _,
            ) => {
                let next = after_extension_byte(self.state, byte).ok_or(BodyError::Malformed)?;
                self.extension_byte(next)?
            }
            (State::SizeLf, b'\n') => {
                (self.digits, self.extension) = (0, 0);
                if self.left == 0 { State::LineStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::LineStart, b'\r') => State::EndLf,
            (State::Line, b'\r') => self.trailer_byte(byte, State::LineLf)?,
            (State::LineStart | State::Line, b'\t' | 0x20..=0x7e | 0x80..) => {
                self.trailer_byte(byte, State::Line)?
            }
            (State::LineLf, b'\n') => self.trailer_byte(byte, State::LineStart)?,
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(BodyError::Malformed),
        };
        Ok(())
    }

    fn digit(&mut self, byte: u8) -> Result<(), BodyError> {
        let digit = char::from(byte).to_digit(16).ok_or(BodyError::Malformed)?;
        self.digits += 1;
        if self.digits > MAX_DIGITS || self.left >> 59 != 0 {
            return Err(BodyError::Malformed);
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok(())
    }

    fn extension_byte(&mut self, next: State) -> Result<State, BodyError> {
        (self.extension, self.extensions) = (self.extension + 1, self.extensions + 1);
        let within = self.extension <= MAX_EXTENSION && self.extensions <= MAX_EXTENSIONS;
        if within { Ok(next) } else { Err(BodyError::Malformed) }
    }

    fn trailer_byte(&mut self, byte: u8, next: State) -> Result<State, BodyError> {
        if self.trailers.len() == MAX_TRAILERS {
            return Err(BodyError::TooLarge);
        }
        self.trailers.push(byte);
        Ok(next)
    }
}

/// `*( ";" name [ "=" ( token / quoted-string ) ] )` of RFC 9112 §7.1.1. White space, which it takes but no sender writes,
/// is refused: readers differ on it.
fn after_extension_byte(state: State, byte: u8) -> Option<State> {
    let token = is_token(&[byte]);
    Some(match (state, byte) {
        (State::ExtensionName | State::Value | State::QuotedEnd, b';') => State::ExtensionStart,
        (State::ExtensionStart | State::ExtensionName, _) if token => State::ExtensionName,
        (State::ExtensionName, b'=') => State::ValueStart,
        (State::ValueStart, b'"') => State::Quoted,
        (State::ValueStart | State::Value, _) if token => State::Value,
        (State::Quoted, b'"') => State::QuotedEnd,
        (State::Quoted, b'\\') => State::QuotedPair,
        (State::Quoted | State::QuotedPair, b'\t' | 0x20..=0x7e | 0x80..) => State::Quoted,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(mut input: &[u8]) -> Result<(Vec<u8>, bool), BodyError> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        while !input.is_empty() && !decoder.is_done() {
            let Step { skip, data } = decoder.step(input)?;
            out.extend_from_slice(&input[skip..skip + data]);
            input = &input[skip + data..];
        }
        Ok((out, decoder.is_done()))
    }

    #[test]
    fn reads_what_is_sound() {
        for (input, body) in [
            (&b"0\r\n\r\n"[..], &b""[..]),
            (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"005\r\nhello\r\n0\r\n\r\n", b"hello"),
            (b"5;a=b\r\nhello\r\nA\r\n0123456789\r\n0;x\r\nT: v\r\n\r\n", b"hello0123456789"),
            (b"5;a=\"b \\\"c\\\\;\";d;e=f\r\nhello\r\n0\r\n\r\n", b"hello"),
        ] {
            assert_eq!(decode(input), Ok((body.to_vec(), true)));
        }
        assert_eq!(decode(b"5\r\nhel"), Ok((b"hel".to_vec(), false)));
    }

    #[test]
    fn a17_a21_to_a25_refuses() {
        for input in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"5\r\nhello\n0\r\n\r\n",
            b"0\n\r\n",
            b"0\r\n\n",
            b"5;a\nhello",
            b"0x5\r\n",
            b"+5\r\n",
            b"-5\r\n",
            b"0_5\r\n",
            b" 5\r\n",
            b"\r\n",
            b";a\r\n",
            b"5 \r\nhello",
            b"10000000000000000\r\n",
            b"00000000000000005\r\n",
            b"ffffffffffffffff\r\n",
            b"5\r\nhelloX",
            b"5\r\nhello\rX",
            b"5;a\0\r\n",
            b"5;a\rb\r\n",
            b"5;\r\n",
            b"5;;a\r\n",
            b"5; a\r\n",
            b"5;a \r\n",
            b"5;a=\r\n",
            b"5;=b\r\n",
            b"5;a[=b\r\n",
            b"5;a=\"b\r\n",
            b"5;a=\"b\"c\r\n",
            b"5;a=b=c\r\n",
            b"5;\xe9\r\n",
            b"0\r\nGET\0 / \r\n",
            b"0\r\nT: v\n\r\n",
        ] {
            assert_eq!(decode(input), Err(BodyError::Malformed), "{:?}", String::from_utf8_lossy(input));
        }
        let long = format!("5;{}\r\n", "a".repeat(300));
        assert_eq!(decode(long.as_bytes()), Err(BodyError::Malformed));
        let many = "1;aaaaaaaaaaaaaaaa\r\nx\r\n".repeat(1500);
        assert_eq!(decode(many.as_bytes()), Err(BodyError::Malformed));
        let trailers = format!("0\r\n{}", "T: v\r\n".repeat(2000));
        assert_eq!(decode(trailers.as_bytes()), Err(BodyError::TooLarge));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_body(input in proptest::collection::vec(proptest::sample::select(&b"0123\r\n;ab"[..]), 0..60), at in 0usize..60) {
            let whole = decode(&input).ok();
            let mut decoder = Decoder::default();
            let mut out = Vec::new();
            let at = at.min(input.len());
            let mut failed = false;
            for mut piece in [&input[..at], &input[at..]] {
                while !piece.is_empty() && !decoder.is_done() && !failed {
                    match decoder.step(piece) {
                        Ok(Step { skip, data }) => {
                            out.extend_from_slice(&piece[skip..skip + data]);
                            piece = &piece[skip + data..];
                        }
                        Err(_) => failed = true,
                    }
                }
            }
            let pieces = (!failed).then(|| (out, decoder.is_done()));
            prop_assert_eq!(whole, pieces);
        }
    }
}
