//! Cross-origin resource sharing, asked for as browsers ask: `Page::fetch` does what the Fetch standard says of a
//! cross-origin request (sections 3.3, 4.8, 4.9), and the cases are after web-platform-tests' `fetch/api/cors`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use portcullis_testkit::{Answer, Gateway, H2Client, Origin, RawClient, Response, request, suite};

const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// An upstream that would share everything with everybody, were it asked.
fn upstream() -> Origin {
    Origin::start(|_| {
        Answer::status(200)
            .header("access-control-allow-origin", "https://evil.test")
            .header("access-control-allow-credentials", "true")
            .header("Access-Control-Expose-Headers", "x-inner")
            .header("vary", "accept-encoding")
            .header("x-total", "3")
            .body("{}")
    })
}

fn gateway(origin: &Origin) -> Gateway {
    let upstream = origin.address();
    let builder = Gateway::builder(BINARY).env("CORS_KEY", "a-secret-of-this-test-that-is-long-enough");
    builder.start(|ports| {
        let route = |name: &str, rest: &str| {
            format!("[[route]]\nname = \"{name}\"\nmatch.path = \"/{name}\"\nupstream = \"origin\"\n{rest}\n")
        };
        let named = r#"origins = ["https://app.test", "http://localhost:3000", "https://*.apps.test"]"#;
        [
            format!(
                r#"
                admin.listen = "{}"
                log.format = "json"
                firewall.mode = "off"
                [[listener]]
                name = "public"
                address = "{}"
                [upstream.origin]
                endpoints = [{{ address = "{upstream}" }}]
                [identity.i]
                issuer = "i"
                audiences = ["a"]
                algorithms = ["HS256"]
                keys = [{{ algorithm = "HS256", secret = "${{CORS_KEY}}" }}]
                "#,
                ports.admin, ports.public
            ),
            route(
                "named",
                &format!(
                    "[route.cors]\n{named}\nmethods = [\"GET\", \"PUT\", \"PROPFIND\"]\nheaders = [\"X-Test\", \"authorization\"]\n\
                     expose_headers = [\"x-total\"]\ncredentials = true\nmax_age = \"10m\""
                ),
            ),
            route("any", "[route.cors]\norigins = [\"*\"]\nmethods = [\"*\"]\nheaders = [\"*\"]\nexpose_headers = [\"*\"]"),
            route("any-token", "[route.cors]\norigins = [\"*\"]\nheaders = [\"*\", \"authorization\"]"),
            route("null", "cors.origins = [\"null\", \"https://app.test\"]"),
            route("plain", ""),
            route("guarded", &format!("auth.providers = [\"i\"]\ncors = {{ {named}, headers = [\"authorization\"] }}")),
            route("slow", &format!("rate_limit = [{{ rate = \"1/h\" }}]\ncors = {{ {named} }}")),
            route("inside", &format!("addresses.allow = [\"10.0.0.0/8\"]\ncors = {{ {named} }}")),
            route("down", &format!("cors = {{ {named} }}")).replace("\"origin\"", "\"down\""),
            "[upstream.down]\nendpoints = [{ address = \"127.0.0.1:1\" }]\n".to_owned(),
            // One path, shared by method.
            route("read", &format!("cors = {{ {named} }}"))
                .replace("match.path = \"/read\"", "match = { path = \"/items/{id}\", methods = [\"GET\"] }"),
            route("write", "cors.origins = [\"https://admin.test\"]")
                .replace("match.path = \"/write\"", "match = { path = \"/items/{id}\", methods = [\"PUT\", \"PATCH\"] }"),
            route("version", "cors.origins = [\"https://v2.test\"]").replace(
                "match.path = \"/version\"",
                "match = { path = \"/items/{id}\", methods = [\"PUT\"], headers = [{ name = \"x-v\", value = \"2\" }] }",
            ),
            route("strict", "").replace("match.path = \"/strict\"", "match = { path = \"/strict\", methods = [\"GET\"] }"),
            format!(
                "[[route]]\nname = \"composed\"\nmatch = {{ path = \"/composed\", methods = [\"GET\"] }}\ncors = {{ {named} }}\n\
                 compose = {{ part = [{{ name = \"a\", upstream = \"origin\", path = \"/a\" }}] }}\n"
            ),
        ]
        .concat()
    })
}

