//! From a [`RuleSet`] to a [`Program`]: patterns compiled and shared, lanes and names interned, jumps resolved.

mod lanes;
mod operators;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use portcullis_diag::{Diagnostic, Diagnostics, SourceMap, Span};
use portcullis_seclang as ast;

use crate::body::xml;
use crate::codes;
use crate::macros::Num;
use crate::nominations::Nominations;
use crate::operator::{Op, Pattern, PatternId};
use crate::prefilter::Prefilter;
use crate::program::{
    Ctl, Gate, KnownSlots, Lane, LaneId, Link, Program, Rule, RuleBits, RuleIx, Segment, SegmentId, Skip,
    TargetRemoval, Written, next_uid,
};
use crate::rule::{Meta, Phase};
use crate::target::{Key, Target, TargetSet};
use crate::transform::Transform;
use crate::validate::{BuildOptions, CtlDef, Item, LinkDef, RuleChoice, RuleDef, RuleSet, SkipDef, tolerate};
use crate::variable::Var;

/// Where `@pmFromFile` and `@ipMatchFromFile` read their files.
pub trait DataFiles {
    /// The content of the file at `path`, which is relative to the directory of the rule file that names it (already
    /// joined), or absolute.
    ///
    /// # Errors
    /// When it cannot be read; the message goes into the finding.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// Data files in the file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

impl DataFiles for FileSystem {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

/// Parsed directives to a program in one go, with the default options: [`build_with`].
///
/// # Errors
/// All findings when there is an error among them; otherwise the warnings come with the program.
pub fn build(
    directives: &[ast::Directive],
    sources: &SourceMap,
    data: &dyn DataFiles,
) -> Result<(Program, Diagnostics), Diagnostics> {
    build_with(directives, sources, data, BuildOptions::default())
}

/// Parsed directives to a program in one go: [`crate::validate`], then [`compile`].
///
/// # Errors
/// All findings when there is an error among them; otherwise the warnings come with the program.
pub fn build_with(
    directives: &[ast::Directive],
    sources: &SourceMap,
    data: &dyn DataFiles,
    options: BuildOptions,
) -> Result<(Program, Diagnostics), Diagnostics> {
    let (set, mut diagnostics) = crate::validate(directives, options);
    let (program, found) = compile(set, sources, data, options);
    diagnostics.append(found);
    match program {
        Some(program) if !diagnostics.has_errors() => Ok((program, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// Compiles validated rules. No program comes with findings that are errors.
#[must_use]
pub fn compile(
    mut set: RuleSet,
    sources: &SourceMap,
    data: &dyn DataFiles,
    options: BuildOptions,
) -> (Option<Program>, Diagnostics) {
    let mut compiler = Compiler {
        sources,
        data,
        diagnostics: Diagnostics::new(),
        patterns: Vec::new(),
        pattern_ids: HashMap::new(),
        sides: Vec::new(),
        lanes: Vec::new(),
        lane_ids: HashMap::new(),
        segments: Vec::new(),
        segment_ids: HashMap::new(),
        chains: Vec::new(),
        links: Vec::new(),
        files: HashMap::new(),
        xml_paths: Vec::new(),
    };
    if options.allow_unsupported {
        set.items.retain(|item| compiler.is_supported(item));
    }
    let program = compiler.program(set);
    let program = program.filter(|_| !compiler.diagnostics.has_errors());
    (program, compiler.diagnostics)
}

struct Compiler<'a> {
    sources: &'a SourceMap,
    data: &'a dyn DataFiles,
    diagnostics: Diagnostics,
    patterns: Vec<Pattern>,
    /// By what was written: the same text is compiled once.
    pattern_ids: HashMap<String, PatternId>,
    /// For each pattern, whether request and response rules use it.
    sides: Vec<[bool; 2]>,
    lanes: Vec<Lane>,
    lane_ids: HashMap<String, LaneId>,
    segments: Vec<Segment>,
    segment_ids: HashMap<String, SegmentId>,
    /// The chains of transformations, each once.
    chains: Vec<Box<[Transform]>>,
    links: Vec<Link>,
    files: HashMap<usize, Arc<str>>,
    xml_paths: Vec<xml::Path>,
}

/// A marker or rule that `skipAfter` can name: where in the file order, and where in each phase's order it leads.
struct Landing {
    item: usize,
    places: [u32; 5],
}

/// Landings by name, in the order of the files.
type Landings = HashMap<Box<str>, Vec<Landing>>;

impl Compiler<'_> {
    /// Whether all patterns of a rule can be compiled; a rule with one that is not supported is left out, with a warning.
    /// What is compiled here is not compiled again.
    fn is_supported(&mut self, item: &Item) -> bool {
        let Item::Rule(rule) = item else { return true };
        let before = std::mem::take(&mut self.diagnostics);
        for link in &rule.links {
            self.operator(&link.operator, rule.phase);
        }
        let mut found = std::mem::replace(&mut self.diagnostics, before);
        let left_out = tolerate(&mut found, &format!("rule {}", rule.id));
        if left_out {
            self.diagnostics.append(found);
        }
        !left_out
    }

    fn program(&mut self, set: RuleSet) -> Option<Program> {
        let RuleSet { items, settings, mut names } = set;
        let known = KnownSlots::intern(&mut names);
        let (phases, landings) = order(&items);
        let rules: Vec<(usize, Box<RuleDef>)> = items
            .into_iter()
            .enumerate()
            .filter_map(|(item, kind)| match kind {
                Item::Rule(rule) => Some((item, rule)),
                Item::Marker(_) => None,
            })
            .collect();
        // `ctl` selects rules by what all of them say about themselves.
        let metas: Vec<(u32, Meta)> = rules.iter().map(|(_, rule)| (rule.id, rule.meta.clone())).collect();
        let mut compiled = Vec::with_capacity(rules.len());
        for (item, rule) in rules {
            compiled.push(self.rule(item, *rule, &names, &metas, &landings));
        }
        let total = self.patterns.len();
        let too_many = [
            ("patterns", total),
            ("TX names", names.len()),
            ("chains of transformations", self.chains.len()),
        ];
        for (what, count) in too_many {
            if count >= usize::from(u16::MAX) {
                let message = format!("{count} {what} are more than a program can hold");
                let diagnostic = Diagnostic::error(codes::TOO_LARGE, message);
                self.diagnostics.push(diagnostic.help("load only the rule files that are wanted"));
                return None;
            }
        }
        let geo = self.geo_database(settings.geo_database.as_ref());
        let prefilters = [self.prefilter(0), self.prefilter(1)];
        let mut program = Program {
            uid: next_uid(),
            rules: compiled,
            links: std::mem::take(&mut self.links),
            lanes: std::mem::take(&mut self.lanes),
            segments: std::mem::take(&mut self.segments),
            chain_count: self.chains.len(),
            patterns: std::mem::take(&mut self.patterns),
            prefilters,
            phases,
            nominations: Default::default(),
            names,
            known,
            settings,
            xml_paths: std::mem::take(&mut self.xml_paths),
            geo,
        };
        program.nominations = Phase::ALL.map(|phase| Nominations::new(&program, phase));
        Some(program)
    }

    fn prefilter(&self, side: usize) -> Prefilter {
        let used = self.sides.iter().map(|sides| sides.get(side).copied().unwrap_or(false));
        let ids = (0u16..).map(PatternId).zip(&self.patterns);
        let patterns = ids.zip(used).filter(|(_, used)| *used).map(|(pattern, _)| pattern);
        let mut for_bodies = vec![false; self.patterns.len()];
        for link in self.links.iter().filter(|_| side == Phase::ResponseBody.side()) {
            let lane = self.lanes.get(link.lane.0 as usize);
            let is_body = |target: &Target| matches!(target.var, Var::ResponseBody | Var::StreamOutputBody);
            if let (Op::Rx(id) | Op::Pm(id), Some(lane)) = (&link.op, lane)
                && lane.targets.includes.iter().any(is_body)
                && let Some(for_bodies) = for_bodies.get_mut(usize::from(id.0))
            {
                *for_bodies = true;
            }
        }
        let for_bodies = |id: PatternId| for_bodies.get(usize::from(id.0)).copied().unwrap_or(false);
        Prefilter::new(patterns, self.patterns.len(), for_bodies)
    }

    fn rule(
        &mut self,
        item: usize,
        rule: RuleDef,
        names: &crate::macros::TxNames,
        metas: &[(u32, Meta)],
        landings: &Landings,
    ) -> Rule {
        let first = self.links.len() as u32;
        for link in rule.links {
            let link = self.link(link, rule.phase, names, metas);
            self.links.push(link);
        }
        let skip = match &rule.skip {
            None => Skip::Next,
            Some(SkipDef::Rules(count)) => Skip::Rules(*count),
            Some(SkipDef::After(name, span)) => self.landing(item, rule.phase, name, *span, landings),
        };
        let line = self.sources.position(rule.span).map_or(0, |position| position.line);
        Rule {
            id: rule.id,
            phase: rule.phase,
            file: self.file(rule.span),
            line,
            links: first..self.links.len() as u32,
            meta: rule.meta,
            disruptive: rule.disruptive,
            status: rule.status,
            log: rule.log,
            audit_log: rule.audit_log,
            skip,
        }
    }

    fn file(&mut self, span: Span) -> Arc<str> {
        let name = || self.sources.get(span.source).map_or("", |source| source.name()).into();
        Arc::clone(self.files.entry(span.source.index()).or_insert_with(name))
    }

    fn landing(&mut self, item: usize, phase: Phase, name: &str, span: Span, landings: &Landings) -> Skip {
        let found = landings.get(name).into_iter().flatten().find(|landing| landing.item > item);
        let place = found.and_then(|landing| landing.places.get(phase.index()));
        if let Some(place) = place {
            return Skip::To(*place);
        }
        let earlier = landings.contains_key(name);
        let message = if earlier {
            format!("the marker `{name}` does not come after this rule")
        } else {
            format!("there is no marker `{name}` after this rule")
        };
        let known = landings.keys().map(AsRef::as_ref);
        let suggestion = portcullis_diag::suggest(name, known).filter(|_| !earlier);
        let diagnostic = Diagnostic::error(codes::MISSING_MARKER, message).at(span).suggest(suggestion);
        self.diagnostics.push(diagnostic);
        Skip::Next
    }

    fn link(
        &mut self,
        link: LinkDef,
        phase: Phase,
        names: &crate::macros::TxNames,
        metas: &[(u32, Meta)],
    ) -> Link {
        let unconditional = link.unconditional;
        let op = self.operator(&link.operator, phase);
        let gate = gate(&link, &op);
        let every_form = link.multi_match && !link.transforms.is_empty();
        let lane = self.lane(link.targets, link.transforms, every_form, names);
        let ctls = link.ctls.into_iter().map(|ctl| ctl_of(ctl, metas)).collect();
        Link {
            lane,
            op,
            written: Written::new(link.operator.kind, &link.operator.raw),
            negated: link.operator.negated,
            gate,
            capture: link.capture,
            setvars: link.setvars.into(),
            ctls,
            unconditional,
        }
    }
}

impl Compiler<'_> {
    /// XML bodies are searched for the paths of rules while they are read, so these must be known.
    fn collect_xml_paths(&mut self, targets: &TargetSet) {
        for target in targets.includes.iter().filter(|target| target.var == Var::Xml) {
            let Key::Exact(text) = &target.key else { continue };
            let known = self.xml_paths.iter().any(|path| path.source().as_bytes() == &**text);
            // Those that are no paths have been reported when the rules were validated.
            if let Ok(path) = xml::Path::parse(&String::from_utf8_lossy(text))
                && !known
            {
                self.xml_paths.push(path);
            }
        }
    }
}

/// The order of rules in each phase, and where each marker (and rule id) leads.
fn order(items: &[Item]) -> ([Vec<RuleIx>; 5], Landings) {
    let mut phases: [Vec<RuleIx>; 5] = Default::default();
    let mut landings = Landings::new();
    let mut next = 0u32;
    for (item, kind) in items.iter().enumerate() {
        let name: Box<str> = match kind {
            Item::Rule(rule) => {
                if let Some(order) = phases.get_mut(rule.phase.index()) {
                    order.push(RuleIx(next));
                }
                next += 1;
                rule.id.to_string().into()
            }
            Item::Marker(name) => name.clone(),
        };
        let places = phases.each_ref().map(|order| order.len() as u32);
        landings.entry(name).or_default().push(Landing { item, places });
    }
    (phases, landings)
}

/// One TX variable compared with an integer needs neither lane nor text.
fn gate(link: &LinkDef, op: &Op) -> Option<Gate> {
    let ([Target { var: Var::Tx, counted, key: Key::Slot(slot) }], []) =
        (link.targets.includes.as_slice(), link.targets.excludes.as_slice())
    else {
        return None;
    };
    let simple = link.transforms.is_empty() && matches!(op, Op::Compare(_, Num::Fixed(_)));
    simple.then_some(Gate { slot: *slot, counted: *counted })
}

fn choose(choice: &RuleChoice, metas: &[(u32, Meta)]) -> RuleBits {
    let mut bits = RuleBits::with_capacity(metas.len());
    for (index, (id, meta)) in (0u32..).zip(metas) {
        if choice.covers(*id, &meta.tags, meta.msg.as_ref()) {
            bits.insert(RuleIx(index));
        }
    }
    bits
}

fn ctl_of(ctl: CtlDef, metas: &[(u32, Meta)]) -> Ctl {
    match ctl {
        CtlDef::Engine(mode) => Ctl::Engine(mode),
        CtlDef::AuditEngine(engine) => Ctl::AuditEngine(engine),
        CtlDef::AuditParts(change) => Ctl::AuditParts(change),
        CtlDef::RemoveRules(choice) => Ctl::RemoveRules(choose(&choice, metas)),
        CtlDef::RemoveTargets(choice, exclusion) => {
            Ctl::RemoveTargets(Arc::new(TargetRemoval { rules: choose(&choice, metas), exclusion }))
        }
        CtlDef::BodyProcessor(processor) => Ctl::BodyProcessor(processor),
        CtlDef::ForceBody(on) => Ctl::ForceBody(on),
        CtlDef::RequestBodyLimit(limit) => Ctl::RequestBodyLimit(limit),
        CtlDef::RequestBodyAccess(on) => Ctl::RequestBodyAccess(on),
        CtlDef::ResponseBodyAccess(on) => Ctl::ResponseBodyAccess(on),
    }
}
