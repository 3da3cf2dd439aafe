//! What ships in `docs/` and `gateway.toml` is what the types say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use portcullis_config::{Loaded, load, parse, reference, schema};
use portcullis_diag::SourceMap;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares a file with what is generated; `UPDATE=1` writes it.
fn same(file: &str, generated: &str) {
    let path = root().join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, generated).unwrap();
    }
    let shipped = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shipped == generated,
        "{file} is not what the types say; run `UPDATE=1 cargo test -p portcullis-config --test docs`"
    );
}

#[test]
fn the_reference_page_is_generated() {
    same("docs/configuration.md", &reference());
}

#[test]
fn the_schema_is_generated() {
    same("docs/gateway.schema.json", &(serde_json::to_string_pretty(&schema()).unwrap() + "\n"));
}

fn shipped(env: impl Fn(&str) -> Option<String>) -> Result<Loaded, String> {
    let mut sources = SourceMap::new();
    let copy = tempfile::tempdir().unwrap();
    // The rule files are another crate's business: here it is enough that there is one.
    std::fs::create_dir(copy.path().join("rules")).unwrap();
    std::fs::write(copy.path().join("rules/any.conf"), "").unwrap();
    let text = std::fs::read_to_string(root().join("gateway.toml")).unwrap();
    std::fs::write(copy.path().join("gateway.toml"), text).unwrap();
    load(&copy.path().join("gateway.toml"), &mut sources, &env).map_err(|found| found.to_text(&sources))
}

#[test]
fn the_shipped_file_loads_without_any_environment() {
    let loaded = shipped(|_| None).unwrap_or_else(|text| panic!("{text}"));
    let config = &loaded.config;
    assert_eq!(config.listener[0].address.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:9090");
    let addresses: Vec<_> =
        config.upstream.iter().map(|(name, one)| format!("{name} {}", one.endpoints[0].address)).collect();
    assert_eq!(
        addresses,
        ["catalogue 127.0.0.1:8081", "entitlement 127.0.0.1:8083", "pricing 127.0.0.1:8082"]
    );
    let routes: Vec<_> = config.route.iter().map(|route| route.matches.path.as_str()).collect();
    assert_eq!(
        routes,
        [
            "/api/titles/{id}",
            "/api/search",
            "/api/reviews",
            "/api/catalogue/{*rest}",
            "/api/prices/{*rest}",
            "/api/entitlements/{*rest}"
        ]
    );
    // The one thing it warns of is its own signing key.
    let warnings: Vec<_> = loaded.warnings.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(warnings, ["the secret `identity.demo.keys[0].secret` stands in the file"]);
}

#[test]
fn the_shipped_signing_key_is_refused_on_an_open_listener() {
    let open = |name: &str| (name == "PORTCULLIS_LISTEN").then(|| "0.0.0.0:8080".to_owned());
    let text = shipped(open).unwrap_err();
    assert!(text.contains("CFG0013") && text.contains("open to other machines"), "{text}");
    let own = |name: &str| match name {
        "PORTCULLIS_LISTEN" => Some("0.0.0.0:8080".to_owned()),
        "PORTCULLIS_DEMO_SECRET" => Some("k".repeat(32)),
        _ => None,
    };
    assert!(shipped(own).unwrap().warnings.is_empty());
}

#[test]
fn the_shipped_file_names_the_schema() {
    let text = std::fs::read_to_string(root().join("gateway.toml")).unwrap();
    assert_eq!(text.lines().next(), Some("#:schema docs/gateway.schema.json"));
}

/// The pieces of configuration that a page shows.
fn examples(page: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
    let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.filter(|block| !block.starts_with("[[endpoints]]")).collect()
}

fn table<'t>(parent: &'t mut toml::Table, key: &str) -> &'t mut toml::Table {
    parent.entry(key).or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap()
}

/// Adds what an example leaves out since it is not about that: a listener, a route, the endpoints of its upstreams.
fn completed(example: &str) -> String {
    // A table of a route stands behind the route that it belongs to.
    let route = "[[route]]\nname = \"any\"\nmatch.path = \"/any/{*rest}\"\nupstream = \"any\"\n";
    let is_inside = example.starts_with("[route.");
    let mut document: toml::Table =
        format!("{}{example}", if is_inside { route } else { "" }).parse().unwrap();
    let listener: toml::Table = "name = \"any\"\naddress = \"127.0.0.1:8080\"".parse().unwrap();
    document.entry("listener").or_insert_with(|| vec![toml::Value::Table(listener)].into());
    let mut named: Vec<String> = Vec::new();
    let routes = document.get("route").and_then(toml::Value::as_array).into_iter().flatten();
    for route in routes {
        named.extend(route.get("upstream").map(|name| name.as_str().unwrap().to_owned()));
        let canaries = route.get("canary").and_then(toml::Value::as_array).into_iter().flatten();
        for other in canaries.chain(route.get("mirror")) {
            named.extend(other.get("upstream").map(|name| name.as_str().unwrap().to_owned()));
        }
    }
    let upstreams = table(&mut document, "upstream");
    for name in named {
        table(upstreams, &name);
    }
    for (port, (_, upstream)) in (1..).zip(upstreams.iter_mut()) {
        let upstream = upstream.as_table_mut().unwrap();
        if !upstream.contains_key("discovery") {
            let endpoint: toml::Table = format!("address = \"localhost:{port}\"").parse().unwrap();
            upstream.entry("endpoints").or_insert_with(|| vec![toml::Value::Table(endpoint)].into());
        }
    }
    document.to_string()
}

#[test]
fn every_example_of_the_pages_is_one() {
    let (mut count, mut wrong) = (0, Vec::new());
    for page in ["upstreams.md", "operations.md", "security.md"] {
        for example in examples(page) {
            count += 1;
            let text = completed(&example);
            let mut sources = SourceMap::new();
            if let Err(found) = parse("example.toml", &text, &mut sources, &|_: &str| None) {
                wrong.push(format!("docs/{page}:\n{example}\n{}", found.to_text(&sources)));
            }
        }
    }
    assert!(count >= 16, "{count}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