/// All values of a field.
fn values(response: &Response, name: &str) -> Vec<String> {
    let head = String::from_utf8_lossy(&response.head).into_owned();
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let values = fields
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned());
    values.collect()
}

/// The members of a list field, in lower case.
fn members(response: &Response, name: &str) -> Vec<String> {
    let lines = values(response, name);
    let members = lines.iter().flat_map(|line| line.split(','));
    members.map(|member| member.trim().to_ascii_lowercase()).filter(|member| !member.is_empty()).collect()
}

/// A page in a browser.
#[derive(Clone, Copy)]
struct Page<'a> {
    gateway: &'a Gateway,
    origin: &'a str,
    /// Whether its requests carry credentials (`credentials: "include"`).
    credentials: bool,
}

impl Page<'_> {
    /// What the page gets to see of a request, or why the browser makes it a network error.
    fn fetch(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Result<Response, &'static str> {
        let safe_method = matches!(method, "GET" | "HEAD" | "POST");
        let mut unsafe_names: Vec<String> = fields
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .filter(|name| !matches!(name.as_str(), "accept" | "accept-language" | "content-language"))
            .collect();
        unsafe_names.sort();
        if !safe_method || !unsafe_names.is_empty() {
            self.preflight(method, path, &unsafe_names)?;
        }
        let mut lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        lines.push(format!("Origin: {}", self.origin));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let response = request(self.gateway.public(), &format!("{method} {path}"), &lines, "");
        self.check(&response)?;
        Ok(response)
    }

    fn preflight(&self, method: &str, path: &str, names: &[String]) -> Result<Response, &'static str> {
        let response = preflight(self.gateway, path, self.origin, method, &names.join(","));
        self.check(&response)?;
        if !(200..300).contains(&response.status()) {
            return Err("preflight status");
        }
        let star = |list: &[String]| !self.credentials && list.iter().any(|one| one == "*");
        // Methods are compared with their case.
        let methods: Vec<String> = values(&response, "access-control-allow-methods")
            .iter()
            .flat_map(|line| line.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>())
            .collect();
        let safe = matches!(method, "GET" | "HEAD" | "POST");
        if !safe && !star(&methods) && !methods.iter().any(|one| one == method) {
            return Err("method");
        }
        let headers = members(&response, "access-control-allow-headers");
        for name in names {
            let covered = headers.contains(name) || (star(&headers) && name != "authorization");
            if !covered {
                return Err("header");
            }
        }
        Ok(response)
    }

    /// The standard's CORS check.
    fn check(&self, response: &Response) -> Result<(), &'static str> {
        let origin = values(response, "access-control-allow-origin");
        match origin.as_slice() {
            [] => return Err("no origin"),
            [one] if one == "*" && !self.credentials => return Ok(()),
            [one] if one == self.origin => {}
            _ => return Err("origin"),
        }
        if self.credentials && values(response, "access-control-allow-credentials") != ["true"] {
            return Err("credentials");
        }
        Ok(())
    }
}

fn preflight(gateway: &Gateway, path: &str, origin: &str, method: &str, names: &str) -> Response {
    let mut fields = vec![format!("Origin: {origin}"), format!("Access-Control-Request-Method: {method}")];
    if !names.is_empty() {
        fields.push(format!("Access-Control-Request-Headers: {names}"));
    }
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    request(gateway.public(), &format!("OPTIONS {path}"), &fields, "")
}

