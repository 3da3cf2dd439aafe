//! Numbers that prove themselves: a pattern finds them, a check digit confirms them.

/// Which check a number must pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Payment cards.
    Luhn,
    /// Brazil's Cadastro de Pessoas Físicas.
    Cpf,
    /// The United States' social security number (ranges that are never issued).
    Ssn,
    /// Chile's Rol Único Tributario, whose check digit may be a K.
    Rut,
    /// Austria's Sozialversicherungsnummer.
    Svnr,
}

impl Checksum {
    /// Whether the digits in `text` pass; anything but digits in it is ignored.
    pub(crate) fn holds(self, text: &[u8]) -> bool {
        let digits: Vec<u32> =
            text.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0')).collect();
        match self {
            Self::Luhn => luhn(&digits),
            Self::Cpf => cpf(&digits),
            Self::Rut => rut(text),
            Self::Ssn => ssn(&digits),
            Self::Svnr => svnr(&digits),
        }
    }
}

fn luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, &digit)| match (index % 2 == 1, digit) {
            (false, digit) => digit,
            (true, digit) if digit > 4 => digit * 2 - 9,
            (true, digit) => digit * 2,
        })
        .sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

fn weighted(digits: &[u32], weights: impl Iterator<Item = u32>) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum()
}

fn cpf(digits: &[u32]) -> bool {
    let [body @ .., first, second] = digits else { return false };
    if body.len() != 9 || digits.iter().all(|digit| Some(digit) == digits.first()) {
        return false;
    }
    let check = |sum: u32| if sum % 11 < 2 { 0 } else { 11 - sum % 11 };
    let expected_first = check(weighted(body, (2..=10).rev()));
    let expected_second = check(weighted(body, (3..=11).rev()) + expected_first * 2);
    (expected_first, expected_second) == (*first, *second)
}

fn ssn(digits: &[u32]) -> bool {
    if digits.len() != 9 {
        return false;
    }
    let number = |range: &[u32]| range.iter().fold(0, |number, digit| number * 10 + digit);
    let (area, rest) = digits.split_at(3);
    let (group, serial) = rest.split_at(2);
    let (area, group, serial) = (number(area), number(group), number(serial));
    let same = digits.windows(2).all(|pair| matches!(pair, [a, b] if a == b));
    let ascending = digits.windows(2).all(|pair| matches!(pair, [a, b] if *b == *a + 1));
    area != 0 && group != 0 && serial != 0 && area < 740 && area != 666 && !same && !ascending
}

fn rut(text: &[u8]) -> bool {
    let mut digits = text.iter().filter_map(|&byte| match byte {
        b'0'..=b'9' => Some(u32::from(byte - b'0')),
        b'k' | b'K' => Some(10),
        _ => None,
    });
    let Some(check) = digits.next_back() else { return false };
    let body: Vec<u32> = digits.rev().collect();
    let sum = weighted(&body, (2..=7).cycle());
    !body.is_empty() && !body.contains(&10) && (11 - sum % 11) % 11 == check
}

fn svnr(digits: &[u32]) -> bool {
    let &[a, b, c, check, d, e, f, g, h, i] = digits else { return false };
    let sum = weighted(&[a, b, c, d, e, f, g, h, i], [3, 7, 9, 5, 8, 4, 2, 1, 6].into_iter());
    sum % 11 == check
}
