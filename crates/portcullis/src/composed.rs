//! Answers made from several calls.

use crate::affinity::HashKey;
use crate::forward::{Answer, Origin, outgoing_fields};
use crate::plan::ComposePlan;
use crate::record::Record;
use crate::respond::whole;
use portcullis_compose::Input;
use portcullis_http::{Budget, Fields, Rejection, ResponseHead};
use portcullis_identity::Permit;

/// Makes the calls of a composition. Needs a [`Permit`], as forwarding does.
///
/// # Errors
/// 502 or 504 where a required part failed.
pub(crate) async fn call(
    _permit: Permit,
    origin: Origin<'_>,
    plan: &ComposePlan,
    budget: &Budget,
    record: &mut Record,
) -> Result<Answer, Rejection> {
    // Of the client's own fields none passes but those that a part's templates name.
    let mut base = Fields::default();
    outgoing_fields(&Fields::default(), origin, &mut base);
    let hash = |key: &Option<HashKey>| key.as_ref().and_then(|key| key.hash(origin.exchange));
    let hashes: Vec<Option<u64>> = plan.keys.iter().map(hash).collect();
    let deadline = origin.time.deadline();
    let input = Input { values: origin.exchange.values(), base: &base, hashes: &hashes, budget, deadline };
    let composed = match plan.composition.run(&input).await {
        Ok(composed) => composed,
        Err(failure) => {
            if let Some(part) = failure.part {
                plan.count(&part.name);
                record.partial.push(part.name);
            }
            return Err(failure.rejection);
        }
    };
    for part in composed.failed {
        plan.count(&part.name);
        record.partial.push(part.name);
    }
    let head = ResponseHead { fields: composed.fields, ..ResponseHead::new(composed.status) };
    Ok(whole(head, composed.body, composed.held))
}

impl ComposePlan {
    fn count(&self, part: &str) {
        if let Some(counter) = self.failures.get(part) {
            counter.inc();
        }
    }
}