#[test]
fn a_page_sees_what_the_fetch_standard_lets_it_see() {
    const APP: &str = "https://app.test";
    const X_TEST: &[(&str, &str)] = &[("X-Test", "1")];
    const TOKEN: &[(&str, &str)] = &[("Authorization", "Bearer x")];
    const NOTHING: &[(&str, &str)] = &[];
    let origin = upstream();
    let gateway = gateway(&origin);
    let cases = [
        // cors-basic, cors-origin: the same host with another port, scheme or name is another origin.
        ("/named", APP, true, "GET", NOTHING, Ok(())),
        ("/named", APP, false, "GET", NOTHING, Ok(())),
        ("/named", "http://localhost:3000", true, "POST", NOTHING, Ok(())),
        ("/named", "https://a.b.apps.test", true, "HEAD", NOTHING, Ok(())),
        ("/named", "https://app.test:8443", false, "GET", NOTHING, Err("no origin")),
        ("/named", "http://app.test", false, "GET", NOTHING, Err("no origin")),
        ("/named", "http://localhost", false, "GET", NOTHING, Err("no origin")),
        ("/named", "https://apps.test", false, "GET", NOTHING, Err("no origin")),
        ("/named", "https://evil.test", true, "GET", NOTHING, Err("no origin")),
        ("/named", "https://app.test.evil.test", false, "GET", NOTHING, Err("no origin")),
        ("/named", "https://evilapps.test", false, "GET", NOTHING, Err("no origin")),
        ("/named", "null", false, "GET", NOTHING, Err("no origin")),
        ("/null", "null", false, "GET", NOTHING, Ok(())),
        ("/null", "null", true, "GET", NOTHING, Err("credentials")),
        ("/any", "null", false, "GET", NOTHING, Ok(())),
        // cors-preflight: methods are compared with their case, names of headers without.
        ("/named", APP, true, "PUT", NOTHING, Ok(())),
        ("/named", APP, true, "PROPFIND", NOTHING, Ok(())),
        ("/named", APP, true, "put", NOTHING, Err("method")),
        ("/named", APP, true, "DELETE", NOTHING, Err("method")),
        ("/named", "https://evil.test", false, "PUT", NOTHING, Err("no origin")),
        ("/named", APP, true, "GET", X_TEST, Ok(())),
        ("/named", APP, true, "GET", &[("x-test2", "1")], Err("header")),
        ("/named", APP, true, "PUT", &[("x-TEST", "1"), ("authorization", "Bearer x")], Ok(())),
        // cors-preflight-star: a star is all there is, but for Authorization and where credentials are sent.
        ("/any", APP, false, "REPORT", X_TEST, Ok(())),
        ("/any", APP, false, "GET", &[("x-a", "1"), ("x-b", "2")], Ok(())),
        ("/any", APP, false, "GET", TOKEN, Err("header")),
        ("/any-token", APP, false, "GET", TOKEN, Ok(())),
        ("/any", APP, true, "REPORT", NOTHING, Err("origin")),
        ("/any", APP, true, "GET", NOTHING, Err("origin")),
        // Methods that are not given are the route's.
        ("/items/7", APP, false, "GET", NOTHING, Ok(())),
        ("/items/7", APP, false, "PUT", NOTHING, Err("no origin")),
        ("/items/7", "https://admin.test", false, "PUT", NOTHING, Ok(())),
        ("/items/7", "https://admin.test", false, "PATCH", NOTHING, Ok(())),
        ("/items/7", "https://admin.test", false, "DELETE", NOTHING, Err("no origin")),
        ("/composed", APP, false, "GET", NOTHING, Ok(())),
        // No configuration, no business of the gateway's: the upstream says what it says.
        ("/plain", "https://evil.test", true, "GET", NOTHING, Ok(())),
        ("/plain", APP, false, "GET", NOTHING, Err("origin")),
    ];
    for (path, from, credentials, method, fields, expected) in cases {
        let page = Page { gateway: &gateway, origin: from, credentials };
        let outcome = page.fetch(method, path, fields);
        let shown = format!("{method} {path} from {from} {fields:?} credentials={credentials}");
        assert_eq!(outcome.as_ref().map(|_| ()).map_err(|why| *why), expected, "{shown}");
        if let Ok(response) = outcome {
            assert_eq!(response.status(), 200, "{shown}");
        }
    }
    suite("cors", &format!("{} cross-origin requests as the Fetch standard makes them", cases.len()));
}

#[test]
fn a_page_can_read_why_it_was_refused() {
    let origin = upstream();
    let gateway = gateway(&origin);
    let page = Page { gateway: &gateway, origin: "https://app.test", credentials: false };
    let response = page.fetch("GET", "/guarded", &[]).unwrap();
    assert_eq!((response.status(), response.header("content-type")), (401, Some("application/problem+json")));
    assert_eq!(members(&response, "vary"), ["origin"]);
    // The preflight comes without credentials, and needs none.
    assert_eq!(page.fetch("GET", "/guarded", &[("authorization", "Bearer x")]).unwrap().status(), 401);
    assert_eq!(page.fetch("GET", "/slow", &[]).unwrap().status(), 200);
    assert_eq!(page.fetch("GET", "/slow", &[]).unwrap().status(), 429);
    assert_eq!(page.fetch("GET", "/down", &[]).unwrap().status(), 502);
    assert_eq!(page.fetch("GET", "/inside", &[]).unwrap().status(), 403);
    // A preflight is no call: it spends nothing of the route's rate.
    let limited = page.preflight("POST", "/slow", &[]).unwrap();
    assert_eq!(limited.status(), 204);
    // Address lists hold for preflights too.
    assert_eq!(page.preflight("GET", "/inside", &[]).map(|_| ()), Err("preflight status"));
}

