//! Operators: the question a rule asks of a value.
//!
//! [`TABLE`] names them all, also those of other engines that this one does not have yet, so that a rule using one is
//! refused with a reason. An operator of a compiled rule is data, no closure.

mod checksum;
mod dialect;
mod look;
mod matchers;
mod pattern;
mod phrases;
mod rsub;

use std::fmt::Write as _;

use ipnet::IpNet;

use crate::byteset::ByteSet;
use crate::macros::{Num, Text};

pub use checksum::Checksum;
pub use dialect::rewrite as rewrite_pattern;
pub(crate) use matchers::{atoi, ip_match, text_matches, url_encoding_is_invalid, utf8_is_invalid};
pub(crate) use pattern::{Caches, Pattern, PatternError, PatternId, compile_phrases, compile_regex};
pub(crate) use phrases::{from_argument, from_file};
pub(crate) use rsub::parse as parse_rsub;

/// Which operator a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorKind {
    /// A regular expression.
    Rx,
    /// The pattern of a substitution; nothing is replaced.
    Rsub,
    /// A set of phrases in the argument.
    Pm,
    /// A set of phrases in files.
    PmFromFile,
    /// A comparison of text.
    Text(TextOp),
    /// A comparison of integers.
    Compare(Compare),
    /// A list of addresses and networks.
    IpMatch,
    /// A list of addresses and networks in files.
    IpMatchFromFile,
    /// A set of allowed bytes.
    ByteRange,
    /// Percent-encoding is broken.
    UrlEncoding,
    /// UTF-8 is broken.
    Utf8,
    /// Every value.
    Always,
    /// No value.
    Never,
    /// Numbers with a check digit.
    Checksum(Checksum),
    /// Attacks found by reading the value as a language.
    Detect(Detector),
    /// Numbers of persons, of the country that the argument begins with.
    Nid,
    /// Where an address is.
    GeoLookup,
    /// Never matches, with a warning; the text says why.
    Accepted(&'static str),
    /// Known to other engines, not to this one; the text says why or what to write instead.
    Unsupported(&'static str),
}

/// What a value is read as (see [`crate::libinjection`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detector {
    /// SQL; what is captured is the fingerprint.
    Sqli,
    /// HTML; what is captured is the value.
    Xss,
}

/// A comparison of text with the (macro-expanded) argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextOp {
    /// The value begins with the argument.
    BeginsWith,
    /// The value contains the argument.
    Contains,
    /// The value contains the argument as a whole word.
    ContainsWord,
    /// The value ends with the argument.
    EndsWith,
    /// The value is the argument.
    Equal,
    /// The argument contains the value.
    Within,
}

/// A comparison of integers: value on the left, argument on the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// `==`
    Eq,
    /// `>=`
    Ge,
    /// `>`
    Gt,
    /// `<=`
    Le,
    /// `<`
    Lt,
}

impl Compare {
    /// Whether the relation holds.
    #[inline]
    pub const fn holds(self, value: i64, argument: i64) -> bool {
        match self {
            Self::Eq => value == argument,
            Self::Ge => value >= argument,
            Self::Gt => value > argument,
            Self::Le => value <= argument,
            Self::Lt => value < argument,
        }
    }
}

/// One row of the operator table.
#[derive(Debug)]
pub struct OperatorInfo {
    /// The name as rules write it after `@` (compared case-insensitively).
    pub name: &'static str,
    /// Other spellings that mean the same.
    pub aliases: &'static [&'static str],
    /// What it constructs.
    pub kind: OperatorKind,
    /// What it does, one sentence.
    pub doc: &'static str,
}

macro_rules! table {
    ($($name:literal $aliases:expr, $kind:expr, $doc:literal;)*) => {
        /// Every operator, by name.
        pub const TABLE: &[OperatorInfo] = &[
            $(OperatorInfo { name: $name, aliases: &$aliases, kind: $kind, doc: $doc }),*
        ];
    };
}

