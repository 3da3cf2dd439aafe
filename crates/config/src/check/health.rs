//! Health checks and circuit breakers.

use super::Checker;
use crate::codes;
use crate::model::{
    CircuitBreaker, HealthCheck, HealthCheckType, OutlierDetection, SlidingWindowType, Upstream,
    UpstreamProtocol,
};

impl Checker<'_> {
    pub(super) fn health(&mut self, path: &str, upstream: &Upstream) {
        if let Some(check) = &upstream.health_check {
            self.health_check(&format!("{path}.health_check"), path, upstream, check);
        }
        if let Some(outlier) = &upstream.outlier_detection
            && outlier.max_ejection_time < outlier.base_ejection_time
            && outlier.max_ejection_time != OutlierDetection::default().max_ejection_time
        {
            let base = format!("{path}.outlier_detection.base_ejection_time");
            let longest = format!("{path}.outlier_detection.max_ejection_time");
            let message = "the longest ejection is shorter than the first";
            let diagnostic = self.warning(codes::UNUSED, &longest, message);
            let diagnostic = self.also(diagnostic, &base, "every ejection takes as long as this");
            self.push(&[&longest], diagnostic);
        }
        if let Some(breaker) = &upstream.circuit_breaker {
            self.circuit_breaker(&format!("{path}.circuit_breaker"), breaker);
        }
    }

    fn health_check(&mut self, path: &str, upstream_path: &str, upstream: &Upstream, check: &HealthCheck) {
        let at = format!("{path}.path");
        let is_path = check.path.starts_with('/') && check.path.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_path || check.path.contains('#') {
            let message = format!("\"{}\" is no path", check.path);
            let diagnostic = self.error(codes::BAD_VALUE, &at, message);
            self.push(&[&at], diagnostic.help("begin it with `/`, and write other bytes as `%XX`"));
        }
        let at = format!("{path}.expected_statuses");
        if check.expected_statuses.is_empty() {
            let diagnostic = self.error(codes::BAD_VALUE, &at, "no endpoint could ever be healthy");
            self.push(&[&at], diagnostic.help("name the statuses of one that is, such as \"2xx\""));
        }
        for (index, status) in check.expected_statuses.iter().enumerate() {
            if status.is_negated() {
                let at = format!("{at}[{index}]");
                let diagnostic =
                    self.error(codes::BAD_VALUE, &at, "statuses cannot be left out of this list");
                self.push(&[&at], diagnostic.help("name those that are expected"));
            }
        }
        if check.r#type == HealthCheckType::Grpc && upstream.protocol != UpstreamProtocol::Http2 {
            let at = format!("{path}.type");
            let message = "gRPC's health protocol needs an upstream that speaks http2";
            let diagnostic = self.error(codes::CONFLICT, &at, message);
            let diagnostic = self.also(diagnostic, upstream_path, "this one does not");
            self.push(
                &[&at],
                diagnostic.help(format!("write `protocol = \"http2\"` in `[{upstream_path}]`")),
            );
        }
        if check.r#type != HealthCheckType::Grpc && !check.service.is_empty() {
            let at = format!("{path}.service");
            let diagnostic = self.warning(codes::UNUSED, &at, "only a check by gRPC asks for a service");
            self.push(&[&at], diagnostic.help(format!("write `type = \"grpc\"` in `[{path}]`")));
        }
    }

    fn circuit_breaker(&mut self, path: &str, breaker: &CircuitBreaker) {
        // The default is not the operator's doing: with a small window it means a full one.
        let is_own = breaker.minimum_number_of_calls != CircuitBreaker::default().minimum_number_of_calls;
        let is_counted = breaker.sliding_window_type == SlidingWindowType::CountBased;
        if breaker.breaks()
            && is_counted
            && breaker.minimum_number_of_calls > breaker.sliding_window_size
            && is_own
        {
            let at = format!("{path}.minimum_number_of_calls");
            let size = format!("{path}.sliding_window_size");
            let diagnostic = self.warning(
                codes::UNUSED,
                &at,
                "the window never holds so many calls: a full one is enough",
            );
            let diagnostic = self.also(diagnostic, &size, "it holds these");
            self.push(&[&at], diagnostic);
        }
        if breaker.max_pending_requests.is_some()
            && breaker.max_connections.is_none()
            && breaker.max_connections_per_endpoint.is_none()
        {
            let at = format!("{path}.max_pending_requests");
            let diagnostic =
                self.warning(codes::UNUSED, &at, "no request waits where connections have no cap");
            self.push(&[&at], diagnostic.help(format!("give `[{path}]` a `max_connections`")));
        }
    }
}
