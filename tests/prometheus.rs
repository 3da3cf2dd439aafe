//! The metrics of a gateway that did something: `promtool` finds nothing to complain of, and a real Prometheus
//! scrapes them and evaluates the alerts that we ship.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use portcullis_testkit::{Answer, Gateway, Origin, free_port, get};
use serde_json::Value;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const RULES: &str = r#"
SecRuleEngine On
SecRule ARGS "@contains attack" "id:1099001,phase:2,deny,status:403,log,msg:'A word that the test sends'"
"#;

/// A gateway in front of one origin, after one request of each kind.
fn used_gateway(origin: &Origin) -> Gateway {
    let upstream = origin.address();
    let gateway =
        Gateway::builder(env!("CARGO_BIN_EXE_portcullis")).file("rules/test.conf", RULES).start(|ports| {
            format!(
                r#"
            admin.listen = "{admin}"
            [[listener]]
            name = "public"
            address = "{public}"
            [upstream.backend]
            endpoints = [{{ address = "{upstream}" }}]
            [firewall]
            rules = ["rules/test.conf"]
            [[route]]
            name = "all"
            match = {{ path = "/all/{{*rest}}", methods = ["GET"] }}
            upstream = "backend"
            [[route.rate_limit]]
            name = "few"
            rate = "1/h"
            burst = 3
            "#,
                admin = ports.admin,
                public = ports.public,
            )
        });
    let statuses = ["/all/1", "/all/1?q=attack", "/nowhere", "/all/2", "/all/3", "/all/4", "/all/5"]
        .map(|path| get(gateway.public(), path).status());
    assert_eq!(statuses[..3], [200, 403, 404]);
    assert!(statuses.contains(&429), "{statuses:?}");
    gateway
}

/// Whether a tool is there. `tests/run` installs it; who runs cargo alone may lack it.
fn have(tool: &str) -> bool {
    let found =
        Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "{tool} is not installed");
    if !found {
        eprintln!("SKIP: {tool} is not installed; tests/run installs it");
    }
    found
}

#[test]
fn promtool_has_nothing_to_say() {
    if !have("promtool") {
        return;
    }
    let origin = Origin::answering(Answer::ok("fine"));
    let gateway = used_gateway(&origin);
    let metrics = get(gateway.admin(), "/metrics");
    assert!(
        metrics.header("content-type").is_some_and(|value| value.starts_with("text/plain; version=0.0.4"))
    );
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(&metrics.body).unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(said.stdout.is_empty() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr));

    for series in [
        r#"portcullis_requests_total{method="GET",route="all",status_class="2xx"}"#,
        r#"portcullis_requests_total{method="GET",route="unmatched",status_class="4xx"}"#,
        r#"portcullis_firewall_verdicts_total{action="deny",rule="1099001"}"#,
        r#"portcullis_rejections_total{code="rate_limited",reason="rate_limited",stage="rate"}"#,
        r#"portcullis_rate_limit_decisions_total{limit="few",outcome="passed",route="all"}"#,
        r#"portcullis_upstream_responses_total{status_class="2xx",upstream="backend"}"#,
        r#"portcullis_reloads_total{result="success"}"#,
    ] {
        assert!(gateway.sample(series).is_some_and(|value| value >= 1.0), "{series}\n{}", metrics.text());
    }
}

#[test]
fn metrics_are_on_the_admin_listener_only() {
    let origin = Origin::answering(Answer::ok("fine"));
    let gateway = used_gateway(&origin);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(get(gateway.admin(), path).status(), 200, "{path}");
        assert_eq!(get(gateway.public(), path).status(), 404, "{path}");
    }
}

/// A Prometheus server, killed when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn scraping(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docker/prometheus/alerts.yml");
        let config = format!(
            "global: {{ scrape_interval: 200ms, evaluation_interval: 200ms }}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{ job_name: portcullis, static_configs: [{{ targets: ['{target}'] }}] }}]\n",
            alerts.canonicalize().unwrap().display(),
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let address = free_port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Prometheus { child, address, _folder: folder }
    }

    /// Asks its API until the answer is as wanted.
    fn ask_until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = std::net::TcpStream::connect(self.address)
                .ok()
                .map(|_| get(self.address, path))
                .and_then(|response| serde_json::from_slice::<Value>(&response.body).ok());
            if let Some(answer) = &answer
                && wanted(answer)
            {
                return answer.clone();
            }
            assert!(Instant::now() < deadline, "{path}: {answer:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_it_and_evaluates_the_alerts() {
    if !have("prometheus") {
        return;
    }
    let origin = Origin::answering(Answer::ok("fine"));
    let gateway = used_gateway(&origin);
    let prometheus = Prometheus::scraping(gateway.admin());
    let count = prometheus.ask_until("/api/v1/query?query=sum(portcullis_requests_total)", |answer| {
        answer["data"]["result"].as_array().is_some_and(|result| !result.is_empty())
    });
    let count: f64 = count["data"]["result"][0]["value"][1].as_str().unwrap().parse().unwrap();
    assert!(count >= 7.0, "{count}");
    let rules = prometheus.ask_until("/api/v1/rules", |answer| {
        let rules = answer["data"]["groups"].as_array().into_iter().flatten();
        let mut rules = rules.flat_map(|group| group["rules"].as_array().into_iter().flatten()).peekable();
        rules.peek().is_some() && rules.all(|rule| rule["health"] == "ok")
    });
    assert!(!rules.to_string().contains("\"firing\""), "nothing is wrong with it: {rules}");
}
