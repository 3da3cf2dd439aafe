//! Transformations: what a rule does to a value before its operator sees it.
//!
//! [`TABLE`] has one entry for each: name, aliases, the bytes that can make it change a value, and what it does.
//! [`apply`] runs one. A value that holds none of the trigger bytes is left alone without being read again, which is
//! what makes ordinary traffic cheap: most chains collapse to nothing for most values.

mod css;
mod decode;
mod digest;
mod encoding;
mod entities;
mod path;
mod text;
mod url;

use crate::byteset::ByteSet;

/// One transformation. The discriminant is its index in [`TABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Transform {
    /// `base64Decode`
    Base64Decode,
    /// `base64DecodeExt`
    Base64DecodeExt,
    /// `base64Encode`
    Base64Encode,
    /// `cmdLine`
    CmdLine,
    /// `compressWhitespace`
    CompressWhitespace,
    /// `cssDecode`
    CssDecode,
    /// `escapeSeqDecode`
    EscapeSeqDecode,
    /// `hexDecode`
    HexDecode,
    /// `hexEncode`
    HexEncode,
    /// `htmlEntityDecode`
    HtmlEntityDecode,
    /// `jsDecode`
    JsDecode,
    /// `length`
    Length,
    /// `lowercase`
    Lowercase,
    /// `md5`
    Md5,
    /// `normalizePath`
    NormalizePath,
    /// `normalizePathWin`
    NormalizePathWin,
    /// `parityEven7bit`
    ParityEven7bit,
    /// `parityOdd7bit`
    ParityOdd7bit,
    /// `parityZero7bit`
    ParityZero7bit,
    /// `phpArgsNames`
    PhpArgsNames,
    /// `removeComments`
    RemoveComments,
    /// `removeCommentsChar`
    RemoveCommentsChar,
    /// `removeNulls`
    RemoveNulls,
    /// `removeWhitespace`
    RemoveWhitespace,
    /// `replaceComments`
    ReplaceComments,
    /// `replaceNulls`
    ReplaceNulls,
    /// `sha1`
    Sha1,
    /// `sqlHexDecode`
    SqlHexDecode,
    /// `trim`
    Trim,
    /// `trimLeft`
    TrimLeft,
    /// `trimRight`
    TrimRight,
    /// `uppercase`
    Uppercase,
    /// `urlDecode`
    UrlDecode,
    /// `urlDecodeUni`
    UrlDecodeUni,
    /// `urlEncode`
    UrlEncode,
    /// `utf8toUnicode`
    Utf8ToUnicode,
}

/// Whether a transformation wrote something other than its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// The output buffer holds the new value.
    Yes,
    /// The value is the same; the output buffer's content means nothing.
    No,
}

/// One row of the transformation table.
#[derive(Debug)]
pub struct TransformInfo {
    /// The name as rules write it after `t:` (compared case-insensitively).
    pub name: &'static str,
    /// Other spellings that mean the same.
    pub aliases: &'static [&'static str],
    /// The transformation itself.
    pub transform: Transform,
    /// A value without any of these bytes is never changed; `None`: any value may be.
    pub triggers: Option<ByteSet>,
    /// What it does, one sentence.
    pub doc: &'static str,
}

const SPACE: ByteSet = ByteSet::of(b" \t\n\r\x0b\x0c");
const UPPER: ByteSet = ByteSet::EMPTY.with_range(b'A', b'Z');
const LOWER: ByteSet = ByteSet::EMPTY.with_range(b'a', b'z');
const HIGH: ByteSet = ByteSet::EMPTY.with_range(0x80, 0xff);
const BACKSLASH: ByteSet = ByteSet::of(b"\\");

macro_rules! table {
    ($($transform:ident $name:literal $aliases:expr, $triggers:expr, $doc:literal;)*) => {
        /// Every transformation, by [`Transform`] discriminant.
        pub const TABLE: &[TransformInfo] = &[$(TransformInfo {
            name: $name,
            aliases: &$aliases,
            transform: Transform::$transform,
            triggers: $triggers,
            doc: $doc,
        }),*];
    };
}

