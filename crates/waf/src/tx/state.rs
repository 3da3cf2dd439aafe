//! The mutable memory of a transaction, and the pools that hand it on to the next one on the same thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::explain::Added;
use super::lanes::{Gathered, NOWHERE, Summary};
use super::memo::Memo;
use super::nominate::Nominees;
use super::values::{Span, ValueId, Values};
use crate::audit::{AuditEngine, AuditParts};
use crate::macros::TxSlot;
use crate::operator::{Caches, PatternId};
use crate::overlay::{Overlay, Parsers};
use crate::program::{Program, RuleBits, RuleIx, TargetRemoval};
use crate::report::{Interruption, Match};
use crate::rule::{Mode, Processor};
use crate::sources::Sources;
use crate::variable::Var;

/// One entry of a collection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) key: ValueId,
    pub(crate) value: ValueId,
}

/// What a multipart body holds besides arguments, by the parts' names.
#[derive(Debug, Default)]
pub(crate) struct Upload {
    pub(crate) files: Vec<Entry>,
    pub(crate) sizes: Vec<Entry>,
    /// With those of `filename*`.
    pub(crate) file_names: Vec<Entry>,
    pub(crate) parts: Vec<Entry>,
    pub(crate) headers: Vec<Entry>,
}

/// One value a rule looks at, under the variable the rule wrote.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    pub(crate) var: Var,
    pub(crate) counted: bool,
    /// For TX variables with a slot; then there is no key.
    pub(crate) slot: Option<TxSlot>,
    pub(crate) key: ValueId,
    pub(crate) value: ValueId,
}

/// A value that matched. Integers of gates have no text until somebody asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    pub(crate) item: Item,
    pub(crate) number: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TxValue {
    #[default]
    Unset,
    Int(i64),
    Bytes(Span),
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) values: Values,
    pub(crate) scalars: [ValueId; Var::COUNT],
    pub(crate) args_get: Vec<Entry>,
    pub(crate) args_post: Vec<Entry>,
    pub(crate) request_headers: Vec<Entry>,
    pub(crate) cookies: Vec<Entry>,
    pub(crate) response_headers: Vec<Entry>,
    pub(crate) upload: Upload,
    /// By path.
    pub(crate) xml: Vec<Entry>,
    /// What the last `@geoLookup` found.
    pub(crate) geo: Vec<Entry>,
    pub(crate) tx: Vec<TxValue>,
    /// TX variables whose names were made at run time.
    pub(crate) tx_named: Vec<(ValueId, TxValue)>,
    /// Where each of them is: a rule may make one for every argument.
    pub(crate) tx_places: HashMap<ValueId, usize>,
    /// The pattern and value whose groups TX:1 to TX:9 still have to be set to.
    pub(crate) captured: Option<(PatternId, Span)>,
    pub(crate) matched: Option<Hit>,
    /// The values the current chain matched.
    pub(crate) matched_all: Vec<Hit>,
    /// The rule that is being evaluated.
    pub(crate) rule: Option<RuleIx>,
    /// What rules added to TX variables.
    pub(crate) added: Vec<Added>,
    /// Values, by name, that exclusions kept from rules.
    pub(crate) withheld: Vec<(RuleIx, ValueId)>,
    pub(crate) highest_severity: u8,
    /// For each lane its place in `summaries`.
    pub(crate) lanes: Vec<u32>,
    pub(crate) summaries: Vec<Summary>,
    /// For each segment its place in `gathered`.
    pub(crate) segments: Vec<u32>,
    pub(crate) gathered: Vec<Gathered>,
    pub(crate) lane_items: Vec<Item>,
    pub(crate) lane_rows: Vec<u32>,
    pub(crate) lane_bits: Vec<u64>,
    /// What changed since the last phase began.
    pub(crate) changed: Sources,
    /// What the lanes and segments gathered so far come from.
    pub(crate) gathered_from: Sources,
    pub(crate) side: usize,
    /// The rules of this phase that are to be visited.
    pub(crate) nominees: Nominees,
    /// How many phases went as foreseen, from the first on.
    pub(crate) foreseen: u8,
    /// A rule set a variable, or changed which rules run or what they look at, since that was last looked at.
    pub(crate) stirred: bool,
    /// Buffers lent out while a rule is evaluated.
    pub(crate) items: Vec<Item>,
    pub(crate) forms: Vec<Item>,
    pub(crate) argument: Vec<u8>,
    pub(crate) text: Vec<u8>,
    pub(crate) pair: (Vec<u8>, Vec<u8>),
    pub(crate) removed: RuleBits,
    pub(crate) touched: RuleBits,
    pub(crate) removals: Vec<Arc<TargetRemoval>>,
    pub(crate) request_body: Vec<u8>,
    pub(crate) response_body: Vec<u8>,
    pub(crate) mode: Mode,
    /// Persistent collections are not those of other transactions.
    pub(crate) on_trial: bool,
    pub(crate) audit_engine: AuditEngine,
    pub(crate) audit_parts: AuditParts,
    pub(crate) processor: Option<Processor>,
    pub(crate) parsers: Parsers,
    pub(crate) force_body: bool,
    pub(crate) request_body_access: bool,
    /// Most bytes of the request body.
    pub(crate) request_body_limit: usize,
    pub(crate) response_body_access: bool,
    pub(crate) request_body_full: bool,
    pub(crate) response_body_full: bool,
    /// `allow`: the phases up to this one are not run any more (0: none, 2: request, 4: all).
    pub(crate) allowed_until: u8,
    pub(crate) matches: Vec<Match>,
    pub(crate) interruption: Option<Interruption>,
    pub(crate) would_interrupt: Option<Interruption>,
    pub(crate) notes: Vec<&'static str>,
    pub(crate) started: Instant,
}

