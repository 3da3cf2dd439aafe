//! Endpoints that are checked, ejected and broken off from while they are sick, and what becomes of them when they are well
//! again. What takes an endpoint out must not keep it out.

use crate::world::{Backends, Fault, HEALTH, Journal};
use crate::{ALONE, Form, RECOVERY, chaos, gateway, is_full};
use portcullis_testkit::{get, suite};
use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Every so many-th fault in the quick form.
const QUICK_STEP: usize = 5;
const QUICK: usize = 30;
const FULL: usize = 100;
/// How long each fault lasts at least: longer than it takes two checks to fail.
const LASTS: Duration = Duration::from_millis(2500);

/// What takes endpoints out: as one would have it in production, but that nothing takes longer than a sick endpoint may be
/// missed for. An endpoint that fails all the time is out for `max_ejection_time` at most when it has recovered.
fn upstream() -> String {
    format!(
        r#"
        health_check = {{ path = "{HEALTH}", interval = "1s", unhealthy_interval = "500ms", timeout = "500ms" }}
        circuit_breaker = {{ max_connections = 64, max_requests = 64, max_retries = 16, failure_rate_threshold = 50, sliding_window_size = 20, minimum_number_of_calls = 10, wait_duration_in_open_state = "1s", permitted_number_of_calls_in_half_open_state = 3 }}
        outlier_detection = {{ interval = "500ms", base_ejection_time = "1s", max_ejection_time = "3s", max_ejection_percent = 50 }}
        "#
    )
}

/// The upstreams of which a series has counted anything.
fn counted(page: &str, series: &str, label: &str) -> BTreeSet<String> {
    let of = |line: &str| {
        let (labels, value) = line.strip_prefix(series)?.split_once(' ')?;
        let is_counted = labels.contains(label) && value.parse::<f64>().is_ok_and(|value| value > 0.0);
        let (_, rest) = labels.split_once("upstream=\"")?;
        is_counted.then(|| rest.split('"').next().unwrap_or_default().to_owned())
    };
    page.lines().filter_map(of).collect()
}

#[test]
fn what_was_taken_out_comes_back() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (count, step) = if is_full() { (FULL, 1) } else { (QUICK, QUICK_STEP) };
    let form = Form { count, lasts: LASTS, upstream: upstream(), refuses: true };
    let journal = Arc::new(Journal::default());
    let backends = Backends::start(&journal);
    let faults = backends.before(Fault::all().into_iter().step_by(step).collect());
    let gateway = gateway(&form, &faults, &backends);
    let chaos = chaos(&form, &faults, &gateway, &journal);
    let mut wrong = chaos.wrong();

    let page = get(gateway.admin(), "/metrics").text();
    let ejected = counted(&page, "portcullis_upstream_ejections_total", "");
    let unhealthy = counted(&page, "portcullis_upstream_health_checks_total", "result=\"failure\"");
    let broken = counted(&page, "portcullis_upstream_circuit_breaker_transitions_total", "state=\"open\"");
    let several = faults.len() > 1;
    for (what, of) in [("ejected", &ejected), ("failed a check", &unhealthy), ("opened a breaker", &broken)] {
        if several && of.is_empty() {
            wrong.push(format!("no fault {what}"));
        }
    }
    let out: BTreeSet<_> = ejected.union(&unhealthy).chain(&broken).collect();
    suite(
        "chaos, supervised",
        &format!(
            "{} faults x GET and POST x {count}: {} requests, {:.1} % answered 200; {} of the faults took an endpoint out (ejected {}, \
             unhealthy {}, breaker open {}); slowest recovery of all endpoints {} ms of {} ms; {} s",
            chaos.reports.len(),
            chaos.sent(),
            chaos.good(),
            out.len(),
            ejected.len(),
            unhealthy.len(),
            broken.len(),
            chaos.recovery().as_millis(),
            RECOVERY.as_millis(),
            chaos.took.as_secs(),
        ),
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