table! {
    Base64Decode "base64Decode" [], None,
        "Decodes Base64 up to the first byte that is not of its alphabet; CR and LF are skipped.";
    Base64DecodeExt "base64DecodeExt" [], None,
        "Decodes Base64, skipping bytes that are not of its alphabet.";
    Base64Encode "base64Encode" [], None, "Encodes as Base64 with padding.";
    CmdLine "cmdLine" ["cmdline"], Some(ByteSet::of(b"\\\"'^,;").union(&SPACE).union(&UPPER)),
        "Undoes shell evasions: deletes \\ \" ' ^, folds , ; and white space to one space, drops the space before / and (, lowers ASCII.";
    CompressWhitespace "compressWhitespace" [], Some(SPACE.union(&ByteSet::of(&[0xa0]))),
        "Replaces each run of white space by one space.";
    CssDecode "cssDecode" [], Some(BACKSLASH), "Decodes CSS 2 escapes (\\ and up to six hexadecimal digits).";
    EscapeSeqDecode "escapeSeqDecode" [], Some(BACKSLASH), "Decodes ANSI C escapes (\\n, \\x41, \\101).";
    HexDecode "hexDecode" [], None, "Decodes pairs of hexadecimal digits; anything else gives an empty value.";
    HexEncode "hexEncode" [], None, "Writes each byte as two lower-case hexadecimal digits.";
    HtmlEntityDecode "htmlEntityDecode" [], Some(ByteSet::of(b"&")),
        "Decodes numeric character references and the names that stand for ASCII; the semicolon is optional.";
    JsDecode "jsDecode" [], Some(BACKSLASH), "Decodes JavaScript escapes (\\uHHHH, \\xHH, octal, \\n).";
    Length "length" [], None, "Replaces the value by its length in bytes, in decimal.";
    Lowercase "lowercase" [], Some(UPPER), "Lowers ASCII letters.";
    Md5 "md5" [], None, "Replaces the value by its 16-byte MD5 digest.";
    NormalizePath "normalizePath" ["normalisePath"], Some(ByteSet::of(b"/.")),
        "Resolves //, /./ and /../ in a path.";
    NormalizePathWin "normalizePathWin" ["normalisePathWin"], Some(ByteSet::of(b"/.\\")),
        "Turns \\ into / and then resolves //, /./ and /../.";
    ParityEven7bit "parityEven7bit" [], None, "Sets bit 8 so that each byte has even parity.";
    ParityOdd7bit "parityOdd7bit" [], None, "Sets bit 8 so that each byte has odd parity.";
    ParityZero7bit "parityZero7bit" [], Some(HIGH), "Clears bit 8 of each byte.";
    PhpArgsNames "phpArgsNames" [], Some(ByteSet::of(b" .[=")),
        "Writes an argument's name as PHP reads it: no spaces in front, `_` for spaces, dots and brackets that are not closed.";
    RemoveComments "removeComments" [], Some(ByteSet::of(b"*-#")),
        "Deletes /*...*/ and <!--...--> comments, and what follows -- or #.";
    RemoveCommentsChar "removeCommentsChar" [], Some(ByteSet::of(b"*-#")),
        "Deletes the comment marks /* */ <!-- --> -- and #.";
    RemoveNulls "removeNulls" [], Some(ByteSet::of(b"\0")), "Deletes NUL bytes.";
    RemoveWhitespace "removeWhitespace" [], Some(SPACE.union(&ByteSet::of(&[0xa0, 0xc2]))),
        "Deletes white space, also the bytes of a no-break space.";
    ReplaceComments "replaceComments" [], Some(ByteSet::of(b"*")),
        "Replaces each /*...*/ comment, terminated or not, by one space.";
    ReplaceNulls "replaceNulls" [], Some(ByteSet::of(b"\0")), "Replaces NUL bytes by spaces.";
    Sha1 "sha1" [], None, "Replaces the value by its 20-byte SHA-1 digest.";
    SqlHexDecode "sqlHexDecode" [], Some(ByteSet::of(b"xX")), "Decodes SQL hexadecimal literals (0x414243).";
    Trim "trim" [], Some(SPACE), "Deletes white space at both ends.";
    TrimLeft "trimLeft" [], Some(SPACE), "Deletes white space at the start.";
    TrimRight "trimRight" [], Some(SPACE), "Deletes white space at the end.";
    Uppercase "uppercase" [], Some(LOWER), "Raises ASCII letters.";
    UrlDecode "urlDecode" [], Some(ByteSet::of(b"%+")), "Decodes %HH and + once; invalid sequences stay.";
    UrlDecodeUni "urlDecodeUni" [], Some(ByteSet::of(b"%+")),
        "Decodes %HH, + and %uHHHH (best fit to ASCII) once; invalid sequences stay.";
    UrlEncode "urlEncode" [], Some(ByteSet::of(b"*").with_range(b'0', b'9').union(&UPPER).union(&LOWER).complement()),
        "Percent-encodes all but letters, digits and *; a space becomes +.";
    Utf8ToUnicode "utf8toUnicode" [], Some(HIGH), "Writes each multi-byte UTF-8 sequence as %uHHHH.";
}

