//! The words of one simple command, quoted as for a POSIX shell or bash (which is what browsers copy).

/// Splits a command into words.
///
/// # Errors
/// What a shell would do beyond quoting (variables, pipes, substitutions), and quotes that do not end.
pub(super) fn words(command: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut shell = Shell { rest: command.chars().peekable(), words: Vec::new(), word: None };
    shell.run()?;
    Ok(shell.words)
}

struct Shell<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    words: Vec<Vec<u8>>,
    /// The word being read; an empty one is a word too once it was quoted.
    word: Option<Vec<u8>>,
}

impl Shell<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(character) = self.rest.next() {
            match character {
                ' ' | '\t' | '\n' | '\r' => self.words.extend(self.word.take()),
                '\\' => match self.rest.next() {
                    Some('\n') | None => {}
                    Some('\r') if self.rest.next_if_eq(&'\n').is_some() => {}
                    Some(other) => self.push(other),
                },
                '\'' => self.single()?,
                '"' => self.double()?,
                '$' if self.rest.next_if_eq(&'\'').is_some() => self.ansi()?,
                '$' if self.rest.next_if_eq(&'"').is_some() => self.double()?,
                '^' if self.rest.peek() == Some(&'"') => {
                    return Err("this is quoted for cmd.exe; copy it as cURL for bash".to_owned());
                }
                '$' if self.names_variable() => return Err(not_plain("$")),
                '`' | '|' | ';' | '<' | '>' | '(' | ')' => {
                    return Err(not_plain(character.encode_utf8(&mut [0; 4])));
                }
                '&' => return Err(not_plain("&")),
                other => self.push(other),
            }
        }
        self.words.extend(self.word.take());
        Ok(())
    }

    fn push(&mut self, character: char) {
        let word = self.word.get_or_insert_default();
        word.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }

    fn names_variable(&mut self) -> bool {
        self.rest.peek().is_some_and(|next| next.is_ascii_alphanumeric() || "_{(@*#?!$-".contains(*next))
    }

    fn single(&mut self) -> Result<(), String> {
        self.word.get_or_insert_default();
        loop {
            match self.rest.next() {
                Some('\'') => return Ok(()),
                Some(other) => self.push(other),
                None => return Err("a quote ' does not end".to_owned()),
            }
        }
    }

    fn double(&mut self) -> Result<(), String> {
        self.word.get_or_insert_default();
        loop {
            match self.rest.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.rest.next() {
                    Some('\n') => {}
                    Some(escaped @ ('"' | '\\' | '$' | '`')) => self.push(escaped),
                    Some(other) => {
                        self.push('\\');
                        self.push(other);
                    }
                    None => return Err("a quote \" does not end".to_owned()),
                },
                Some('$') if self.names_variable() => return Err(not_plain("$")),
                Some('`') => return Err(not_plain("`")),
                Some(other) => self.push(other),
                None => return Err("a quote \" does not end".to_owned()),
            }
        }
    }

    /// `$'…'`, bash's ANSI-C quoting.
    fn ansi(&mut self) -> Result<(), String> {
        self.word.get_or_insert_default();
        let unended = || "a quote $' does not end".to_owned();
        loop {
            match self.rest.next().ok_or_else(unended)? {
                '\'' => return Ok(()),
                '\\' => {
                    let escape = self.rest.next().ok_or_else(unended)?;
                    self.escape(escape);
                }
                other => self.push(other),
            }
        }
    }

    fn escape(&mut self, escape: char) {
        let byte = match escape {
            'a' => 7,
            'b' => 8,
            'e' | 'E' => 27,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            'x' => return self.number(0, 16, 2, 'x'),
            'u' => return self.character(4, 'u'),
            'U' => return self.character(8, 'U'),
            '0'..='7' => return self.number(escape.to_digit(8).unwrap_or(0), 8, 2, escape),
            '\\' | '\'' | '"' | '?' => return self.push(escape),
            other => {
                self.push('\\');
                return self.push(other);
            }
        };
        self.word.get_or_insert_default().push(byte);
    }

    /// A byte in digits; without any, the escape as it stands.
    fn number(&mut self, start: u32, radix: u32, most: usize, escape: char) {
        match self.digits(start, radix, most) {
            // Octal escapes above \377 lose their high bits, as in bash.
            Some(byte) => self.word.get_or_insert_default().push((byte & 0xff) as u8),
            None if radix == 8 => self.word.get_or_insert_default().push(start as u8),
            None => {
                self.push('\\');
                self.push(escape);
            }
        }
    }

    fn character(&mut self, most: usize, escape: char) {
        match self.digits(0, 16, most) {
            Some(code) => self.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
            None => {
                self.push('\\');
                self.push(escape);
            }
        }
    }

    fn digits(&mut self, start: u32, radix: u32, most: usize) -> Option<u32> {
        let mut value = None;
        for _ in 0..most {
            let digit = self.rest.peek().and_then(|next| next.to_digit(radix));
            let Some(digit) = digit else { break };
            self.rest.next();
            value = Some(value.unwrap_or(start).wrapping_mul(radix).wrapping_add(digit));
        }
        value
    }
}

fn not_plain(character: &str) -> String {
    format!("`{character}` would be for a shell to carry out: give one plain command, and quote what is text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(command: &str) -> Vec<String> {
        words(command).unwrap().iter().map(|word| word.escape_ascii().to_string()).collect()
    }

    /// Cases of POSIX XCU 2.2 and of bash's manual, 3.1.2.4.
    #[test]
    fn quoting() {
        assert_eq!(split("a  b\t'c d' \"e f\" g\\ h"), ["a", "b", "c d", "e f", "g h"]);
        assert_eq!(split("'it'\\''s' '' a\"b\"'c'"), ["it\\'s", "", "abc"]);
        assert_eq!(split("a \\\n b \\\r\n c"), ["a", "b", "c"]);
        assert_eq!(split(r#""\"\\\$\`\n""#), [r#"\"\\$`\\n"#]);
        assert_eq!(split(r"$'a\n\t\'\\\x41\101\u00e9\u0021\q'"), [r"a\n\t\'\\AA\xc3\xa9!\\q"]);
        assert_eq!(split(r"$'\xff\0\x'"), [r"\xff\x00\\x"]);
        assert_eq!(split("100$ a$"), ["100$", "a$"]);
        for (command, said) in [
            ("a 'b", "'"),
            ("a \"b", "\""),
            ("a $'b", "$'"),
            ("a | b", "`|`"),
            ("a $HOME", "`$`"),
            ("a \"$(id)\"", "`$`"),
            ("a & b", "`&`"),
            ("curl ^\"http://x^\"", "bash"),
        ] {
            assert!(words(command).unwrap_err().contains(said), "{command}");
        }
    }
}
