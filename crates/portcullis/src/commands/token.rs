//! `portcullis token`.

use super::{ConfigFile, print};
use crate::plan::algorithm;
use clap::Args;
use portcullis_config::{Config, Identity, Key};
use portcullis_diag::SourceMap;
use portcullis_identity::{Moment, Secret, SigningKey, mint};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Options of `portcullis token`.
#[derive(Debug, Args)]
pub(crate) struct Token {
    #[command(flatten)]
    file: ConfigFile,
    /// The identity of the configuration whose key signs; needed where there are several.
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// The subject: who the token is for.
    #[arg(long, default_value = "developer")]
    sub: String,
    /// A scope; may be given more than once, or as a list joined by spaces.
    #[arg(long)]
    scope: Vec<String>,
    /// Another claim, `name=value`; a value that is JSON is taken as JSON, any other as text.
    #[arg(long, value_name = "NAME=VALUE", value_parser = claim)]
    claim: Vec<(String, Value)>,
    /// How long it is good for: 15m, 1h.
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: Duration,
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) =
        text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("a claim is NAME=VALUE")?;
    Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()))))
}

fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<portcullis_config::Duration>()
        .map(portcullis_config::Duration::get)
        .map_err(|error| error.to_string())
}

impl Token {
    /// Mints and prints it.
    ///
    /// # Errors
    /// When the configuration has no key that can sign.
    pub(super) fn run(self) -> Result<(), String> {
        let mut sources = SourceMap::new();
        let loaded =
            portcullis_config::load(&self.file.config, &mut sources, &portcullis_config::process_env)
                .map_err(|found| found.to_text(&sources))?;
        let (name, identity) = self.choose(&loaded.config)?;
        let key = signing_key(&loaded.config, name, identity)?;
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), json!(identity.issuer));
        claims.insert("sub".to_owned(), json!(self.sub));
        match identity.audiences.as_slice() {
            [] => {}
            [one] => drop(claims.insert("aud".to_owned(), json!(one))),
            several => drop(claims.insert("aud".to_owned(), json!(several))),
        }
        if !self.scope.is_empty() {
            claims.insert(identity.scope_claim.clone(), json!(self.scope.join(" ")));
        }
        claims.extend(self.claim.iter().cloned());
        let token = mint(&key, claims, self.ttl, Moment::now())
            .map_err(|error| format!("identity `{name}`: {error}"))?;
        print(&format!("{token}\n"))
    }

    fn choose<'a>(&'a self, config: &'a Config) -> Result<(&'a str, &'a Identity), String> {
        let names = || config.identity.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        match (&self.identity, config.identity.len()) {
            (Some(name), _) => {
                let identity = config
                    .identity
                    .get(name)
                    .ok_or_else(|| format!("there is no identity `{name}`; there are: {}", names()))?;
                Ok((name, identity))
            }
            (None, 1) => config
                .identity
                .iter()
                .next()
                .map(|(name, identity)| (name.as_str(), identity))
                .ok_or_else(String::new),
            (None, 0) => Err("the configuration has no [identity.NAME] whose key could sign".to_owned()),
            (None, _) => Err(format!("choose one with --identity: {}", names())),
        }
    }
}

fn signing_key(config: &Config, name: &str, identity: &Identity) -> Result<SigningKey, String> {
    let signs = |key: &&Key| key.secret.is_some() || key.private_key_file.is_some();
    let none = || {
        format!(
            "identity `{name}` has no key that can sign: give one of its keys a `secret` or a `private_key_file`"
        )
    };
    let key = identity.keys.iter().find(signs).ok_or_else(none)?;
    let algorithm = algorithm(key.algorithm).ok_or_else(none)?;
    let made = match (&key.secret, &key.private_key_file) {
        (Some(secret), _) => SigningKey::from_secret(&Secret::new(secret.expose().as_bytes()), algorithm),
        (None, Some(file)) => {
            let path = config.resolve(file);
            let pem = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            SigningKey::from_pem(&Secret::new(pem), algorithm)
        }
        (None, None) => return Err(none()),
    };
    let made = made.map_err(|error| format!("identity `{name}`: {error}"))?.with_kid(key.kid.clone());
    Ok(match &identity.typ {
        Some(typ) => made.with_typ(typ),
        None => made,
    })
}
