//! What a route changes about the rules.

use portcullis_waf::{ExclusionSettings, Mode, Overlay, OverlaySettings, RuleSelection};

use crate::common::{get, program, send, verdict};

const RULES: &str = r#"
SecRule &TX:blocking_paranoia_level "@eq 0" "id:1,phase:1,nolog,setvar:tx.blocking_paranoia_level=1"
SecRule &TX:inbound_anomaly_score_threshold "@eq 0" "id:2,phase:1,nolog,setvar:tx.inbound_anomaly_score_threshold=5"
SecRule TX:blocking_paranoia_level "@lt 2" "id:3,phase:2,nolog,skipAfter:PL2"
SecRule ARGS "@rx b" "id:20,phase:2,tag:two,setvar:tx.inbound_anomaly_score_pl1=+3"
SecMarker PL2
SecRule ARGS|REQUEST_COOKIES "@rx a" "id:10,phase:2,tag:one,setvar:tx.inbound_anomaly_score_pl1=+5"
SecRule TX:inbound_anomaly_score_pl1 "@ge %{tx.inbound_anomaly_score_threshold}" "id:90,phase:2,deny,t:none"
"#;

fn run(settings: &OverlaySettings, target: &str) -> (String, i64) {
    let (report, interruption) = send(&program(RULES), settings, &get(target), 9);
    (verdict(&report, interruption.as_ref()), report.inbound_score)
}

fn exclude(rules: RuleSelection, target: Option<&str>) -> OverlaySettings {
    let exclusion = ExclusionSettings { rules, target: target.map(str::to_owned) };
    OverlaySettings { exclusions: vec![exclusion], ..OverlaySettings::default() }
}

#[test]
fn mode_paranoia_and_threshold() {
    let default = OverlaySettings::default;
    for (settings, target, expected, score) in [
        (default(), "/?x=a", "10 90 deny 403@2", 5),
        (OverlaySettings { mode: Some(Mode::Detect), ..default() }, "/?x=a", "10 90 (deny 403@2)", 5),
        (OverlaySettings { mode: Some(Mode::Off), ..default() }, "/?x=a", "", 0),
        (OverlaySettings { inbound_threshold: Some(6), ..default() }, "/?x=a", "10", 5),
        (default(), "/?x=b", "", 0),
        (OverlaySettings { paranoia: Some(2), ..default() }, "/?x=b", "20", 3),
        (OverlaySettings { paranoia: Some(2), ..default() }, "/?x=ab", "20 10 90 deny 403@2", 8),
    ] {
        assert_eq!(run(&settings, target), (expected.to_owned(), score), "{settings:?}");
    }
}

#[test]
fn exclusions() {
    for (rules, target, expected) in [
        (RuleSelection::Id(10), None, ""),
        (RuleSelection::Range(10, 19), None, ""),
        (RuleSelection::Tag("one".into()), None, ""),
        (RuleSelection::Tag("/^o/".into()), None, ""),
        (RuleSelection::Tag("two".into()), None, "10 90 deny 403@2"),
        (RuleSelection::Id(10), Some("ARGS:JSON.1.note"), ""),
        (RuleSelection::Id(10), Some("ARGS:json.*.note"), ""),
        (RuleSelection::Id(10), Some("ARGS:/^json\\..*note$/"), ""),
        (RuleSelection::Id(10), Some("ARGS:json.2.note"), "10 90 deny 403@2"),
        (RuleSelection::Id(10), Some("REQUEST_COOKIES"), "10 90 deny 403@2"),
        (RuleSelection::All, Some("ARGS"), ""),
    ] {
        let shown = format!("{rules:?} {target:?}");
        assert_eq!(run(&exclude(rules, target), "/?json.1.note=a").0, expected, "{shown}");
    }
}

#[test]
fn mistakes() {
    let program = program(RULES);
    let error = |settings| Overlay::compile(&program, &settings).unwrap_err().to_string();
    assert_eq!(
        error(exclude(RuleSelection::Id(11), None)),
        "exclusion: no loaded rule has the id 11; correct it or remove the exclusion"
    );
    assert_eq!(
        error(exclude(RuleSelection::Id(10), Some("ARG:x"))),
        "exclusion: `ARG` is no variable; did you mean `ARGS`?"
    );
    assert!(error(exclude(RuleSelection::Id(10), Some("ARGS:/(/"))).contains("unclosed group"));
}
