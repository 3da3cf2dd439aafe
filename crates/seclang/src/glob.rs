//! Shell patterns for one component of a path: `*`, `?`, `[abc]`, `[a-z]`, `[!a]`.

/// Whether a component holds a pattern character.
pub(crate) fn is_pattern(component: &str) -> bool {
    component.contains(['*', '?', '['])
}

/// Whether `name` matches `pattern`. As in a shell, a leading dot must be written out.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    // The usual two pointers: on a mismatch go back to the last star and let it take one more.
    let (mut at, mut pos) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(character) = name.get(pos) {
        match one(pattern.get(at..).unwrap_or(&[]), *character) {
            Step::Star => {
                star = Some((at + 1, pos));
                at += 1;
            }
            Step::Matched(length) => {
                at += length;
                pos += 1;
            }
            Step::Failed => {
                let Some((after, taken)) = star else { return false };
                star = Some((after, taken + 1));
                at = after;
                pos = taken + 1;
            }
        }
    }
    pattern.get(at..).unwrap_or(&[]).iter().all(|rest| *rest == '*')
}

enum Step {
    Star,
    /// The element at the front, so many characters long, takes the character.
    Matched(usize),
    Failed,
}

fn one(pattern: &[char], character: char) -> Step {
    match pattern {
        ['*', ..] => Step::Star,
        ['?', ..] => Step::Matched(1),
        ['[', class @ ..] => match class_matches(class, character) {
            Some((true, length)) => Step::Matched(length + 1),
            Some((false, _)) => Step::Failed,
            // No closing bracket: an ordinary character.
            None if character == '[' => Step::Matched(1),
            None => Step::Failed,
        },
        [literal, ..] if *literal == character => Step::Matched(1),
        _ => Step::Failed,
    }
}

/// Whether a class (after its `[`) holds the character, and its length up to and with the `]`.
fn class_matches(class: &[char], character: char) -> Option<(bool, usize)> {
    let negated = matches!(class, ['!' | '^', ..]);
    let start = usize::from(negated);
    // A `]` right at the start is a member.
    let length = class.iter().skip(start + 1).position(|c| *c == ']')? + start + 1;
    let mut members = class.get(start..length)?;
    let mut found = false;
    while let Some((first, rest)) = members.split_first() {
        match rest {
            ['-', last, rest @ ..] => {
                found |= (*first..=*last).contains(&character);
                members = rest;
            }
            _ => {
                found |= *first == character;
                members = rest;
            }
        }
    }
    Some((found != negated, length + 1))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn shell_patterns() {
        let cases = [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.example", false),
            ("*.conf", ".hidden.conf", false),
            (".*", ".hidden", true),
            ("REQUEST-9??-*.conf", "REQUEST-942-SQLI.conf", true),
            ("REQUEST-9??-*.conf", "REQUEST-94-SQLI.conf", false),
            ("[a-c]*", "beta", true),
            ("[!a-c]*", "beta", false),
            ("[]x]", "]", true),
            ("[x", "[x", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
