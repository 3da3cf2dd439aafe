//! Bodies of answers as they are every day: what searches through them are measured with.

use std::fmt::Write as _;

/// English as it is written in this repository.
const ENGLISH: &str = include_str!("../../../docs/operations.md");

/// Numbers that look like chance and are the same every time (Marsaglia, "Xorshift RNGs", 2003).
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }
}

/// Ordinary bodies of `size` bytes, by name: a list of records in JSON (which is what `tests/bench` serves), JSON of an
/// application (identifiers, times, addresses, text), HTML, English, tables of numbers, base64 and bytes by chance.
pub fn ordinary_bodies(size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let words: Vec<&str> = ENGLISH.split_whitespace().filter(|word| word.is_ascii()).collect();
    let text = |chance: &mut Chance, count: u64| {
        let from = chance.next(words.len() as u64 - count) as usize;
        let words = &words[from..from + count as usize];
        words.join(" ").replace(['"', '\\', '<', '>', '&', '|'], "")
    };
    let mut bodies: Vec<(&'static str, String)> =
        ["records", "json", "html", "english", "numbers", "base64"].map(|name| (name, String::new())).into();
    for (name, body) in &mut bodies {
        while body.len() < size {
            let number = chance.next(100_000);
            let written = match *name {
                "records" => write!(
                    body,
                    r#"{{"id": 48121, "name": "blue cotton shirt", "price": {{"amount": 19.9, "currency": "EUR"}}, "stock": 12}}, "#
                ),
                "json" => write!(
                    body,
                    r#"{{"id":"{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}","createdAt":"2026-{:02}-{:02}T{:02}:{:02}:07.{:03}Z","url":"https://www.example.com/api/v2/orders/{number}?page={}","total":{}.{:02},"customer":{{"firstName":"{}","email":"user{number}@example.org","isActive":true,"tags":["new_customer","{}"]}},"note":"{}\n{}","items_count":{},"parent":null}},"#,
                    chance.next(1 << 32),
                    chance.next(1 << 16),
                    chance.next(1 << 12),
                    chance.next(1 << 12),
                    chance.next(1 << 48),
                    chance.next(12) + 1,
                    chance.next(28) + 1,
                    chance.next(24),
                    chance.next(60),
                    chance.next(1000),
                    chance.next(50),
                    chance.next(5000),
                    chance.next(100),
                    text(&mut chance, 1),
                    text(&mut chance, 1),
                    text(&mut chance, 12),
                    text(&mut chance, 9),
                    chance.next(20),
                ),
                "html" => write!(
                    body,
                    "\t<div class=\"card card-body mt-{}\" id=\"item-{number}\">\n\t\t<h2><a href=\"/products/{number}/details.html\">{}</a></h2>\n        <p style=\"color: #{:06x}; margin: 0 auto;\">{}</p>\n\t\t<img src=\"/static/img/{number}.png\" alt=\"{}\" width=\"{}\">\n\t</div>\n",
                    chance.next(6),
                    text(&mut chance, 3),
                    chance.next(1 << 24),
                    text(&mut chance, 30),
                    text(&mut chance, 2),
                    chance.next(900),
                ),
                "english" => write!(body, "{}. ", text(&mut chance, 40)),
                "numbers" => write!(
                    body,
                    "{number},2026-{:02}-{:02} {:02}:{:02}:{:02},{}.{:04},-{}.{},{},{:.3e}\r\n",
                    chance.next(12) + 1,
                    chance.next(28) + 1,
                    chance.next(24),
                    chance.next(60),
                    chance.next(60),
                    chance.next(10_000),
                    chance.next(10_000),
                    chance.next(200),
                    chance.next(100),
                    chance.next(10_000_000_000),
                    chance.next(1 << 40) as f64,
                ),
                _ => {
                    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                    body.push(alphabet[chance.next(64) as usize].into());
                    Ok(())
                }
            };
            written.expect("a string takes anything");
        }
    }
    let mut bodies: Vec<_> = bodies.into_iter().map(|(name, body)| (name, body.into_bytes())).collect();
    bodies.push(("binary", (0..size).map(|_| chance.next(256) as u8).collect()));
    bodies.iter_mut().for_each(|(_, body)| body.truncate(size));
    bodies
}
