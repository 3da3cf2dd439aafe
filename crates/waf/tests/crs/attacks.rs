//! Attacks on CRS as it comes, blocking: answered with 403 by the evaluating rule, with the score that the rules make
//! which matched.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use portcullis_testkit::{absent, ftw, suite};
use portcullis_waf::{
    Action, ExclusionSettings, Overlay, OverlaySettings, Phase, Program, Report, RuleSelection, Transaction,
};

use crate::ordinary::{corpus, run};
use crate::rules::{FOLDER, blocking, level, overlay, score};
use crate::traffic::{Request, comment};

const VERDICTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/libinjection/verdicts.txt.xz");
/// The thresholds of `crs-setup.conf.example`.
const INBOUND: i64 = 5;
const OUTBOUND: i64 = 4;