impl Transform {
    /// The table's entry for this transformation.
    pub fn info(self) -> &'static TransformInfo {
        // The table is written in discriminant order (tested), so the fallback is never taken.
        TABLE.get(self as usize).unwrap_or(&FALLBACK)
    }

    /// The bit that stands for this transformation in a set of transformations.
    #[inline]
    pub const fn bit(self) -> u64 {
        1u64 << (self as u8)
    }

    /// Looks a name up, case-insensitively, aliases included. `none` is not a transformation.
    pub fn by_name(name: &str) -> Option<Self> {
        let same = |other: &str| other.eq_ignore_ascii_case(name);
        TABLE
            .iter()
            .find(|info| same(info.name) || info.aliases.iter().any(|alias| same(alias)))
            .map(|info| info.transform)
    }
}

const FALLBACK: TransformInfo = TransformInfo {
    name: "lowercase",
    aliases: &[],
    transform: Transform::Lowercase,
    triggers: None,
    doc: "",
};

/// For each byte, the transformations it makes change a value, by [`Transform::bit`]; and those that any value may make.
const TRIGGERED: ([u64; 256], u64) = {
    let mut by_byte = [0; 256];
    let mut always = 0;
    let mut rows = TABLE;
    while let Some((info, rest)) = rows.split_first() {
        match &info.triggers {
            None => always |= info.transform.bit(),
            Some(triggers) => {
                let (mut left, mut byte) = (by_byte.as_mut_slice(), 0u16);
                while let Some((set, more)) = left.split_first_mut() {
                    if triggers.contains(byte as u8) {
                        *set |= info.transform.bit();
                    }
                    left = more;
                    byte += 1;
                }
            }
        }
        rows = rest;
    }
    (by_byte, always)
};

/// The set (by [`Transform::bit`]) of transformations that leave a value with these bytes as it is.
pub fn identities(bytes: &ByteSet) -> u64 {
    static BY_BYTE: [u64; 256] = TRIGGERED.0;
    let triggered = |byte: u8| BY_BYTE.get(usize::from(byte)).copied().unwrap_or(u64::MAX);
    !bytes.iter().fold(TRIGGERED.1, |set, byte| set | triggered(byte))
}

