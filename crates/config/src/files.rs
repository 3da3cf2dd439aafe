//! Rule files by glob.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::model::{Config, Firewall};

/// The rule files that a configuration names, as far as it can be read: mistakes in rules can then be told together
/// with those that keep the configuration from being read as a whole. What is wrong here is left out; [`load`] says it.
///
/// [`load`]: crate::load
#[must_use]
pub fn rule_files(path: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let (document, _) = DeTable::parse_recoverable(&text);
    let named = document.get_ref().get("firewall").and_then(|table| table.get_ref().get("rules"));
    let patterns = match named.map(|value| value.get_ref()) {
        None => Firewall::default().rules,
        Some(DeValue::Array(items)) => {
            items.iter().filter_map(|item| item.get_ref().as_str().map(str::to_owned)).collect()
        }
        Some(_) => Vec::new(),
    };
    let base = path.parent().unwrap_or(Path::new(""));
    let mut files: Vec<PathBuf> = Vec::new();
    for file in patterns.iter().filter_map(|pattern| expand(base, pattern).ok()).flatten() {
        if !files.contains(&file) {
            files.push(file);
        }
    }
    files
}

impl Config {
    /// The rule files of `firewall.rules`, in the order they load: globs in the order of the configuration,
    /// the files of a glob by name, each file once.
    ///
    /// # Errors
    /// Says which glob matches nothing or cannot be read.
    pub fn rule_files(&self) -> Result<Vec<PathBuf>, String> {
        self.expand_rules(&self.firewall.rules)
    }

    /// The same for `firewall.shadow.rules`; `None` where the shadow runs the rules in force, or there is none.
    ///
    /// # Errors
    /// As [`Config::rule_files`].
    pub fn shadow_rule_files(&self) -> Result<Option<Vec<PathBuf>>, String> {
        let rules = self.firewall.shadow.as_ref().and_then(|shadow| shadow.rules.as_deref());
        rules.map(|rules| self.expand_rules(rules)).transpose()
    }

    fn expand_rules(&self, patterns: &[String]) -> Result<Vec<PathBuf>, String> {
        let mut files = Vec::new();
        for pattern in patterns {
            for file in expand(&self.base, pattern).map_err(|error| format!("`{pattern}`: {error}"))? {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// The files that a glob matches, sorted by name. Only the last part of the path may hold `*` and `?`; as in
/// the shell, they do not match a leading dot.
pub(crate) fn expand(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let full = base.join(pattern);
    let (Some(folder), Some(name)) = (full.parent(), full.file_name().and_then(|name| name.to_str())) else {
        return Err("this names no file".to_owned());
    };
    if folder.to_string_lossy().contains(['*', '?']) {
        return Err("`*` and `?` may only stand in the last part of the path".to_owned());
    }
    if !name.contains(['*', '?']) {
        return if full.is_file() { Ok(vec![full]) } else { Err("there is no such file".to_owned()) };
    }
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            entry.file_name().to_str().is_some_and(|entry| !entry.starts_with('.') && matches(name, entry))
        })
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    if files.is_empty() { Err("the glob matches no file".to_owned()) } else { Ok(files) }
}

/// Whether a glob of `*` and `?` matches a whole name; linear in the product of the lengths.
fn matches(glob: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    // reachable: which prefixes of the name the glob read so far can match.
    let mut reachable = vec![false; name.len() + 1];
    if let Some(start) = reachable.first_mut() {
        *start = true;
    }
    for wanted in glob.chars() {
        let mut next = Vec::with_capacity(reachable.len());
        for length in 0..=name.len() {
            let here = reachable.get(length).copied().unwrap_or(false);
            let shorter = length.checked_sub(1);
            let before = shorter.and_then(|at| reachable.get(at)).copied().unwrap_or(false);
            let last = shorter.and_then(|at| name.get(at)).copied();
            next.push(match wanted {
                '*' => here || next.last().copied().unwrap_or(false),
                '?' => before,
                _ => before && last == Some(wanted),
            });
        }
        reachable = next;
    }
    reachable.last().copied().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, name, is_match) in [
            ("*.conf", "a.conf", true),
            ("*.conf", ".conf", true),
            ("*.conf", "a.conf.bak", false),
            ("a?c*", "abcd", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("a*b*c", "aXbYbc", true),
        ] {
            assert_eq!(matches(glob, name), is_match, "{glob} {name}");
        }
    }

    #[test]
    fn a_broken_configuration_still_names_its_rules() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.toml");
        for name in ["a.conf", "b.conf"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        for (text, count) in [
            ("[firewall]\nrules = [\"b.conf\", 1, \"*.conf\", \"absent\"]\nother = ?\n", 2),
            ("firewall = { rules = \"a.conf\" }", 0),
            ("firewall = 1", 0),
            ("", 0),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(rule_files(&path).len(), count, "{text}");
        }
        assert!(rule_files(&folder.path().join("absent.toml")).is_empty());
    }

    #[test]
    fn files_come_once_and_by_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.data"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let mut config = Config { base: folder.path().to_owned(), ..Config::default() };
        config.firewall.rules = vec!["b.conf".to_owned(), "*.conf".to_owned()];
        let names: Vec<_> =
            config.rule_files().unwrap().iter().map(|file| file.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["b.conf", "a.conf"]);
        config.firewall.rules = vec!["*.rules".to_owned()];
        assert_eq!(config.rule_files().unwrap_err(), "`*.rules`: the glob matches no file");
    }
}
