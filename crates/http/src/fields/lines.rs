//! Fields as lines: copied and written together where they stand together.

use super::{BETWEEN, END, Fields, Item, Span};
use std::ops::Range;

impl Fields {
    /// Appends those fields of another message whose names are wanted.
    pub fn append_from(&mut self, other: &Fields, mut wanted: impl FnMut(&[u8]) -> bool) {
        self.make_room(other.buffer.len());
        let mut run = 0..0;
        for item in &other.items {
            let name = other.text(item.name);
            if !wanted(name) {
                continue;
            }
            let Some(line) = Self::line(item) else {
                self.copy(other, &mut run);
                self.append_line(name, other.text(item.value));
                continue;
            };
            if line.start != run.end {
                self.copy(other, &mut run);
                run = line.start..line.start;
            }
            let span =
                |span: Span| Span::new(self.buffer.len() + span.start() - run.start, span.len as usize);
            let item = Item { name: span(item.name), value: span(item.value), line: true };
            self.items.push(item);
            run.end = line.end;
        }
        self.copy(other, &mut run);
        self.names |= other.names;
    }

    /// Copies a part of another message's buffer, which leaves none.
    fn copy(&mut self, other: &Fields, part: &mut Range<usize>) {
        self.buffer.extend_from_slice(other.buffer.get(part.clone()).unwrap_or_default());
        *part = 0..0;
    }

    /// Writes the fields as lines of a message: name, colon, space, value, CRLF (RFC 9112 §5).
    pub fn write_lines(&self, out: &mut Vec<u8>) {
        let mut run = 0..0;
        let put = |part: &mut Range<usize>, out: &mut Vec<u8>| {
            out.extend_from_slice(self.buffer.get(part.clone()).unwrap_or_default());
            *part = 0..0;
        };
        for item in &self.items {
            let Some(line) = Self::line(item) else {
                put(&mut run, out);
                for part in [self.text(item.name), BETWEEN, self.text(item.value), END] {
                    out.extend_from_slice(part);
                }
                continue;
            };
            if line.start != run.end {
                put(&mut run, out);
                run.start = line.start;
            }
            run.end = line.end;
        }
        put(&mut run, out);
    }

    /// Where a field stands in the buffer as a line.
    fn line(item: &Item) -> Option<Range<usize>> {
        item.line.then(|| item.name.start()..item.value.end() + END.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Whatever was appended, removed and copied: what is found, and what is written, is what iterating shows.
        #[test]
        fn lines_are_what_the_fields_are(
            read in proptest::collection::vec(("[a-cX-Z_]{1,2}", " ?\t?", "[a-z\u{e9}]{0,3}", " ?"), 0..6),
            own in proptest::collection::vec(("[a-cX-Z_]{1,2}", "[a-z]{0,3}"), 0..4),
            gone in "[a-cX-Z_]{1,2}",
            unwanted in "[a-cX-Z_]{1,2}",
        ) {
            let mut fields = Fields::default();
            fields.intern(b"GET");
            let mut text = String::new();
            let mut places = Vec::new();
            for (name, before, value, behind) in &read {
                let start = text.len();
                text += &format!("{name}:{before}{value}{behind}\r\n");
                let from = start + name.len() + 1 + before.len();
                places.push((start..start + name.len(), from..from + value.len(), !name.contains('_')));
            }
            let mut block = fields.block(text.as_bytes());
            for (name, value, plain) in places {
                block.append(name, value, plain);
            }
            block.end(text.len());
            own.iter().for_each(|(name, value)| fields.append(name, value).unwrap());
            fields.remove(&gone);
            let mut copy = Fields::default();
            copy.append("first", "1").unwrap();
            copy.append_from(&fields, |name| !name.eq_ignore_ascii_case(unwanted.as_bytes()));
            let all = read.iter().map(|(name, _, value, _)| (name, value)).chain(own.iter().map(|(n, v)| (n, v)));
            let left: Vec<_> = all.filter(|(name, _)| !name.eq_ignore_ascii_case(&gone)).collect();
            let lines = |fields: &Fields| {
                let mut out = Vec::new();
                fields.write_lines(&mut out);
                String::from_utf8(out).unwrap()
            };
            let expected = |unwanted: &str| {
                let wanted = left.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(unwanted));
                wanted.map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>()
            };
            proptest::prop_assert_eq!(lines(&fields), expected(""));
            proptest::prop_assert_eq!(lines(&copy), format!("first: 1\r\n{}", expected(&unwanted)));
            proptest::prop_assert!(fields.iter().eq(left.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()))));
            for (name, value) in &left {
                let first = left.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).unwrap().1;
                proptest::prop_assert_eq!(fields.get(name.to_ascii_lowercase()), Some(first.as_bytes()));
                proptest::prop_assert!(fields.get_all(name.to_ascii_uppercase()).any(|v| v == value.as_bytes()));
            }
            proptest::prop_assert!(!fields.contains(&gone));
            proptest::prop_assert!(!fields.is_plainly_named() || left.iter().all(|(name, _)| !name.contains('_')));
        }
    }
}
