//! The compiled program: tables and ids, nothing else. [`Program::dump`] writes it as text.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::audit::{AuditEngine, AuditSettings, PartsChange};
use crate::body::xml;
use crate::geo::GeoDatabase;
use crate::macros::{Names, TxNames, TxSlot};
use crate::nominations::Nominations;
use crate::operator::{Op, OperatorKind, Pattern, PatternId};
use crate::prefilter::Prefilter;
use crate::rule::{Disruptive, Meta, Mode, Phase, Processor, SetVar, TxChange, TxTarget};
use crate::settings::Settings;
use crate::sources::Sources;
use crate::target::{Exclusion, Target, TargetSet};
use crate::transform::Transform;

/// Index of a rule in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RuleIx(pub(crate) u32);

/// Index of a lane: what is looked at, in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LaneId(pub(crate) u32);

/// Index of a segment: a part of lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SegmentId(pub(crate) u32);

/// One bit for each rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RuleBits(pub(crate) Vec<u64>);

impl RuleBits {
    pub(crate) fn with_capacity(rules: usize) -> Self {
        Self(vec![0; rules.div_ceil(64)])
    }

    pub(crate) fn insert(&mut self, rule: RuleIx) {
        if let Some(word) = self.0.get_mut((rule.0 / 64) as usize) {
            *word |= 1 << (rule.0 % 64);
        }
    }

    #[inline]
    pub(crate) fn contains(&self, rule: RuleIx) -> bool {
        self.0.get((rule.0 / 64) as usize).is_some_and(|word| word & (1 << (rule.0 % 64)) != 0)
    }

    pub(crate) fn union_with(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// What several rules look at in the same form: all their variables.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) targets: TargetSet,
    pub(crate) chain: Box<[Transform]>,
    /// Also the forms between the transformations are looked at (`multiMatch`).
    pub(crate) every_form: bool,
    /// Gathered once and kept while what the values come from does not change; otherwise gathered for each use.
    pub(crate) stable: bool,
    /// What the values come from.
    pub(crate) sources: Sources,
    /// In the order of the targets.
    pub(crate) segments: Box<[SegmentId]>,
}

/// One target in one form: the unit that is gathered, transformed and scanned once, for all the lanes it is part of.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) target: Target,
    /// Those of the target's own variable.
    pub(crate) excludes: Box<[Exclusion]>,
    pub(crate) chain: Box<[Transform]>,
    /// Which of the program's chains that is; values remember what each makes of them.
    pub(crate) chain_number: u16,
    /// The transformations of the chain as bits: a value all of them leave alone needs no work.
    pub(crate) mask: u64,
    pub(crate) every_form: bool,
    pub(crate) sources: Sources,
    /// If there are transformations: the same target without them.
    pub(crate) base: Option<SegmentId>,
}

/// A question that needs no lane: one TX variable against an integer. Most rules of a rule set are such gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) slot: TxSlot,
    /// The variable's presence (0 or 1) is compared, not its value.
    pub(crate) counted: bool,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) lane: LaneId,
    pub(crate) op: Op,
    /// The operator as the rule has it, for reports.
    pub(crate) written: Written,
    pub(crate) negated: bool,
    pub(crate) gate: Option<Gate>,
    pub(crate) capture: bool,
    pub(crate) setvars: Box<[SetVar]>,
    pub(crate) ctls: Box<[Ctl]>,
    /// `SecAction`: matches without looking at anything.
    pub(crate) unconditional: bool,
}

/// An operator as a rule has it.
#[derive(Debug)]
pub(crate) struct Written {
    /// The name as the operator table spells it.
    pub(crate) operator: &'static str,
    /// The argument, cut.
    pub(crate) argument: Box<str>,
}

