//! Cross-origin resource sharing as the Fetch standard has it (section 3.3, the CORS protocol): what lets a web page of
//! another origin read an answer.
//!
//! The fields go on every answer of the route, whoever gives it: a page that may not read a 401 or a 429 cannot know
//! what to do about it. A request of an origin that is not allowed is served all the same, without them, as browsers and
//! other gateways expect: what is withheld is the answer from the page, and who may call at all is for authentication.

use portcullis_config as config;
use portcullis_config::OriginPattern;
use portcullis_http::{Exchange, Fields, Method, RequestHead};

/// What a route shares with whom, as it is written on answers.
#[derive(Debug)]
pub(crate) struct CorsPlan {
    /// None where all may read: then nothing of the answer depends on who asks, and caches need not tell them apart.
    origins: Option<Vec<OriginPattern>>,
    credentials: bool,
    methods: String,
    headers: String,
    expose: String,
    max_age: String,
}

/// The prefix of all fields of this protocol. With a plan, an upstream's own are taken off its answers.
const PREFIX: &str = "access-control-";

impl CorsPlan {
    /// The plan of a route that has one.
    pub(crate) fn new(route: &config::Route) -> Option<Self> {
        let cors = route.cors.as_ref()?;
        let list = |names: &[config::HeaderName]| {
            names.iter().map(config::HeaderName::as_str).collect::<Vec<_>>().join(", ")
        };
        Some(CorsPlan {
            origins: (!cors.origins.iter().any(OriginPattern::is_any)).then(|| cors.origins.clone()),
            credentials: cors.credentials,
            methods: route.cors_methods().join(", "),
            headers: list(&cors.headers),
            expose: list(&cors.expose_headers),
            max_age: cors.max_age.get().as_secs().to_string(),
        })
    }

    /// Leaves with the exchange what its answer is to say.
    pub(crate) fn announce(&self, exchange: &mut Exchange) {
        let Exchange { request, answer_fields: out, .. } = exchange;
        let preflight = is_preflight(request);
        let varies = match (preflight, self.origins.is_some()) {
            (true, _) => "origin, access-control-request-method, access-control-request-headers",
            (false, true) => "origin",
            (false, false) => "",
        };
        set(out, b"vary", varies);
        match &self.origins {
            None => set(out, b"access-control-allow-origin", "*"),
            Some(origins) => match origin(&request.fields) {
                Some(origin) if origins.iter().any(|one| one.matches(origin)) => {
                    out.append_parsed(b"access-control-allow-origin", origin);
                }
                // A preflight of a stranger says nothing of what others may do.
                _ => return,
            },
        }
        if self.credentials {
            set(out, b"access-control-allow-credentials", "true");
        }
        if preflight {
            set(out, b"access-control-allow-methods", &self.methods);
            set(out, b"access-control-allow-headers", &self.headers);
            set(out, b"access-control-max-age", &self.max_age);
        } else {
            set(out, b"access-control-expose-headers", &self.expose);
        }
    }
}

/// Takes off an answer what an upstream says of sharing, which the gateway says itself.
pub(crate) fn withhold(fields: &mut Fields) {
    fields.retain(|name, _| {
        !name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
    });
}

/// Whether a request is a CORS-preflight request: it asks whether a page may send another one.
pub(crate) fn is_preflight(request: &RequestHead) -> bool {
    announced_method(request).is_some()
}

/// The method of the request that a preflight asks about.
pub(crate) fn announced_method(request: &RequestHead) -> Option<&[u8]> {
    let asks = request.method == Method::Options && request.fields.contains("origin");
    let mut methods = request.fields.get_all("access-control-request-method").filter(|_| asks);
    methods.next().filter(|method| methods.next().is_none() && portcullis_http::is_token(method))
}

/// Whether the request that a preflight asks about has a field of this name.
pub(crate) fn announces_field(request: &RequestHead, name: &str) -> bool {
    let lists = request.fields.get_all("access-control-request-headers");
    lists
        .flat_map(|list| list.split(|b| *b == b','))
        .any(|one| one.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Who asks; two `Origin` fields are nobody's.
fn origin(fields: &Fields) -> Option<&[u8]> {
    let mut origins = fields.get_all("origin");
    origins.next().filter(|_| origins.next().is_none())
}

fn set(out: &mut Fields, name: &[u8], value: &str) {
    if !value.is_empty() {
        out.append_parsed(name, value.as_bytes());
    }
}
