//! Amounts with a unit: time, bytes, rates.

use std::fmt;
use std::str::FromStr;
use std::time::Duration as StdDuration;

use super::{ValueError, string_value};

/// A span of time, zero allowed: `"250ms"`, `"10s"`, `"1m30s"`, `"2h"`, `"1d"`. At most 366 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(StdDuration);

/// A deadline: a [`Duration`] above zero, since a wait of zero would refuse everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeout(StdDuration);

/// A number of bytes: `"512B"`, `"64KiB"`, `"1MiB"`, `"10MB"`, `"1GiB"`. `K`, `M`, `G` alone are refused, as
/// people disagree on what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// How many requests in which time: `"20/s"`, `"100/m"`, `"1000/h"`, `"10000/d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    unit: char,
}

const LONGEST: StdDuration = StdDuration::from_secs(366 * 86_400);
const TIME_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const BYTE_UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

impl Duration {
    /// From whole seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(StdDuration::from_secs(seconds))
    }

    /// The same as the standard library's type.
    #[must_use]
    pub const fn get(self) -> StdDuration {
        self.0
    }
}

impl Timeout {
    /// From milliseconds, at least one.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(StdDuration::from_millis(if millis == 0 { 1 } else { millis }))
    }

    /// From whole seconds, at least one.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(StdDuration::from_secs(if seconds == 0 { 1 } else { seconds }))
    }

    /// The same as the standard library's type; never zero.
    #[must_use]
    pub const fn get(self) -> StdDuration {
        self.0
    }
}

impl ByteSize {
    /// From bytes.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// From kibibytes (1024 bytes).
    #[must_use]
    pub const fn from_kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// From mebibytes (1024 KiB).
    #[must_use]
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// In bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// In bytes, as the machine's own size; what does not fit becomes the greatest size there is.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Rate {
    /// Requests per [`Rate::period`], at least one.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The time in which [`Rate::count`] requests may come: a second, a minute, an hour or a day.
    #[must_use]
    pub const fn period(self) -> StdDuration {
        StdDuration::from_secs(match self.unit {
            'd' => 86_400,
            'h' => 3_600,
            'm' => 60,
            _ => 1,
        })
    }
}

/// Splits leading ASCII digits off `text`.
fn digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

fn time(text: &str) -> Result<StdDuration, ValueError> {
    let usage = || {
        let help = match digits(text) {
            (number, "") if !number.is_empty() => format!("write \"{number}s\" for seconds"),
            _ => "write a number and a unit, such as \"250ms\", \"10s\", \"2m\" or \"1h\"".to_owned(),
        };
        ValueError::new(format!("\"{text}\" is not a length of time")).help(help)
    };
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let (number, tail) = digits(rest);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end).unwrap_or((tail, ""));
        let scale = TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let number: u64 = number.parse().map_err(|_| usage())?;
        let term = number.checked_mul(scale.ok_or_else(usage)?).ok_or_else(usage)?;
        total = total.checked_add(term).ok_or_else(usage)?;
        rest = tail;
    }
    let total = StdDuration::from_millis(total);
    if total > LONGEST {
        return Err(ValueError::new(format!("\"{text}\" is longer than 366 days")));
    }
    Ok(total)
}

fn print_time(f: &mut fmt::Formatter<'_>, span: StdDuration) -> fmt::Result {
    let mut rest = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return f.write_str("0s");
    }
    for (unit, scale) in TIME_UNITS {
        let count = rest / scale;
        if count > 0 {
            write!(f, "{count}{unit}")?;
            rest %= scale;
        }
    }
    Ok(())
}

impl FromStr for Duration {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        time(text).map(Self)
    }
}

