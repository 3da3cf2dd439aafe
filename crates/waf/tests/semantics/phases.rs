//! Sections 2 and 3: phases, default actions.

use portcullis_waf::OverlaySettings;

use crate::common::{check, get, post, program, send, try_program};
use crate::table;

#[test]
fn which_phases_run() {
    let all = |first: &str| {
        let rest: String = (2..6).map(|phase| format!("SecAction \"id:{phase}0,phase:{phase}\"\n")).collect();
        format!("SecAction \"id:10,phase:1\"\n{first}\n{rest}")
    };
    let answered = get("/").answered(200, "text/plain", "x");
    for (first, expected) in [
        ("", "10 20 30 40 50"),
        ("SecAction \"id:1,phase:1,deny\"", "10 1 50 deny 403@1"),
        ("SecAction \"id:1,phase:2,deny\"", "10 1 50 deny 403@2"),
        ("SecAction \"id:1,phase:3,deny,status:404\"", "10 20 1 50 deny 404@3"),
        ("SecAction \"id:1,phase:response,deny,status:502\"", "10 20 30 1 50 deny 502@4"),
        // Phase 5 is too late to stop anything.
        ("SecAction \"id:1,phase:logging,deny\"", "10 20 30 40 1 50"),
    ] {
        check(first, &all(first), &answered, expected);
    }
    check("phase 2 without a body", &all(""), &get("/"), "10 20 50");
}

#[test]
fn arguments_come_as_the_request_is_read() {
    let mut message = post("application/x-www-form-urlencoded", "b=2");
    message.target = "/?a=1".to_owned();
    for (targets, phase, expected) in [
        ("ARGS", 1, "1=1"),
        ("ARGS", 2, "1=2"),
        ("ARGS_GET", 2, "1=1"),
        ("ARGS_POST", 1, "1=0"),
        ("ARGS_POST", 2, "1=1"),
        ("ARGS_NAMES", 5, "1=2"),
    ] {
        let rules = format!("SecRule &{targets} \"@ge 0\" \"id:1,phase:{phase},logdata:'%{{MATCHED_VAR}}'\"");
        check(&format!("{targets} in phase {phase}"), &rules, &message, expected);
    }
}

#[test]
fn default_actions_merge() {
    for (name, default, rule, expected) in [
        // Without any SecDefaultAction, in every phase: log, auditlog, pass.
        ("hard-wired", "", "phase:1", "1"),
        ("hard-wired, phase 5", "", "phase:5", "1"),
        ("block of the hard-wired default", "", "phase:1,block,status:404", "1"),
        ("one for its phase", "SecDefaultAction \"phase:1,log,deny\"", "phase:1", "1 deny 403@1"),
        ("not for another", "SecDefaultAction \"phase:1,log,deny\"", "phase:2", "1"),
        (
            "a later one replaces the first",
            "SecDefaultAction \"phase:1,log,deny\"\nSecDefaultAction \"phase:1,log,drop\"",
            "phase:1,block",
            "1 drop 403@1",
        ),
        (
            "the rule's status",
            "SecDefaultAction \"phase:1,log,deny,status:451\"",
            "phase:1,status:418",
            "1 deny 418@1",
        ),
        // The status is an action like any other: a rule without one of its own inherits it.
        (
            "the default's status",
            "SecDefaultAction \"phase:1,log,pass,status:451\"",
            "phase:1,deny",
            "1 deny 451@1",
        ),
        (
            "a status that is no redirection's",
            "SecDefaultAction \"phase:1,log,deny,status:403\"",
            "phase:1,redirect:/x",
            "1 redirect:/x 302@1",
        ),
        ("one that is", "", "phase:1,redirect:/x,status:307", "1 redirect:/x 307@1"),
        ("the last of the rule's own wins", "", "phase:1,deny,pass", "1"),
        ("nolog of the default", "SecDefaultAction \"phase:1,nolog,pass\"", "phase:1", ""),
        ("log of the rule", "SecDefaultAction \"phase:1,nolog,pass\"", "phase:1,log", "1"),
        ("nolog of the rule", "SecDefaultAction \"phase:1,log,pass\"", "phase:1,nolog", ""),
        (
            "effects of the default",
            "SecDefaultAction \"phase:1,log,pass,setvar:tx.n=+1\"",
            "phase:1,setvar:tx.n=+1,logdata:'%{tx.n}'",
            "1=2",
        ),
    ] {
        check(name, &format!("{default}\nSecAction \"id:1,{rule}\""), &get("/"), expected);
    }
    for (default, reason) in [
        ("log,deny", "phase"),
        ("phase:1,log", "disruptive"),
        ("phase:1,deny,id:7", "`id`"),
        ("phase:1,deny,msg:'x'", "`msg`"),
        ("phase:1,deny,chain", "`chain`"),
        ("phase:1,deny,skip:1", "`skip`"),
    ] {
        let error = try_program(&format!("SecDefaultAction \"{default}\"")).unwrap_err();
        assert!(error.contains(reason), "{default}: {error}");
    }
}

#[test]
fn transformations_of_the_default() {
    let rules = |own: &str| {
        format!(
            "SecDefaultAction \"phase:2,log,pass,t:lowercase\"\nSecRule ARGS \"@streq YWJj\" \"id:1,{own}\"\nSecRule ARGS \"@streq abc\" \"id:2,{own}\""
        )
    };
    for (own, target, expected) in [
        ("pass", "/?q=ABC", "2"),
        ("t:none", "/?q=YWJj", "1"),
        // `t:none` forgets what came before it, the default's too, and only that.
        ("t:none,t:base64Decode", "/?q=YWJj", "2"),
        ("t:base64Decode,t:none", "/?q=YWJj", "1"),
        ("t:urlDecode", "/?q=%2561BC", "2"),
        // After the default's, not before.
        ("t:urlDecode", "/?q=%2541BC", ""),
    ] {
        check(own, &rules(own), &get(target), expected);
    }
    table(&[(
        "links of a chain have the default's",
        r#"SecDefaultAction "phase:2,log,pass,t:lowercase"
           SecRule ARGS:a "@streq A" "id:1,t:none,chain"
           SecRule ARGS:a "@streq a""#,
        get("/?a=A"),
        "1",
    )]);
}

#[test]
fn what_goes_to_which_log() {
    for (actions, reported) in [
        ("pass", Some(true)),
        ("log", Some(true)),
        ("nolog", None),
        ("log,noauditlog", Some(false)),
        ("noauditlog,log", Some(true)),
        ("noauditlog", Some(false)),
        ("nolog,log", Some(true)),
        ("log,nolog", None),
    ] {
        let rules = format!("SecAction \"id:1,phase:1,{actions}\"");
        let (report, _) = send(&program(&rules), &OverlaySettings::default(), &get("/"), 9);
        assert_eq!(report.matches.first().map(|found| found.audit), reported, "{actions}");
    }
}
