//! Fingerprints of certificates.

use std::fmt;
use std::str::FromStr;

use super::{ValueError, string_value};

/// The SHA-256 of a certificate in 64 hexadecimal digits, with or without colons between the bytes, as
/// `openssl x509 -fingerprint -sha256` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(String);

/// Hexadecimal digits of a SHA-256.
const DIGITS: usize = 64;

impl Fingerprint {
    /// The digits in lower case, without colons.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let pairs = text.split(':').all(|pair| pair.len() == 2);
        let digits = if pairs { text.replace(':', "") } else { text.to_owned() };
        if digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self(digits.to_ascii_lowercase()));
        }
        Err(ValueError::new(format!("\"{text}\" is not a SHA-256 fingerprint")).help(
            "write 64 hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256 -in FILE` prints them",
        ))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_value!(
    Fingerprint,
    "fingerprint",
    r"^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$",
    ["9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15:B0:F0:0A:08"]
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_colons() {
        let plain = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let colons =
            "9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15:B0:F0:0A:08";
        assert_eq!(colons.parse::<Fingerprint>().unwrap().as_str(), plain);
        assert_eq!(plain.parse::<Fingerprint>().unwrap().to_string(), plain);
        for bad in ["", "9f", &plain[1..], &format!("{plain}00"), &plain.replace('9', "g"), &colons[1..]] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