impl FromStr for Timeout {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match time(text)? {
            StdDuration::ZERO => Err(ValueError::new("a timeout of zero would refuse everything")
                .help("leave the field out for its default")),
            span => Ok(Self(span)),
        }
    }
}

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (number, unit) = digits(text);
        let wrong = || ValueError::new(format!("\"{text}\" is not a number of bytes"));
        let usage = || {
            let help = match unit.to_ascii_lowercase().as_str() {
                _ if number.is_empty() => {
                    "write a number and a unit, such as \"64KiB\" or \"1MiB\"".to_owned()
                }
                "" => format!("write \"{number}B\" for bytes"),
                "k" | "kib" | "kb" => format!("write \"{number}KiB\" (1024 bytes) or \"{number}KB\" (1000)"),
                "m" | "mib" | "mb" => format!("write \"{number}MiB\" (1024 KiB) or \"{number}MB\" (1000 KB)"),
                "g" | "gib" | "gb" => format!("write \"{number}GiB\" (1024 MiB) or \"{number}GB\" (1000 MB)"),
                _ => "the units are B, KiB, MiB, GiB, KB, MB, GB".to_owned(),
            };
            wrong().help(help)
        };
        let scale = BYTE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        let number: u64 = number.parse().map_err(|_| usage())?;
        number.checked_mul(scale.ok_or_else(usage)?).map(Self).ok_or_else(|| wrong().help("it is too large"))
    }
}

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let usage = || {
            ValueError::new(format!("\"{text}\" is not a rate"))
                .help("write a count, a slash and s, m, h or d, such as \"20/s\" or \"100/m\"")
        };
        let (count, unit) = text.split_once('/').ok_or_else(usage)?;
        let unit = match unit {
            "s" => 's',
            "m" => 'm',
            "h" => 'h',
            "d" => 'd',
            _ => return Err(usage()),
        };
        if !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(usage());
        }
        match count.parse() {
            Ok(0) => Err(ValueError::new("a rate of zero would refuse everything")
                .help("to close a route to somebody, use its `addresses.deny` or `auth`")),
            Ok(count) => Ok(Self { count, unit }),
            Err(_) => Err(usage()),
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_time(f, self.0)
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_time(f, self.0)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = |(_, scale): &&(&str, u64)| self.0 >= *scale && self.0.is_multiple_of(*scale);
        let (unit, scale) = BYTE_UNITS.iter().find(exact).copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit)
    }
}

string_value!(Duration, "time-span", r"^([0-9]+(ms|s|m|h|d))+$", ["10s", "250ms", "2m"]);
string_value!(Timeout, "timeout", r"^([0-9]+(ms|s|m|h|d))+$", ["10s", "250ms", "2m"]);
string_value!(ByteSize, "byte-size", r"^[0-9]+(B|KiB|MiB|GiB|KB|MB|GB)$", ["64KiB", "1MiB", "10MB"]);
string_value!(Rate, "rate", r"^[0-9]+/[smhd]$", ["20/s", "100/m"]);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            let span: Duration = text.parse().unwrap();
            assert_eq!(span.get(), StdDuration::from_millis(millis));
            assert_eq!(span.to_string(), text);
        }
        for text in
            ["", "s", "10", "10 s", "-1s", "1.5s", "10S", "1x", "99999999999999999999s", "1s1", "400d"]
        {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
        assert!("0ms".parse::<Timeout>().is_err());
    }

    #[test]
    fn sizes_say_which_thousand_they_mean() {
        for (text, bytes) in
            [("1MiB", 1 << 20), ("64KiB", 65_536), ("10MB", 10_000_000), ("7B", 7), ("0B", 0)]
        {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!(size.get(), bytes);
            assert_eq!(size.to_string(), text);
        }
        let error = "64k".parse::<ByteSize>().unwrap_err();
        assert_eq!(error.help.as_deref(), Some("write \"64KiB\" (1024 bytes) or \"64KB\" (1000)"));
        assert!("99999999999999999GiB".parse::<ByteSize>().is_err());
    }

    #[test]
    fn rates_have_a_count_and_a_period() {
        let rate: Rate = "100/m".parse().unwrap();
        assert_eq!((rate.count(), rate.period()), (100, StdDuration::from_secs(60)));
        for text in ["", "/s", "0/s", "10", "10/", "10/w", "+1/s", "1.5/s", "99999999999/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(millis in 0u64..31_000_000_000, bytes: u64, count in 1u32.., unit in "[smhd]") {
            let span = Duration(StdDuration::from_millis(millis));
            prop_assert_eq!(span.to_string().parse::<Duration>(), Ok(span));
            let size = ByteSize(bytes);
            prop_assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
            let rate = format!("{count}/{unit}");
            prop_assert_eq!(rate.parse::<Rate>().unwrap().to_string(), rate);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            for format in ["time-span", "timeout", "byte-size", "rate"] {
                drop(super::super::check_format(format, &text));
            }
        }
    }
}
