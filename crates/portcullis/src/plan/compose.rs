//! Plans of compositions.

use super::{Compiler, ComposePlan};
use portcullis_compose::{CallWatcher, Composition, Part};
use portcullis_config as config;
use portcullis_http::UpstreamFailure;
use portcullis_telemetry::UpstreamMetrics;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Counts the calls of parts with those of routes.
#[derive(Debug)]
struct Counted(UpstreamMetrics);

impl CallWatcher for Counted {
    fn answered(&self, status: u16, duration: Duration) {
        self.0.answered(status, duration);
    }

    fn failed(&self, failure: UpstreamFailure) {
        self.0.failed(failure);
    }
}

impl Compiler<'_> {
    /// Compiles a route's composition.
    ///
    /// # Errors
    /// What of it cannot be.
    pub(super) fn compose(
        &self,
        route: &config::Route,
        compose: &config::Compose,
    ) -> Result<ComposePlan, String> {
        let parts = compose.part.iter().map(|part| self.part(part)).collect::<Result<Vec<_>, _>>()?;
        let composition =
            Composition::new(parts, compose.partial_field.clone()).map_err(|error| error.to_string())?;
        let counter = |part: &config::Part| {
            (part.name.clone(), self.shared.metrics.part_failures(&route.name, &part.name))
        };
        let failures: BTreeMap<_, _> = compose.part.iter().map(counter).collect();
        let keys: Box<[_]> = compose.part.iter().map(|part| self.hash_key(&part.upstream)).collect();
        // As most have none, nothing is hashed then.
        let keys = if keys.iter().all(Option::is_none) { Box::default() } else { keys };
        Ok(ComposePlan { composition, keys, failures })
    }

    fn part(&self, part: &config::Part) -> Result<Part, String> {
        let pairs = |map: &BTreeMap<String, config::Template>| {
            map.iter().map(|(name, text)| (name.clone(), text.compiled())).collect()
        };
        Ok(Part {
            query: pairs(&part.query),
            headers: pairs(&part.headers),
            timeout: part.timeout.get(),
            required: part.required,
            into: part.into.clone(),
            pick: part.pick.clone(),
            drop: part.drop.clone(),
            max_size: part.max_size.as_usize(),
            watcher: Some(Arc::new(Counted(self.shared.metrics.upstream(&part.upstream)))),
            ..Part::new(part.name.as_str(), self.upstream(&part.upstream)?.clone(), part.path.compiled())
        })
    }
}
