//! Endpoints out of a file.

use super::Round;
use super::file::{EndpointFile, News};
use super::settings::LookupCounts;
use super::slot::{Outcome, Pace, Slot};
use crate::EndpointSettings;
use portcullis_http::{DestinationPolicy, Forbidden};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often the file is asked for.
const POLL: Duration = Duration::from_millis(500);

/// What is known of a file.
#[derive(Debug)]
pub(crate) struct FileSearch {
    file: EndpointFile,
    slot: Slot<EndpointSettings>,
    is_empty: bool,
    /// What is wrong with it as it is.
    problem: Option<String>,
}

impl FileSearch {
    pub(crate) fn new(path: PathBuf) -> Self {
        FileSearch { file: EndpointFile::new(path), slot: Slot::default(), is_empty: false, problem: None }
    }

    /// Looks at the file.
    pub(crate) async fn round(&mut self, destinations: &DestinationPolicy, pace: Pace) -> Round {
        let mut file = self.file.clone();
        // Blocking: it may be on a disk that is slow to answer.
        let looked = tokio::task::spawn_blocking(move || (file.look(), file)).await;
        let mut round = Round {
            endpoints: Vec::new(),
            next: Instant::now() + POLL,
            good: false,
            counts: LookupCounts::default(),
            problem: None,
        };
        // It fails where the runtime ends.
        if let Ok((news, file)) = looked {
            self.file = file;
            if let Some(news) = news {
                let outcome = judge(news, destinations, &mut round);
                self.is_empty = matches!(outcome, Outcome::Empty(_));
                self.problem = round.problem.take();
                self.slot.note(outcome, Instant::now(), &pace);
            } else if self.is_empty {
                // As empty as it was: the time for which that is not believed runs.
                self.slot.note(Outcome::Empty(None), Instant::now(), &pace);
            } else {
                round.good = self.problem.is_none();
            }
        }
        round.problem.clone_from(&self.problem);
        round.endpoints = self.slot.known().to_vec();
        round
    }
}

/// What a file's news come to: its endpoints without those that may not be connected to.
fn judge(news: News, destinations: &DestinationPolicy, round: &mut Round) -> Outcome<EndpointSettings> {
    let mut endpoints = match news {
        Ok(endpoints) => endpoints,
        Err(problem) => {
            round.counts.failed += 1;
            round.problem = Some(problem);
            return Outcome::Failed;
        }
    };
    if endpoints.is_empty() {
        round.counts.empty += 1;
        round.problem = Some("the file holds no endpoints".to_owned());
        return Outcome::Empty(None);
    }
    endpoints.retain(|endpoint| match check(destinations, &endpoint.host) {
        Ok(()) => true,
        Err(why) => {
            round.counts.forbidden += 1;
            round.problem = Some(super::forbidden(&format!("the file names {}", endpoint.address()), why));
            false
        }
    });
    if endpoints.is_empty() {
        round.counts.failed += 1;
        return Outcome::Failed;
    }
    round.good = true;
    round.counts.ok += 1;
    Outcome::Found(endpoints, Duration::ZERO)
}

/// Judges a host of a file: an address at once, a name when it is connected to. `localhost` is an address in all but its
/// looks.
fn check(destinations: &DestinationPolicy, host: &str) -> Result<(), Forbidden> {
    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match host.parse() {
        Ok(address) => destinations.check(address),
        Err(_) => match destinations.check(LOOPBACK) {
            Err(why) if destinations.check_name(host, LOOPBACK).is_ok() => Err(why),
            _ => Ok(()),
        },
    }
}
