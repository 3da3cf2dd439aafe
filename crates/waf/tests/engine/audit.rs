//! What rule files and rules say of the audit log.

use portcullis_waf::{AuditEngine, AuditLogFormat, AuditLogType, OverlaySettings};

use crate::common::{get, program, send};

const RULES: &str = r#"
    SecAuditEngine RelevantOnly
    SecAuditLog /var/log/modsec_audit.log
    SecAuditLogType Concurrent
    SecAuditLogStorageDir /var/log/modsec
    SecAuditLogFileMode 0640
    SecAuditLogDirMode default
    SecAuditLogFormat JSON
    SecAuditLogParts ABIJDEFHZ
    SecAuditLogRelevantStatus "^5"
    SecRule ARGS:q "@streq off" "id:1,phase:1,pass,nolog,ctl:auditEngine=Off"
    SecRule ARGS:q "@streq parts" "id:2,phase:1,pass,nolog,ctl:auditLogParts=+K,ctl:auditLogParts=-DEF"
    SecRule ARGS:q "@streq found" "id:3,phase:1,pass,log,auditlog"
    SecRule ARGS:q "@streq quiet" "id:4,phase:1,pass,log,noauditlog"
"#;

#[test]
fn directives_are_told() {
    let program = program(RULES);
    let audit = program.audit();
    assert_eq!(audit.engine, AuditEngine::RelevantOnly);
    assert_eq!(audit.log.as_deref(), Some("/var/log/modsec_audit.log"));
    assert_eq!(audit.log_type, AuditLogType::Concurrent);
    assert_eq!(audit.storage_dir.as_deref(), Some("/var/log/modsec"));
    assert_eq!((audit.file_mode, audit.dir_mode), (Some(0o640), None));
    assert_eq!(audit.format, AuditLogFormat::Json);
    assert_eq!(audit.parts.to_string(), "ABDEFHIJZ");
    assert_eq!(audit.relevant_status.as_ref().map(|status| status.pattern()), Some("^5"));
}

#[test]
fn what_is_relevant() {
    let program = program(RULES);
    for (query, status, wanted, parts) in [
        ("x", 200, false, "ABDEFHIJZ"),
        ("x", 503, true, "ABDEFHIJZ"),
        ("off", 503, false, "ABDEFHIJZ"),
        ("parts", 500, true, "ABHIJKZ"),
        ("found", 200, true, "ABDEFHIJZ"),
        ("quiet", 200, false, "ABDEFHIJZ"),
    ] {
        let request = get(&format!("/?q={query}"));
        let (report, _) = send(&program, &OverlaySettings::default(), &request, 7);
        assert_eq!(program.audit().wants(&report, Some(status)), wanted, "{query} {status}");
        assert_eq!(report.audit_parts.to_string(), parts, "{query}");
    }
}