table! {
    "beginsWith" [], OperatorKind::Text(TextOp::BeginsWith), "The value begins with the argument.";
    "contains" [], OperatorKind::Text(TextOp::Contains), "The value contains the argument.";
    "containsWord" [], OperatorKind::Text(TextOp::ContainsWord), "The value contains the argument as a whole word.";
    "detectSQLi" [], OperatorKind::Detect(Detector::Sqli),
        "The value reads as SQL injection; `capture` puts its fingerprint into TX:0.";
    "detectXSS" [], OperatorKind::Detect(Detector::Xss),
        "The value reads as HTML that runs a script; `capture` puts the value into TX:0.";
    "endsWith" [], OperatorKind::Text(TextOp::EndsWith), "The value ends with the argument.";
    "eq" [], OperatorKind::Compare(Compare::Eq), "The value, as an integer, equals the argument.";
    "fuzzyHash" [], OperatorKind::Unsupported("files are not compared by likeness; `t:sha1,t:hexEncode` with `@pmFromFile` finds known ones"), "Not supported.";
    "ge" [], OperatorKind::Compare(Compare::Ge), "The value, as an integer, is at least the argument.";
    "geoLookup" [], OperatorKind::GeoLookup,
        "The database of SecGeoLookupDb knows the address; what it knows is in GEO.";
    "gsbLookup" [], OperatorKind::Unsupported("the service it asked no longer exists"), "Not supported.";
    "gt" [], OperatorKind::Compare(Compare::Gt), "The value, as an integer, is greater than the argument.";
    "inspectFile" [], OperatorKind::Unsupported("running programs on requests is not offered"), "Not supported.";
    "ipMatch" [], OperatorKind::IpMatch, "The value is an address in the list of addresses and networks.";
    "ipMatchFromFile" ["ipMatchF"], OperatorKind::IpMatchFromFile,
        "The value is an address in the files' list of addresses and networks, one a line.";
    "ipMatchFromDataset" [], OperatorKind::Unsupported("put the addresses into a file and write `@ipMatchFromFile`"), "Not supported.";
    "le" [], OperatorKind::Compare(Compare::Le), "The value, as an integer, is at most the argument.";
    "lt" [], OperatorKind::Compare(Compare::Lt), "The value, as an integer, is less than the argument.";
    "noMatch" [], OperatorKind::Never, "Never matches.";
    "pm" [], OperatorKind::Pm, "The value contains one of the phrases, case-insensitively; `|41 42|` stands for bytes.";
    "pmFromDataset" [], OperatorKind::Unsupported("put the words into a file and write `@pmFromFile`"), "Not supported.";
    "pmFromFile" ["pmf"], OperatorKind::PmFromFile,
        "The value contains one of the files' phrases, one a line, case-insensitively.";
    "rbl" [], OperatorKind::Accepted("no request waits for an answer from DNS; the gateway's IP lists refuse addresses"),
        "Never matches.";
    "restpath" [], OperatorKind::Unsupported("write the path as a pattern with `@rx`"), "Not supported.";
    "rsub" [], OperatorKind::Rsub,
        "As `@rx` with the pattern of `s/PATTERN/REPLACEMENT/`; behind it `i` (letters without regard to case) and `d` (a pattern with macros is text to be found as it is). With a warning: nothing is replaced, `[route.response.leaks]` masks what must not leave.";
    "rx" [], OperatorKind::Rx,
        "The value matches the regular expression (bytes, `.` matches newlines, `^` and `$` are the value's ends).";
    "rxGlobal" [], OperatorKind::Rx, "As `@rx`: the captures are those of the first match.";
    "strmatch" [], OperatorKind::Text(TextOp::Contains), "The value contains the argument.";
    "streq" [], OperatorKind::Text(TextOp::Equal), "The value is the argument.";
    "unconditionalMatch" [], OperatorKind::Always, "Always matches.";
    "validateByteRange" [], OperatorKind::ByteRange, "The value holds a byte outside the ranges.";
    "validateDTD" [], OperatorKind::Unsupported("documents are not validated by rules"), "Not supported.";
    "validateHash" [], OperatorKind::Unsupported("links are not signed by rules"), "Not supported.";
    "validateNid" [], OperatorKind::Nid,
        "What the pattern finds is a person's number; the argument begins with the country, `cl` or `us`.";
    "validateSchema" [], OperatorKind::Unsupported("schemas belong to the contract guard"), "Not supported.";
    "validateUrlEncoding" [], OperatorKind::UrlEncoding, "The value holds a `%` without two hexadecimal digits.";
    "validateUtf8Encoding" [], OperatorKind::Utf8, "The value is not valid UTF-8.";
    "verifyCC" [], OperatorKind::Checksum(Checksum::Luhn), "What the pattern finds is a card number (Luhn).";
    "verifyCPF" [], OperatorKind::Checksum(Checksum::Cpf), "What the pattern finds is a Brazilian CPF number.";
    "verifySSN" [], OperatorKind::Checksum(Checksum::Ssn), "What the pattern finds is a US social security number.";
    "verifySVNR" [], OperatorKind::Checksum(Checksum::Svnr), "What the pattern finds is an Austrian SVNR number.";
    "within" [], OperatorKind::Text(TextOp::Within), "The argument contains the value.";
}