/// Runs one transformation. `out` is cleared first; it holds the result when [`Changed::Yes`] is returned.
pub fn apply(transform: Transform, input: &[u8], out: &mut Vec<u8>) -> Changed {
    out.clear();
    match transform {
        Transform::Base64Decode => encoding::base64_decode(input, out),
        Transform::Base64DecodeExt => encoding::base64_decode_ext(input, out),
        Transform::Base64Encode => encoding::base64_encode(input, out),
        Transform::CmdLine => text::cmd_line(input, out),
        Transform::CompressWhitespace => text::compress_whitespace(input, out),
        Transform::CssDecode => css::decode(input, out),
        Transform::EscapeSeqDecode => decode::escape_seq(input, out),
        Transform::HexDecode => encoding::hex_decode(input, out),
        Transform::HexEncode => encoding::hex_encode(input, out),
        Transform::HtmlEntityDecode => entities::decode(input, out),
        Transform::JsDecode => decode::js(input, out),
        Transform::Length => digest::length(input, out),
        Transform::Lowercase => {
            out.extend_from_slice(input);
            out.make_ascii_lowercase();
        }
        Transform::Md5 => digest::md5(input, out),
        Transform::NormalizePath => path::normalize(input, out),
        Transform::NormalizePathWin => path::normalize_win(input, out),
        Transform::ParityEven7bit => out.extend(input.iter().map(|&byte| text::parity(byte, false))),
        Transform::ParityOdd7bit => out.extend(input.iter().map(|&byte| text::parity(byte, true))),
        Transform::PhpArgsNames => text::php_args_names(input, out),
        Transform::ParityZero7bit => out.extend(input.iter().map(|byte| byte & 0x7f)),
        Transform::RemoveComments => text::remove_comments(input, out),
        Transform::RemoveCommentsChar => text::remove_comments_char(input, out),
        Transform::RemoveNulls => text::remove(input, out, |byte| byte == 0),
        Transform::RemoveWhitespace => text::remove(input, out, text::is_wide_space),
        Transform::ReplaceComments => text::replace_comments(input, out),
        Transform::ReplaceNulls => out.extend(input.iter().map(|&byte| if byte == 0 { b' ' } else { byte })),
        Transform::Sha1 => digest::sha1(input, out),
        Transform::SqlHexDecode => encoding::sql_hex_decode(input, out),
        Transform::Trim => out.extend_from_slice(text::trim_left(text::trim_right(input))),
        Transform::TrimLeft => out.extend_from_slice(text::trim_left(input)),
        Transform::TrimRight => out.extend_from_slice(text::trim_right(input)),
        Transform::Uppercase => {
            out.extend_from_slice(input);
            out.make_ascii_uppercase();
        }
        Transform::UrlDecode => url::decode(input, out),
        Transform::UrlDecodeUni => url::decode_uni(input, out),
        Transform::UrlEncode => url::encode(input, out),
        Transform::Utf8ToUnicode => encoding::utf8_to_unicode(input, out),
    }
    if out.as_slice() == input { Changed::No } else { Changed::Yes }
}

pub(crate) use text::is_space;
pub(crate) use url::{decode as url_decode, hex_value};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_table_is_in_discriminant_order() {
        for (index, info) in TABLE.iter().enumerate() {
            assert_eq!(info.transform as usize, index, "{}", info.name);
            assert_eq!(Transform::by_name(info.name), Some(info.transform));
            assert!(!info.doc.is_empty());
        }
        assert!(TABLE.len() <= 64, "sets of transformations are 64 bits wide");
        assert_eq!(Transform::by_name("NORMALISEPATH"), Some(Transform::NormalizePath));
        assert_eq!(Transform::by_name("none"), None);
    }

    proptest! {
        /// The fast path is only allowed to skip what would not have changed anything.
        #[test]
        fn no_trigger_no_change(value in prop::collection::vec(any::<u8>(), 0..40)) {
            let set = identities(&ByteSet::occurring(&value));
            let mut out = Vec::new();
            for info in TABLE {
                let changed = apply(info.transform, &value, &mut out);
                if set & info.transform.bit() != 0 {
                    prop_assert_eq!(changed, Changed::No, "{}", info.name);
                }
            }
        }

        /// Any bytes go through any transformation; what decodes never grows beyond a fixed factor.
        #[test]
        fn output_is_bounded(value in prop::collection::vec(
            prop::sample::select(b"%u&#x;\\/.*-+ 0aF\0\xc2\xa0\xe2\x80".to_vec()), 0..60,
        )) {
            let mut out = Vec::new();
            for info in TABLE {
                apply(info.transform, &value, &mut out);
                prop_assert!(out.len() <= value.len() * 6 + 20, "{}", info.name);
            }
        }
    }
}
