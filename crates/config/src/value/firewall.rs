//! What the firewall's tables hold: shares of requests, statuses, parts of audit entries.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::{ValueError, string_value};

/// A share of all requests: `"10%"`, `"0.5%"`; in steps of a ten-thousandth of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

/// Statuses: one (`"404"`) or a class (`"5xx"`); with `!` in front, all others are not meant but these are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StatusRange {
    first: u16,
    last: u16,
    negated: bool,
}

/// What an audit entry holds, in the letters of `SecAuditLogParts`: `"ABHZ"`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AuditParts(String);

impl Share {
    /// Every request.
    pub const ALL: Self = Self(Self::WHOLE);

    /// No request.
    pub const NONE: Self = Self(0);

    /// The number that [`Share::parts`] counts up to.
    pub const WHOLE: u32 = 1_000_000;

    /// So many of a hundred, at most all.
    #[must_use]
    pub const fn from_percent(percent: u8) -> Self {
        Self(if percent > 100 { Self::WHOLE } else { percent as u32 * (Self::WHOLE / 100) })
    }

    /// The share in millionths.
    #[must_use]
    pub const fn parts(self) -> u32 {
        self.0
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromStr for Share {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            ValueError::new(format!("\"{text}\" is not a share of requests"))
                .help("write a percentage from \"0%\" to \"100%\", such as \"10%\" or \"0.5%\"")
        };
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || decimals.len() > 4 {
            return Err(wrong());
        }
        let whole: u32 = whole.parse().ok().filter(|whole| *whole <= 100).ok_or_else(wrong)?;
        let decimals: u32 = format!("{decimals:0<4}").parse().map_err(|_| wrong())?;
        let parts = whole * 10_000 + decimals;
        if parts <= Self::WHOLE { Ok(Self(parts)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:04}", self.0 % 10_000);
        let decimals = decimals.trim_end_matches('0');
        let point = if decimals.is_empty() { "" } else { "." };
        write!(f, "{}{point}{decimals}%", self.0 / 10_000)
    }
}

impl StatusRange {
    /// `2xx`.
    pub const SUCCESS: Self = Self { first: 200, last: 299, negated: false };

    /// The statuses, both ends included.
    #[must_use]
    pub fn statuses(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// Whether these are left out.
    #[must_use]
    pub fn is_negated(self) -> bool {
        self.negated
    }
}

impl FromStr for StatusRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            ValueError::new(format!("\"{text}\" is neither a status nor a class of them"))
                .help("write \"404\" or \"5xx\", with `!` in front to leave them out")
        };
        let (negated, status) = text.strip_prefix('!').map_or((false, text), |status| (true, status));
        let number = |text: &str| text.parse::<u16>().ok().filter(|_| text.len() == 3);
        let (first, last) = match status.strip_suffix("xx") {
            Some(class) => {
                let class: u16 = class.parse().ok().filter(|_| class.len() == 1).ok_or_else(wrong)?;
                (class * 100, class * 100 + 99)
            }
            None => number(status).map(|status| (status, status)).ok_or_else(wrong)?,
        };
        if (100..600).contains(&first) { Ok(Self { first, last, negated }) } else { Err(wrong()) }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.negated { "!" } else { "" };
        if self.first == self.last {
            write!(f, "{not}{}", self.first)
        } else {
            write!(f, "{not}{}xx", self.first / 100)
        }
    }
}

impl AuditParts {
    /// Whether the part of this letter is wanted.
    #[must_use]
    pub fn has(&self, letter: char) -> bool {
        self.0.contains(letter)
    }
}

impl FromStr for AuditParts {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let letters = text.strip_prefix('A').and_then(|rest| rest.strip_suffix('Z'));
        let letters = letters.ok_or_else(|| {
            ValueError::new(format!("\"{text}\" does not begin with A and end with Z"))
                .help("the parts that every entry has are written too, as in \"ABHZ\"")
        })?;
        for (at, letter) in letters.char_indices() {
            if letters.chars().take(at).any(|earlier| earlier == letter) {
                return Err(ValueError::new(format!("the part {letter} stands twice")));
            }
            let why = match letter {
                'B' | 'C' | 'E' | 'F' | 'H' => continue,
                'D' | 'G' => "it is reserved in ModSecurity and stands for nothing",
                'I' => "write C, of which uploaded files are part",
                'J' => "uploaded files are not kept",
                'K' => "H lists the rules that matched",
                _ => "the parts are B, C, E, F and H",
            };
            return Err(ValueError::new(format!("there is no part {letter}")).help(why));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for AuditParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_value!(Share, "share", r"^[0-9]+(\.[0-9]+)?%$", ["100%", "10%", "0.5%"]);
string_value!(StatusRange, "status-range", r"^!?([1-5]xx|[1-5][0-9][0-9])$", ["5xx", "!404"]);
string_value!(AuditParts, "audit-parts", r"^A[BCEFH]*Z$", ["ABHZ", "ABCFHZ"]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        for (text, parts) in
            [("0%", 0), ("100%", 1_000_000), ("10%", 100_000), ("0.5%", 5_000), ("0.0001%", 1)]
        {
            assert_eq!(text.parse::<Share>().unwrap().parts(), parts);
            assert_eq!(Share(parts).to_string(), text);
        }
        for text in ["", "%", "1", "101%", "100.1%", "-1%", "1.%", ".5%", "0.00001%", "1e1%"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }

    #[test]
    fn statuses() {
        for (text, statuses, negated) in
            [("404", 404..=404, false), ("5xx", 500..=599, false), ("!404", 404..=404, true)]
        {
            let range: StatusRange = text.parse().unwrap();
            assert_eq!(
                (range.statuses(), range.is_negated(), range.to_string()),
                (statuses, negated, text.to_owned())
            );
        }
        for text in ["", "!", "4", "40", "4040", "6xx", "0xx", "xx", "44xx", "099", "600"] {
            assert!(text.parse::<StatusRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts() {
        let parts: AuditParts = "ABHZ".parse().unwrap();
        assert!(parts.has('B') && !parts.has('C'));
        for text in ["", "A", "ABH", "BHZ", "ABBZ", "ADZ", "AIZ", "AJZ", "AKZ", "AXZ", "AbZ"] {
            assert!(text.parse::<AuditParts>().is_err(), "{text}");
        }
    }
}
