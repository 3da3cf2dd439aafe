//! `[upstream.NAME.health_check]` and `[upstream.NAME.outlier_detection]`: which endpoints are well.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::value::{HeaderValue, Method, StatusRange, Timeout};

/// Active checks: each endpoint is asked now and then whether it is well, and gets no requests while it is not.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HealthCheck {
    /// How an endpoint is asked. Connections are made as for requests: with the upstream's TLS, and its protocol.
    pub r#type: HealthCheckType,
    /// `http`: path and query of the request.
    pub path: String,
    /// `http`: its method. It has no body.
    pub method: Method,
    /// `http` and `grpc`: its host. Without it, the endpoint's address.
    pub host: Option<HeaderValue>,
    /// `http`: the statuses of an endpoint that is well.
    pub expected_statuses: Vec<StatusRange>,
    /// `grpc`: the service that must be `SERVING`; empty for the server as a whole.
    pub service: String,
    /// Between two checks.
    pub interval: Timeout,
    /// Between two checks while the endpoint is unhealthy or not yet known, or the last check contradicted what was
    /// believed of it; never longer than `interval`.
    pub unhealthy_interval: Timeout,
    /// By how many percent of itself an interval may be longer, at random, so that checks of many endpoints and
    /// replicas spread out.
    #[schemars(range(max = 100))]
    pub jitter_percent: u8,
    /// The longest that a check may take, connecting included.
    pub timeout: Timeout,
    /// Checks in a row that an unhealthy endpoint must pass in order to be healthy. The first check of all decides alone.
    #[schemars(range(min = 1, max = 1000))]
    pub healthy_threshold: u32,
    /// Checks in a row that a healthy endpoint must fail in order to be unhealthy. The first check of all decides alone.
    #[schemars(range(min = 1, max = 1000))]
    pub unhealthy_threshold: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            r#type: HealthCheckType::default(),
            path: "/".to_owned(),
            method: Method::get(),
            host: None,
            expected_statuses: vec![StatusRange::SUCCESS],
            service: String::new(),
            interval: Timeout::from_secs(10),
            unhealthy_interval: Timeout::from_secs(2),
            jitter_percent: 10,
            timeout: Timeout::from_secs(2),
            healthy_threshold: 2,
            unhealthy_threshold: 3,
        }
    }
}

/// How an endpoint is asked whether it is well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheckType {
    /// By a request, whose answer must have an expected status.
    #[default]
    Http,
    /// By opening a connection, TLS included.
    Tcp,
    /// By gRPC's health protocol, `grpc.health.v1.Health/Check`. Needs `protocol = "http2"`.
    Grpc,
}

/// Passive outlier ejection: endpoints that answer worse than the others get no requests for a while. Names, defaults and
/// rules are Envoy's. A try without an answer, or whose answer is cut off, counts as a gateway error, and a gRPC call as
/// what its status stands for.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutlierDetection {
    /// Answers of 500 to 599, and tries without an answer, in a row that eject an endpoint; 0 for never.
    pub consecutive_5xx: u32,
    /// Answers of 502, 503 and 504, and tries without an answer, in a row that eject an endpoint; 0 for never.
    pub consecutive_gateway_failure: u32,
    /// Between two comparisons of success rates.
    pub interval: Timeout,
    /// How long an endpoint is ejected for the first time. It is multiplied by the number of its ejections, of which each
    /// interval in service takes one back.
    pub base_ejection_time: Timeout,
    /// The longest that an endpoint is ejected; never less than `base_ejection_time`.
    pub max_ejection_time: Timeout,
    /// How many percent of the endpoints may be ejected at a time. One always may.
    #[schemars(range(max = 100))]
    pub max_ejection_percent: u8,
    /// So many endpoints must have had enough requests in an interval for their success rates to be compared; 0 never
    /// compares them.
    pub success_rate_minimum_hosts: u32,
    /// Requests in an interval from which an endpoint's success rate counts.
    #[schemars(range(min = 1))]
    pub success_rate_request_volume: u32,
    /// An endpoint is ejected whose success rate is so many thousandths of the standard deviation below the mean.
    pub success_rate_stdev_factor: u32,
    /// An endpoint is ejected of whose requests in an interval so many percent failed, whatever the others do. Without it,
    /// this is not looked at.
    #[schemars(range(min = 1, max = 100))]
    pub failure_percentage_threshold: Option<u8>,
    /// So many endpoints must have had enough requests in an interval for their failures to be looked at.
    pub failure_percentage_minimum_hosts: u32,
    /// Requests in an interval from which an endpoint's share of failures counts.
    #[schemars(range(min = 1))]
    pub failure_percentage_request_volume: u32,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_failure: 5,
            interval: Timeout::from_secs(10),
            base_ejection_time: Timeout::from_secs(30),
            max_ejection_time: Timeout::from_secs(300),
            max_ejection_percent: 10,
            success_rate_minimum_hosts: 5,
            success_rate_request_volume: 100,
            success_rate_stdev_factor: 1900,
            failure_percentage_threshold: None,
            failure_percentage_minimum_hosts: 5,
            failure_percentage_request_volume: 50,
        }
    }
}