/// Looks an operator up by name (without `@`), case-insensitively, aliases included.
pub fn by_name(name: &str) -> Option<&'static OperatorInfo> {
    let same = |other: &str| other.eq_ignore_ascii_case(name);
    TABLE.iter().find(|info| same(info.name) || info.aliases.iter().any(|alias| same(alias)))
}

/// An operator with its argument, as a compiled rule holds it.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Rx(PatternId),
    /// A regular expression with macros in it, compiled whenever it is asked.
    RxText(Text),
    Pm(PatternId),
    Text(TextOp, Text),
    Compare(Compare, Num),
    IpMatch(Box<[IpNet]>),
    /// The bytes that are allowed.
    ByteRange(ByteSet),
    UrlEncoding,
    Utf8,
    Always,
    Never,
    Checksum(Checksum, PatternId),
    Detect(Detector),
    GeoLookup,
}

impl Op {
    /// The pattern whose literals the prefilter looks for; such an operator cannot match without them.
    pub(crate) fn pattern(&self) -> Option<PatternId> {
        match self {
            Self::Rx(id) | Self::Pm(id) | Self::Checksum(_, id) => Some(*id),
            _ => None,
        }
    }

    /// The operator as the dump and the reports name it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Rx(_) | Self::RxText(_) => "rx",
            Self::Pm(_) => "pm",
            Self::Text(TextOp::BeginsWith, _) => "beginsWith",
            Self::Text(TextOp::Contains, _) => "contains",
            Self::Text(TextOp::ContainsWord, _) => "containsWord",
            Self::Text(TextOp::EndsWith, _) => "endsWith",
            Self::Text(TextOp::Equal, _) => "streq",
            Self::Text(TextOp::Within, _) => "within",
            Self::Compare(Compare::Eq, _) => "eq",
            Self::Compare(Compare::Ge, _) => "ge",
            Self::Compare(Compare::Gt, _) => "gt",
            Self::Compare(Compare::Le, _) => "le",
            Self::Compare(Compare::Lt, _) => "lt",
            Self::IpMatch(_) => "ipMatch",
            Self::ByteRange(_) => "validateByteRange",
            Self::UrlEncoding => "validateUrlEncoding",
            Self::Utf8 => "validateUtf8Encoding",
            Self::Always => "unconditionalMatch",
            Self::Never => "noMatch",
            Self::Detect(Detector::Sqli) => "detectSQLi",
            Self::Detect(Detector::Xss) => "detectXSS",
            Self::GeoLookup => "geoLookup",
            Self::Checksum(Checksum::Luhn, _) => "verifyCC",
            Self::Checksum(Checksum::Cpf, _) => "verifyCPF",
            Self::Checksum(Checksum::Rut, _) => "validateNid",
            Self::Checksum(Checksum::Ssn, _) => "verifySSN",
            Self::Checksum(Checksum::Svnr, _) => "verifySVNR",
        }
    }

    /// The argument for the dump.
    pub(crate) fn argument(&self, names: &dyn crate::macros::Names) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Rx(id) | Self::Pm(id) | Self::Checksum(_, id) => write!(text, "pattern#{}", id.0),
            Self::Text(_, argument) | Self::RxText(argument) => write!(text, "{}", argument.show(names)),
            Self::Compare(_, argument) => write!(text, "{}", argument.show(names)),
            Self::IpMatch(nets) => nets.iter().try_for_each(|net| write!(text, "{net} ")),
            Self::ByteRange(set) => write!(text, "{set:?}"),
            _ => Ok(()),
        };
        text.trim_end().to_owned()
    }
}