impl Default for State {
    fn default() -> Self {
        Self {
            values: Values::default(),
            scalars: [ValueId::NONE; Var::COUNT],
            args_get: Vec::new(),
            args_post: Vec::new(),
            request_headers: Vec::new(),
            cookies: Vec::new(),
            response_headers: Vec::new(),
            upload: Upload::default(),
            xml: Vec::new(),
            geo: Vec::new(),
            tx: Vec::new(),
            tx_named: Vec::new(),
            tx_places: HashMap::new(),
            captured: None,
            matched: None,
            matched_all: Vec::new(),
            rule: None,
            added: Vec::new(),
            withheld: Vec::new(),
            highest_severity: u8::MAX,
            lanes: Vec::new(),
            summaries: Vec::new(),
            segments: Vec::new(),
            gathered: Vec::new(),
            lane_items: Vec::new(),
            lane_rows: Vec::new(),
            lane_bits: Vec::new(),
            changed: Sources::NONE,
            gathered_from: Sources::NONE,
            side: 0,
            nominees: Nominees::default(),
            foreseen: 0,
            stirred: false,
            items: Vec::new(),
            forms: Vec::new(),
            argument: Vec::new(),
            text: Vec::new(),
            pair: Default::default(),
            removed: RuleBits::default(),
            touched: RuleBits::default(),
            removals: Vec::new(),
            request_body: Vec::new(),
            response_body: Vec::new(),
            mode: Mode::Off,
            on_trial: false,
            audit_engine: AuditEngine::default(),
            audit_parts: AuditParts::default(),
            processor: None,
            parsers: Parsers::default(),
            force_body: false,
            request_body_access: false,
            request_body_limit: 0,
            response_body_access: false,
            request_body_full: false,
            response_body_full: false,
            allowed_until: 0,
            matches: Vec::new(),
            interruption: None,
            would_interrupt: None,
            notes: Vec::new(),
            started: Instant::now(),
        }
    }
}

/// Memory one pooled state may keep.
const KEEP: usize = 256 << 10;
/// States kept by a thread: as many as it commonly has in flight between two moments.
const POOLED: usize = 16;
/// Programs whose caches a thread keeps: the current one and, during a reload, the one before.
const CACHED_PROGRAMS: usize = 2;

thread_local! {
    // Boxed, because a transaction holds its state boxed: taking one from the pool moves a pointer.
    #[allow(clippy::vec_box, reason = "see above")]
    static STATES: RefCell<Vec<Box<State>>> = const { RefCell::new(Vec::new()) };
    static CACHES: RefCell<Vec<(Caches, Memo)>> = const { RefCell::new(Vec::new()) };
}

impl State {
    /// A state ready for a transaction, from the thread's pool if it has one.
    pub(crate) fn take(program: &Program, overlay: &Overlay) -> Box<Self> {
        let pooled = STATES.try_with(|pool| pool.borrow_mut().pop()).ok().flatten();
        let mut state = pooled.unwrap_or_default();
        state.begin(program, overlay);
        state
    }

    fn begin(&mut self, program: &Program, overlay: &Overlay) {
        self.values.reset(KEEP, program.patterns.len().div_ceil(64), program.chain_count);
        self.scalars = [ValueId::NONE; Var::COUNT];
        for entries in [
            &mut self.args_get,
            &mut self.args_post,
            &mut self.request_headers,
            &mut self.cookies,
            &mut self.response_headers,
            &mut self.upload.files,
            &mut self.upload.sizes,
            &mut self.upload.file_names,
            &mut self.upload.parts,
            &mut self.upload.headers,
            &mut self.xml,
            &mut self.geo,
        ] {
            entries.clear();
        }
        self.tx.clear();
        self.tx.resize(program.names.len(), TxValue::Unset);
        for &(slot, number) in &overlay.presets {
            if let Some(value) = self.tx.get_mut(usize::from(slot.0)) {
                *value = TxValue::Int(number);
            }
        }
        self.tx_named.clear();
        self.captured = None;
        self.matched = None;
        self.matched_all.clear();
        self.added.clear();
        self.withheld.clear();
        self.rule = None;
        self.highest_severity = u8::MAX;
        self.lanes.clear();
        self.lanes.resize(program.lanes.len(), NOWHERE);
        self.summaries.clear();
        self.segments.clear();
        self.segments.resize(program.segments.len(), NOWHERE);
        self.gathered.clear();
        self.lane_items.clear();
        self.lane_rows.clear();
        self.lane_bits.clear();
        self.changed = Sources::NONE;
        self.gathered_from = Sources::NONE;
        self.side = 0;
        self.foreseen = 0;
        self.stirred = false;
        self.removed.clone_from(&overlay.removed);
        self.touched.clone_from(&overlay.touched);
        self.removals.clone_from(&overlay.removals);
        self.mode = overlay.mode;
        self.on_trial = overlay.on_trial;
        self.audit_engine = program.settings.audit.engine;
        self.audit_parts = program.settings.audit.parts;
        self.processor = None;
        self.parsers = overlay.parsers;
        self.force_body = false;
        self.request_body_access = program.settings.request_body_access;
        self.request_body_limit = overlay.request_body_limit;
        self.response_body_access = program.settings.response_body_access;
        self.request_body_full = false;
        self.response_body_full = false;
        self.allowed_until = 0;
        self.started = Instant::now();
    }