impl Written {
    /// `argument` is kept up to [`crate::SNIPPET`] bytes.
    pub(crate) fn new(kind: OperatorKind, argument: &str) -> Self {
        let known = crate::operator::TABLE.iter().find(|info| info.kind == kind);
        let end = argument.floor_char_boundary(crate::SNIPPET);
        let argument = argument.get(..end).unwrap_or(argument).into();
        Self { operator: known.map_or("", |info| info.name), argument }
    }
}

/// A run-time change of the engine, with the rules it is about resolved.
#[derive(Debug)]
pub(crate) enum Ctl {
    Engine(Mode),
    AuditEngine(AuditEngine),
    AuditParts(PartsChange),
    RemoveRules(RuleBits),
    RemoveTargets(Arc<TargetRemoval>),
    BodyProcessor(Processor),
    ForceBody(bool),
    RequestBodyLimit(usize),
    RequestBodyAccess(bool),
    ResponseBodyAccess(bool),
}

/// Entries that some rules do not look at.
#[derive(Debug)]
pub(crate) struct TargetRemoval {
    pub(crate) rules: RuleBits,
    pub(crate) exclusion: Exclusion,
}

/// Where to go on after a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    Next,
    /// So many rules further.
    Rules(u32),
    /// At this place of the phase's order.
    To(u32),
}

impl Skip {
    /// Where it leads, if the next place would be this one.
    pub(crate) fn from(self, next: usize) -> usize {
        match self {
            Self::Next => next,
            Self::Rules(count) => next + count as usize,
            Self::To(place) => place as usize,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: u32,
    pub(crate) phase: Phase,
    pub(crate) file: Arc<str>,
    pub(crate) line: u32,
    pub(crate) links: Range<u32>,
    pub(crate) meta: Meta,
    pub(crate) disruptive: Disruptive,
    pub(crate) status: Option<u16>,
    pub(crate) log: bool,
    pub(crate) audit_log: bool,
    pub(crate) skip: Skip,
}

/// TX variables the engine itself reads or presets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KnownSlots {
    pub(crate) blocking_paranoia: TxSlot,
    pub(crate) detection_paranoia: TxSlot,
    pub(crate) inbound_threshold: TxSlot,
    pub(crate) outbound_threshold: TxSlot,
    pub(crate) inbound_score: TxSlot,
    pub(crate) outbound_score: TxSlot,
    /// The scores of each paranoia level, read when no total has been made yet.
    pub(crate) inbound_levels: [TxSlot; 4],
    pub(crate) outbound_levels: [TxSlot; 4],
}

impl KnownSlots {
    pub(crate) fn intern(names: &mut TxNames) -> Self {
        let mut level = |side: &str, number: u8| names.intern(&format!("{side}_anomaly_score_pl{number}"));
        let inbound_levels = [1, 2, 3, 4].map(|number| level("inbound", number));
        let outbound_levels = [1, 2, 3, 4].map(|number| level("outbound", number));
        Self {
            blocking_paranoia: names.intern("blocking_paranoia_level"),
            detection_paranoia: names.intern("detection_paranoia_level"),
            inbound_threshold: names.intern("inbound_anomaly_score_threshold"),
            outbound_threshold: names.intern("outbound_anomaly_score_threshold"),
            inbound_score: names.intern("blocking_inbound_anomaly_score"),
            outbound_score: names.intern("blocking_outbound_anomaly_score"),
            inbound_levels,
            outbound_levels,
        }
    }
}

/// Compiled rules: immutable, shared by all routes and threads.
#[derive(Debug)]
pub struct Program {
    /// Tells the caches of one program from another's after a reload.
    pub(crate) uid: u64,
    pub(crate) rules: Vec<Rule>,
    pub(crate) links: Vec<Link>,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) segments: Vec<Segment>,
    /// How many different chains of transformations they have.
    pub(crate) chain_count: usize,
    pub(crate) patterns: Vec<Pattern>,
    /// For the request's phases and for the response's.
    pub(crate) prefilters: [Prefilter; 2],
    /// The rules of each phase in order.
    pub(crate) phases: [Vec<RuleIx>; 5],
    /// For each phase, which rules a value concerns.
    pub(crate) nominations: [Nominations; 5],
    pub(crate) names: TxNames,
    pub(crate) known: KnownSlots,
    pub(crate) settings: Settings,
    /// The paths that rules ask of XML bodies.
    pub(crate) xml_paths: Vec<xml::Path>,
    /// Where addresses are.
    pub(crate) geo: Option<GeoDatabase>,
}

