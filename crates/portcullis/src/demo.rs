//! `portcullis demo`: the shipped configuration in front of three services, in one process.

mod services;

pub(crate) use services::Service;

use crate::commands::run::Process;
use crate::commands::{ConfigFile, print};
use crate::snapshot::Source;
use clap::Args;
use portcullis_config::{Config, HostPort};
use std::net::SocketAddr;

/// Options of `portcullis demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    file: ConfigFile,
    /// Leave a service out, to see the gateway degrade; may be given more than once.
    #[arg(long, value_enum, value_name = "NAME")]
    without: Vec<Service>,
}

impl Demo {
    /// Serves until told to stop.
    ///
    /// # Errors
    /// What is wrong with the configuration, or why an address cannot be bound.
    pub(crate) fn run(self) -> Result<(), String> {
        let source = Source::read(&self.file.config).map_err(|error| error.to_string())?;
        let listener = source.config.listener.first().map(|listener| listener.address);
        let text = invitation(listener, source.config.admin.listen, &self.without);
        let services: Vec<(Service, HostPort)> = Service::ALL
            .into_iter()
            .filter(|service| !self.without.contains(service))
            .filter_map(|service| Some((service, configured(&source.config, service)?)))
            .collect();
        let process = Process::start(source, None)?;
        let services = async {
            for (service, address) in services {
                services::start(service, (address.host(), address.port())).await.map_err(|error| {
                    format!("the service `{}` cannot bind {address}: {error}", service.name())
                })?;
            }
            print(&text)
        };
        process.serve(&self.file.config, services)
    }
}

/// Where the configuration expects a service: at the endpoint of the upstream of its name. One that it does not name is
/// not started, since nothing would ask it.
fn configured(config: &Config, service: Service) -> Option<HostPort> {
    config.upstream.get(service.name())?.endpoints.first().map(|endpoint| endpoint.address.clone())
}

/// Serves one service alone, until told to stop.
///
/// # Errors
/// When its address cannot be bound.
pub(crate) fn serve_one(service: Service, listen: Option<SocketAddr>) -> Result<(), String> {
    let address = listen.unwrap_or_else(|| service.address());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        services::start(service, address).await.map_err(|error| format!("{address}: {error}"))?;
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(|error| error.to_string())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(())
    })
}

/// What to try.
fn invitation(listener: Option<SocketAddr>, admin: SocketAddr, without: &[Service]) -> String {
    let base =
        listener.map_or_else(|| "http://127.0.0.1:8080".to_owned(), |address| format!("http://{address}"));
    let missing: Vec<&str> = without.iter().map(|service| service.name()).collect();
    let services = if missing.is_empty() {
        "three services".to_owned()
    } else {
        format!("no {}", missing.join(", no "))
    };
    format!(
        "Portcullis listens on {base}, for operators on http://{admin}, with {services} behind it. Try:

  one answer from three services     curl -i {base}/api/titles/1
  an attack, refused                 curl -i '{base}/api/search?q=%27%20OR%201%3D1--'
  an apostrophe, not refused         curl -i '{base}/api/search?q=o%27reilly+%26+sons'
  who are you?                       curl -i {base}/api/entitlements/1
  somebody who may                   curl -i -H \"authorization: Bearer $(portcullis token --scope entitlements:read)\" {base}/api/entitlements/1
  a card number, masked              curl -i {base}/api/prices/3
  too often                          for i in $(seq 60); do curl -s -o /dev/null -w '%{{http_code}} ' {base}/api/prices/1; done
  without prices                     portcullis demo --without pricing
  metrics                            curl {admin_base}/metrics

Every answer has an x-request-id, which the log explains. Ctrl-C ends it.
",
        admin_base = format_args!("http://{admin}"),
    )
}