    /// Gives the memory back to the thread's pool, without what the client sent.
    pub(crate) fn give_back(mut self: Box<Self>) {
        self.request_body.clear();
        self.request_body.shrink_to(KEEP);
        self.response_body.clear();
        self.response_body.shrink_to(KEEP);
        self.removals.clear();
        self.tx_places.clear();
        self.tx_places.shrink_to(1024);
        self.matches.clear();
        self.notes.clear();
        self.interruption = None;
        self.would_interrupt = None;
        if self.values.footprint() > 16 * KEEP {
            return;
        }
        // A thread that is going away has no pool any more; then the memory is simply freed.
        let _ = STATES.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            if pool.len() < POOLED {
                pool.push(self);
            }
        });
    }

    pub(crate) fn set_scalar(&mut self, var: Var, value: &[u8]) {
        let id = self.values.intern(value);
        self.set_scalar_id(var, id);
    }

    pub(crate) fn set_scalar_id(&mut self, var: Var, id: ValueId) {
        if let Some(slot) = self.scalars.get_mut(var as usize) {
            *slot = id;
            self.changed = self.changed.union(Sources::own(var));
        }
    }

    /// A scalar that is written as an integer.
    pub(crate) fn set_number(&mut self, var: Var, number: u64) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        let id = self.values.intern_with(|_, out| push_number(out, number));
        self.set_scalar_id(var, id);
    }

    pub(crate) fn stored_scalar(&self, var: Var) -> ValueId {
        self.scalars.get(var as usize).copied().unwrap_or(ValueId::NONE)
    }

    pub(crate) fn tx(&self, slot: TxSlot) -> TxValue {
        self.tx.get(usize::from(slot.0)).copied().unwrap_or_default()
    }

    pub(crate) fn set_tx(&mut self, slot: TxSlot, value: TxValue) {
        if let Some(place) = self.tx.get_mut(usize::from(slot.0)) {
            *place = value;
        }
    }

    /// The variable as an integer; 0 when it is unset.
    pub(crate) fn int(&self, value: TxValue) -> i64 {
        match value {
            TxValue::Unset => 0,
            TxValue::Int(number) => number,
            TxValue::Bytes(span) => crate::operator::atoi(self.values.span_bytes(span)),
        }
    }

    /// The entries of a part of the message (as in [`Var::parts`]) that is a collection.
    pub(crate) fn entries(&self, part: Var) -> Option<&Vec<Entry>> {
        Some(match part {
            Var::ArgsGet => &self.args_get,
            Var::ArgsPost => &self.args_post,
            Var::RequestHeaders => &self.request_headers,
            Var::RequestCookies => &self.cookies,
            Var::ResponseHeaders => &self.response_headers,
            Var::Files => &self.upload.files,
            Var::FilesSizes => &self.upload.sizes,
            Var::MultipartFilename => &self.upload.file_names,
            Var::MultipartName => &self.upload.parts,
            Var::MultipartPartHeaders => &self.upload.headers,
            Var::Xml => &self.xml,
            Var::Geo => &self.geo,
            _ => return None,
        })
    }

    pub(crate) fn note(&mut self, note: &'static str) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// Appends an integer in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Lends what the thread keeps for a program to `run`.
pub(crate) fn with_caches<R>(program: u64, run: impl FnOnce(&mut Caches, &mut Memo) -> R) -> R {
    let found = CACHES.try_with(|all| {
        let mut all = all.borrow_mut();
        let index = all.iter().position(|(caches, _)| caches.program() == program)?;
        Some(all.swap_remove(index))
    });
    let fresh = || (Caches::for_program(program), Memo::default());
    let (mut caches, mut memo) = found.ok().flatten().unwrap_or_else(fresh);
    let result = run(&mut caches, &mut memo);
    let _ = CACHES.try_with(|all| {
        let mut all = all.borrow_mut();
        // The newest program is the one with the highest number.
        all.sort_by_key(|(caches, _)| std::cmp::Reverse(caches.program()));
        all.truncate(CACHED_PROGRAMS - 1);
        all.push((caches, memo));
    });
    result
}