/// What can be known of a rule from outside, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo<'a> {
    /// The rule's id.
    pub id: u32,
    /// When it runs.
    pub phase: Phase,
    /// Its message as written, macros unexpanded; empty when it has none.
    pub msg: String,
    /// From 0 (emergency) to 7 (debug).
    pub severity: Option<u8>,
    /// Its tags as written, macros unexpanded.
    pub tags: Vec<&'a str>,
    /// The file it stands in.
    pub file: &'a str,
    /// The line it starts on, from 1.
    pub line: u32,
    /// How many rules its chain has; 1 for a rule of its own.
    pub links: usize,
}

static NEXT_UID: AtomicU64 = AtomicU64::new(1);

pub(crate) fn next_uid() -> u64 {
    NEXT_UID.fetch_add(1, Ordering::Relaxed)
}

impl Program {
    /// How many rules there are; a chain counts once.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// The rules in the order of the files.
    pub fn rules(&self) -> impl Iterator<Item = RuleInfo<'_>> {
        self.rules.iter().map(|rule| RuleInfo {
            id: rule.id,
            phase: rule.phase,
            msg: rule.meta.msg.as_ref().map(|msg| msg.show(&self.names)).unwrap_or_default(),
            severity: rule.meta.severity,
            tags: rule.meta.tags.iter().map(|tag| &*tag.written).collect(),
            file: &rule.file,
            line: rule.line,
            links: rule.links.len(),
        })
    }

    /// The mode the rule files ask for (`SecRuleEngine`).
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.settings.engine
    }

    /// What the rule files want of the audit log.
    #[must_use]
    pub fn audit(&self) -> &AuditSettings {
        &self.settings.audit
    }

    /// Names and versions of the rule sets (`SecComponentSignature`).
    #[must_use]
    pub fn components(&self) -> &[String] {
        &self.settings.signatures
    }

    pub(crate) fn order(&self, phase: Phase) -> &[RuleIx] {
        self.phases.get(phase.index()).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn rule(&self, index: RuleIx) -> Option<&Rule> {
        self.rules.get(index.0 as usize)
    }

    pub(crate) fn links(&self, rule: &Rule) -> &[Link] {
        self.links.get(rule.links.start as usize..rule.links.end as usize).unwrap_or_default()
    }

    pub(crate) fn pattern(&self, id: PatternId) -> Option<&Pattern> {
        self.patterns.get(usize::from(id.0))
    }

    /// The rules a choice means, as bits.
    pub(crate) fn choose(&self, choice: &crate::validate::RuleChoice) -> RuleBits {
        let mut bits = RuleBits::with_capacity(self.rules.len());
        for (index, rule) in (0u32..).zip(&self.rules) {
            if choice.covers(rule.id, &rule.meta.tags, rule.meta.msg.as_ref()) {
                bits.insert(RuleIx(index));
            }
        }
        bits
    }

    /// The whole program as text, for people and for snapshot tests.
    #[must_use]
    pub fn dump(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_dump(&mut out);
        out
    }

    fn write_dump(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "settings {:?}", self.settings)?;
        for (index, pattern) in self.patterns.iter().enumerate() {
            let facts = &pattern.facts;
            write!(out, "pattern#{index} {:?} min {}", pattern.source, facts.min_len)?;
            if !facts.literals.is_empty() {
                let shown = facts.literals.iter().take(8).map(|literal| literal.escape_ascii().to_string());
                let more = if facts.literals.len() > 8 { " ..." } else { "" };
                write!(out, " literals [{}{more}]", shown.collect::<Vec<_>>().join(" "))?;
            }
            writeln!(out, " classes {:?}", facts.classes)?;
        }
        for (index, lane) in self.lanes.iter().enumerate() {
            write!(out, "lane#{index} {}", lane.targets.show(&self.names))?;
            for transform in &lane.chain {
                write!(out, " > {}", transform.info().name)?;
            }
            let form = if lane.every_form { " every form" } else { "" };
            writeln!(out, "{form}{}", if lane.stable { "" } else { " volatile" })?;
        }
        for (side, filter) in ["request", "response"].iter().zip(&self.prefilters) {
            writeln!(out, "prefilter {side} {} literals", filter.literal_count())?;
        }
        for phase in Phase::ALL {
            writeln!(out, "phase {phase}")?;
            for (place, index) in self.order(phase).iter().enumerate() {
                if let Some(rule) = self.rule(*index) {
                    self.write_rule(out, place, rule)?;
                }
            }
        }
        Ok(())
    }

    fn write_rule(&self, out: &mut String, place: usize, rule: &Rule) -> std::fmt::Result {
        write!(out, "  {place:03} rule {} {}:{}", rule.id, rule.file, rule.line)?;
        write!(out, " {:?}", rule.disruptive)?;
        if let Some(status) = rule.status {
            write!(out, " status {status}")?;
        }
        if rule.skip != Skip::Next {
            write!(out, " skip {:?}", rule.skip)?;
        }
        writeln!(
            out,
            "{}{}",
            if rule.log { " log" } else { "" },
            if rule.audit_log { " audit" } else { "" }
        )?;
        for link in self.links(rule) {
            let not = if link.negated { "!" } else { "" };
            write!(
                out,
                "      lane#{} {not}@{} {}",
                link.lane.0,
                link.op.name(),
                link.op.argument(&self.names)
            )?;
            if let Some(gate) = link.gate {
                write!(out, " gate {}{}", if gate.counted { "&" } else { "" }, self.names.tx(gate.slot))?;
            }
            writeln!(out, "{}", if link.capture { " capture" } else { "" })?;
            for setvar in &link.setvars {
                writeln!(out, "        {}", self.show_setvar(setvar))?;
            }
            for ctl in &link.ctls {
                writeln!(out, "        ctl {}", self.show_ctl(ctl))?;
            }
        }
        Ok(())
    }

    fn show_setvar(&self, setvar: &SetVar) -> String {
        let name = match &setvar.target {
            TxTarget::Slot(slot) => format!("tx.{}", self.names.tx(*slot)),
            TxTarget::Named(text) => format!("tx.{}", text.show(&self.names)),
            TxTarget::Stored(var, text) => {
                format!("{}.{}", var.info().name.to_ascii_lowercase(), text.show(&self.names))
            }
        };
        match &setvar.change {
            TxChange::Set(text) => format!("{name} = {}", text.show(&self.names)),
            TxChange::SetInt(number) => format!("{name} = {number}"),
            TxChange::Add(amount) => format!("{name} += {}", amount.show(&self.names)),
            TxChange::Subtract(amount) => format!("{name} -= {}", amount.show(&self.names)),
            TxChange::Unset => format!("{name} unset"),
            TxChange::Expire(seconds) => format!("{name} expires after {}", seconds.show(&self.names)),
            TxChange::Decay(amount, seconds) => {
                format!("{name} -= {} each {}", amount.show(&self.names), seconds.show(&self.names))
            }
            TxChange::Open(key) => format!("{name} opened as {}", key.show(&self.names)),
        }
    }

    fn show_ctl(&self, ctl: &Ctl) -> String {
        match ctl {
            Ctl::RemoveRules(rules) => format!("remove {} rules", rules.count()),
            Ctl::RemoveTargets(removal) => {
                format!("remove {} from {} rules", removal.exclusion.show(&self.names), removal.rules.count())
            }
            other => format!("{other:?}"),
        }
    }
}
