//! `gateway.toml`.

use portcullis_diag::{RenderOptions, SourceMap, render};

/// What stands for a secret here. It is no text that a message of ours could hold by itself.
const SECRET: &str = "Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7Zq7";

/// A configuration of any bytes is read or refused; findings point into the text and can be shown, and a signing key
/// in it is not in what is shown.
pub fn toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    findings(text);
    let key = format!("\n[[identity.fuzz.keys]]\nalgorithm = \"HS256\"\nsecret = \"{SECRET}\"\n");
    let shown = findings(&format!("{text}{key}"));
    assert!(text.contains("Zq7") || !shown.contains(SECRET), "a finding shows a signing key:\n{shown}");
}

/// All findings as they are printed.
fn findings(text: &str) -> String {
    let mut sources = SourceMap::new();
    let env = |name: &str| (name == "A").then(|| "value".to_owned());
    let found = match portcullis_config::parse("gateway.toml", text, &mut sources, &env) {
        Ok(loaded) => loaded.warnings,
        Err(found) => {
            assert!(found.has_errors(), "refused without a reason");
            found
        }
    };
    let length = text.strip_prefix('\u{feff}').unwrap_or(text).len();
    for span in found.iter().flat_map(|one| one.span.into_iter().chain(one.labels.iter().map(|l| l.span))) {
        let range = span.range();
        assert!(range.start <= range.end && range.end <= length, "{range:?} is outside");
    }
    render(found.iter(), &sources, RenderOptions::default())
}