/// The allowed bytes of `@validateByteRange`: `1-255` or `10,13,32-126`.
pub(crate) fn parse_byte_ranges(argument: &str) -> Result<ByteSet, String> {
    let mut set = ByteSet::EMPTY;
    for part in argument.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let text = text.trim();
            text.parse::<u8>().map_err(|_| format!("`{text}` is not a byte value from 0 to 255"))
        };
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err(format!("the range `{part}` is upside down"));
        }
        set = set.with_range(from, to);
    }
    Ok(set)
}

/// The country and the pattern of `@validateNid`.
pub(crate) fn parse_nid(argument: &str) -> Result<(Checksum, &str), String> {
    let (country, pattern) = argument.split_once(' ').unwrap_or((argument, ""));
    let check = match country {
        "cl" => Checksum::Rut,
        "us" => Checksum::Ssn,
        _ => return Err(format!("`{country}` is no country that is known here: there are `cl` and `us`")),
    };
    match pattern.trim_start() {
        "" => Err("a pattern must follow the country".to_owned()),
        pattern => Ok((check, pattern)),
    }
}

/// A list of addresses and networks, separated by commas or white space.
pub(crate) fn parse_networks(list: &str) -> Result<Box<[IpNet]>, String> {
    let words = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty());
    words
        .map(|word| {
            let net =
                word.parse::<IpNet>().or_else(|_| word.parse().map(|ip: std::net::IpAddr| IpNet::from(ip)));
            net.map(canonical)
                .map_err(|_| format!("`{word}` is neither an IP address nor a network such as 10.0.0.0/8"))
        })
        .collect()
}

/// A network of IPv4-mapped IPv6 addresses is the IPv4 network.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    let v4 = mapped.and_then(|(address, prefix)| ipnet::Ipv4Net::new(address, prefix).ok());
    v4.map_or(net, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for info in TABLE {
            assert_eq!(by_name(&info.name.to_uppercase()).map(|found| found.name), Some(info.name));
            assert!(!info.doc.is_empty());
        }
        assert_eq!(by_name("pmf").map(|info| info.kind), Some(OperatorKind::PmFromFile));
        assert!(by_name("rxx").is_none());
    }

    #[test]
    fn lists_are_checked() {
        assert_eq!(format!("{:?}", parse_byte_ranges("9,10, 32-126").unwrap()), "9-10,32-126");
        assert!(parse_byte_ranges("1-256").unwrap_err().contains("256"));
        assert!(parse_byte_ranges("9-1").is_err());
        assert_eq!(parse_networks("127.0.0.1,::1 10.0.0.0/8").unwrap().len(), 3);
        assert!(parse_networks("10.0.0.0/33").is_err());
    }
}
