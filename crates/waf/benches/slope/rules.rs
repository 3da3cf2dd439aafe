//! Each rule alone, looking at one field of the request.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_diag::SourceMap;
use portcullis_seclang::{Action, Directive, DirectiveKind, Disk, Rule, load, parse};
use portcullis_waf::{FileSystem, Overlay, OverlaySettings, Program, build};

use crate::inputs::{self, Recipe};

/// A rule (or a link of a chain) on a program of its own, and what it is to be fed.
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) program: Arc<Program>,
    pub(crate) overlay: Arc<Overlay>,
    pub(crate) recipes: Vec<Recipe>,
}

/// The field every rule is made to look at.
pub(crate) const FIELD: &[u8] = b"X-In";

/// Operators that compare integers or short texts; nothing in them takes longer for a longer value than reading it.
const PLAIN: [&str; 5] = ["eq", "ge", "gt", "le", "lt"];

pub(crate) struct Rules {
    sources: SourceMap,
    directives: Vec<Directive>,
}

/// The rule files of a folder, in order.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    files
}

/// Builds directives, or says why not.
pub(crate) fn program(directives: &[Directive], sources: &SourceMap) -> (Arc<Program>, Arc<Overlay>) {
    let (program, _) =
        build(directives, sources, &FileSystem).unwrap_or_else(|found| panic!("{}", found.to_text(sources)));
    let settings = OverlaySettings { paranoia: Some(4), ..OverlaySettings::default() };
    let overlay = Overlay::compile(&program, &settings).unwrap();
    (Arc::new(program), Arc::new(overlay))
}

impl Rules {
    pub(crate) fn load(files: &[PathBuf], extra: &str) -> Self {
        let mut sources = SourceMap::new();
        let extra = sources.add("extra.conf", extra);
        let mut directives = parse(&sources, extra).directives;
        directives.extend(load(files, &Disk, &mut sources).directives);
        Self { sources, directives }
    }

    /// All rules as they are.
    pub(crate) fn whole(&self) -> (Arc<Program>, Arc<Overlay>) {
        program(&self.directives, &self.sources)
    }

    /// Each rule that reads text, once for each distinct question it asks: with its transformations, fed with what
    /// transformations take apart, and without them, fed with what its operator nearly accepts.
    pub(crate) fn cases(&mut self) -> Vec<Case> {
        let frames = ["%{tx.0}", "%{tx.0}%{tx.1}"].map(|logdata| self.frame(logdata));
        let groups = self.read_groups();
        let mut known = HashSet::new();
        let mut cases = Vec::new();
        let mut id = String::new();
        let mut link = 0;
        for directive in &self.directives {
            let DirectiveKind::Rule(rule) = &directive.kind else { continue };
            match rule.actions.named("id").next().and_then(|action| action.value.as_ref()) {
                Some(own) => (id, link) = (own.value.clone(), 0),
                None => link += 1,
            }
            if PLAIN.contains(&rule.operator.name.as_str()) {
                continue;
            }
            let place = if link == 0 { id.clone() } else { format!("{id}/{link}") };
            for bare in [false, true] {
                let frame = &frames[usize::from(groups.contains(&id))];
                let alone = alone(directive, rule, frame, bare);
                let question = alone.to_string();
                if !known.insert(question) {
                    continue;
                }
                let (program, overlay) = program(&[alone], &self.sources);
                let recipes = if bare { self.derived(rule) } else { inputs::general() };
                let id = if bare { format!("{place} bare") } else { place.clone() };
                cases.push(Case { id, program, overlay, recipes });
            }
        }
        cases
    }

    /// A rule whose targets and actions the rules get, with this to be logged.
    fn frame(&mut self, logdata: &str) -> Rule {
        let text = format!(
            "SecRule REQUEST_HEADERS:X-In \"@rx a\" \"id:1,phase:1,pass,log,msg:'m',logdata:'{logdata}'\""
        );
        let template = self.sources.add("template.conf", text);
        match parse(&self.sources, template).directives.remove(0).kind {
            DirectiveKind::Rule(rule) => *rule,
            _ => panic!("the template is a rule"),
        }
    }

    /// The rules that ask what the groups of their patterns matched, in whichever link: finding that out costs more.
    fn read_groups(&self) -> HashSet<String> {
        let mut found = HashSet::new();
        let mut id = String::new();
        for directive in &self.directives {
            let DirectiveKind::Rule(rule) = &directive.kind else { continue };
            if let Some(own) = rule.actions.named("id").next().and_then(|action| action.value.as_ref()) {
                id = own.value.clone();
            }
            let text = rule.to_string().to_ascii_lowercase();
            if (1..=9)
                .any(|group| text.contains(&format!("tx.{group}")) || text.contains(&format!("tx:{group}")))
            {
                found.insert(id.clone());
            }
        }
        found
    }

    fn derived(&self, rule: &Rule) -> Vec<Recipe> {
        let argument = rule.operator.argument.as_str();
        let words = |text: &str| -> Vec<Vec<u8>> {
            let words = text.split_whitespace().filter(|word| !word.starts_with('#'));
            words.map(|word| word.as_bytes().to_vec()).collect()
        };
        match rule.operator.name.to_ascii_lowercase().as_str() {
            "rx" | "verifycc" => inputs::pattern(argument).unwrap_or_else(|| {
                println!("  no inputs from the pattern {argument}");
                Vec::new()
            }),
            "pm" => inputs::phrases(&words(argument)),
            "pmfromfile" | "pmf" => {
                let file = self.sources.get(rule.operator.span.source).unwrap().name().to_owned();
                let folder = Path::new(&file).parent().unwrap().to_owned();
                let text = std::fs::read(folder.join(argument)).unwrap();
                inputs::phrases(&words(&String::from_utf8_lossy(&text)))
            }
            "detectsqli" | "detectxss" => inputs::detectors(),
            _ => Vec::new(),
        }
    }
}

/// The rule, looking at the template's field in phase 1; `bare`: without its transformations.
fn alone(directive: &Directive, rule: &Rule, frame: &Rule, bare: bool) -> Directive {
    let mut rule = rule.clone();
    rule.variables = frame.variables.clone();
    rule.variables_span = frame.variables_span;
    let keep = |action: &Action| {
        let is = |name: &str| action.name.eq_ignore_ascii_case(name);
        is("capture") || (!bare && (is("t") || is("multiMatch")))
    };
    rule.actions.items.retain(keep);
    rule.actions.items.extend(frame.actions.items.iter().cloned());
    Directive { kind: DirectiveKind::Rule(Box::new(rule)), ..directive.clone() }
}