#[test]
fn a_preflight_says_all_and_reaches_no_upstream() {
    let origin = upstream();
    let gateway = gateway(&origin);
    let allowed = preflight(&gateway, "/named", "https://app.test", "PUT", "x-test");
    assert_eq!((allowed.status(), allowed.body.len(), allowed.header("content-length")), (204, 0, None));
    for (name, value) in [
        ("access-control-allow-origin", "https://app.test"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, PUT, PROPFIND"),
        ("access-control-allow-headers", "x-test, authorization"),
        ("access-control-max-age", "600"),
        ("vary", "origin, access-control-request-method, access-control-request-headers"),
    ] {
        assert_eq!(values(&allowed, name), [value], "{name}");
    }
    assert!(values(&allowed, "access-control-expose-headers").is_empty());
    let stranger = preflight(&gateway, "/named", "https://evil.test", "PUT", "x-test");
    assert_eq!(stranger.status(), 204);
    let head = String::from_utf8_lossy(&stranger.head).to_ascii_lowercase();
    assert!(!head.contains("access-control-allow") && !head.contains("access-control-max-age"), "{head}");
    assert_eq!(members(&stranger, "vary").len(), 3);
    assert_eq!(
        values(&preflight(&gateway, "/any", "https://x.test", "GET", ""), "access-control-allow-origin"),
        ["*"]
    );
    let defaults = preflight(&gateway, "/items/1", "https://app.test", "GET", "");
    assert_eq!(values(&defaults, "access-control-allow-methods"), ["GET, HEAD"]);
    assert_eq!(values(&defaults, "access-control-max-age"), ["5"]);
    let slow = preflight(&gateway, "/slow", "https://app.test", "GET", "");
    assert_eq!(values(&slow, "access-control-allow-methods"), ["GET, HEAD, POST"]);
    // A field that decides the route is known by its name only.
    let versioned = preflight(&gateway, "/items/1", "https://v2.test", "PUT", "x-v");
    assert_eq!(values(&versioned, "access-control-allow-origin"), ["https://v2.test"]);
    assert_eq!(origin.count(), 0);
    let line =
        gateway.wait_for_line(|line| line.contains("\"OPTIONS\"") && line.contains("\"route\":\"named\""));
    assert!(line.contains("\"status\":204"), "{line}");
}

#[test]
fn answers_carry_the_gateways_fields_and_not_the_upstreams() {
    let origin = upstream();
    let gateway = gateway(&origin);
    let get = |path: &str, fields: &[&str]| request(gateway.public(), &format!("GET {path}"), fields, "");
    let named = get("/named", &["Origin: https://app.test"]);
    assert_eq!(values(&named, "access-control-allow-origin"), ["https://app.test"]);
    assert_eq!(values(&named, "access-control-expose-headers"), ["x-total"]);
    assert_eq!(members(&named, "vary"), ["accept-encoding", "origin"]);
    // Whoever asks: a cache must not give the answer to one origin to another.
    for fields in
        [&[][..], &["Origin: https://evil.test"], &["Origin: https://app.test", "Origin: https://app.test"]]
    {
        let other = get("/named", fields);
        assert_eq!((other.status(), members(&other, "vary").contains(&"origin".to_owned())), (200, true));
        let head = String::from_utf8_lossy(&other.head).to_ascii_lowercase();
        assert!(!head.contains("access-control-"), "{head}");
    }
    // What everybody may read is one answer for all.
    for fields in [&[][..], &["Origin: https://x.test"]] {
        let any = get("/any", fields);
        assert_eq!(values(&any, "access-control-allow-origin"), ["*"]);
        assert_eq!(members(&any, "vary"), ["accept-encoding"]);
        assert!(values(&any, "access-control-allow-credentials").is_empty());
    }
    let plain = get("/plain", &["Origin: https://app.test"]);
    assert_eq!(values(&plain, "access-control-allow-origin"), ["https://evil.test"]);
    let composed = get("/composed", &["Origin: https://app.test"]);
    assert_eq!(values(&composed, "access-control-allow-origin"), ["https://app.test"]);
}

#[test]
fn other_options_go_where_the_route_sends_them() {
    let origin = upstream();
    let gateway = gateway(&origin);
    let options =
        |target: &str, fields: &[&str]| request(gateway.public(), &format!("OPTIONS {target}"), fields, "");
    // Neither a preflight nor somebody else's business.
    for (path, fields, count) in [
        ("/named", &[][..], 1),
        ("/named", &["Origin: https://app.test"], 2),
        ("/named", &["Access-Control-Request-Method: PUT"], 3),
        ("/plain", &["Origin: https://app.test", "Access-Control-Request-Method: PUT"], 4),
    ] {
        assert_eq!((options(path, fields).status(), origin.count()), (200, count), "{path} {fields:?}");
    }
    let refused = options("/strict", &["Origin: https://app.test", "Access-Control-Request-Method: GET"]);
    assert_eq!((refused.status(), refused.header("allow")), (405, Some("GET, HEAD")));
    // Two methods are none.
    let twice = [
        "Origin: https://app.test",
        "Access-Control-Request-Method: GET",
        "Access-Control-Request-Method: PUT",
    ];
    assert_eq!((options("/named", &twice).status(), origin.count()), (200, 5));
    let server = options("*", &[]);
    assert_eq!((server.status(), server.header("allow").is_some(), origin.count()), (204, true, 5));
    assert_eq!(request(gateway.public(), "GET *", &[], "").status(), 400);
    // RFC 9110, 7.6.2.
    assert_eq!((options("/plain", &["Max-Forwards: 0"]).status(), origin.count()), (204, 5));
    assert_eq!((options("/plain", &["Max-Forwards: 7"]).status(), origin.count()), (200, 6));
    assert_eq!(origin.requests().pop().unwrap().header("max-forwards"), Some("6"));
    assert_eq!((options("/plain", &["Max-Forwards: x"]).status(), origin.count()), (400, 6));
}

#[test]
fn over_http_2_it_is_the_same() {
    let origin = upstream();
    let gateway = gateway(&origin);
    let mut client = H2Client::start(RawClient::connect(gateway.public()).unwrap()).unwrap();
    let fields = [("origin", "https://app.test"), ("access-control-request-method", "PUT")];
    let stream = client.request("OPTIONS", "a.test", "/named", &fields, true).unwrap();
    let answer = client.answer(stream).unwrap();
    assert_eq!((answer.status, answer.ended), (Some(204), true));
    let stream = client.request("OPTIONS", "a.test", "*", &[], true).unwrap();
    assert_eq!(client.answer(stream).unwrap().status, Some(204));
    assert_eq!(origin.count(), 0);
}

/// The rules that ship judge preflights as they judge everything: what browsers send passes, an attack in it does not.
#[test]
fn shipped_rules_let_preflights_pass() {
    let origin = upstream();
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules");
    let gateway = Gateway::builder(BINARY).start(|ports| {
        format!(
            r#"
            admin.listen = "{}"
            firewall = {{ rules = ["{rules}/*.conf"], paranoia = 2 }}
            [[listener]]
            name = "public"
            address = "{}"
            [upstream.origin]
            endpoints = [{{ address = "{}" }}]
            [[route]]
            name = "shared"
            match = {{ path = "/shared", methods = ["PUT"] }}
            upstream = "origin"
            cors = {{ origins = ["https://app.test"], headers = ["content-type", "x-test"] }}
            "#,
            ports.admin,
            ports.public,
            origin.address()
        )
    });
    let browser = [
        "Accept: */*",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: en-GB,en;q=0.9",
        "Access-Control-Request-Headers: content-type,x-test",
        "Access-Control-Request-Method: PUT",
        "Origin: https://app.test",
        "Referer: https://app.test/",
        "Sec-Fetch-Dest: empty",
        "Sec-Fetch-Mode: cors",
        "Sec-Fetch-Site: cross-site",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ];
    let response = request(gateway.public(), "OPTIONS /shared", &browser, "");
    assert_eq!((response.status(), response.header("access-control-allow-methods")), (204, Some("PUT")));
    let attack = request(gateway.public(), "OPTIONS /shared?q=%27%20OR%201%3D1--%20", &browser, "");
    assert_eq!(
        (attack.status(), attack.header("access-control-allow-origin")),
        (403, Some("https://app.test"))
    );
    assert_eq!(origin.count(), 0);
}
