//! What directives other than rules set, and the table of those directives.

use crate::audit::AuditSettings;
use crate::rule::{LimitAction, Mode};

/// The engine's settings as the rule files leave them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) engine: Mode,
    pub(crate) request_body_access: bool,
    pub(crate) request_body_limit: usize,
    pub(crate) request_body_limit_action: LimitAction,
    pub(crate) json_depth_limit: usize,
    pub(crate) arguments_limit: usize,
    pub(crate) argument_separator: u8,
    pub(crate) upload_file_limit: usize,
    pub(crate) response_body_access: bool,
    pub(crate) response_body_limit: usize,
    pub(crate) response_body_limit_action: LimitAction,
    /// Media types whose bodies are inspected, lower-cased.
    pub(crate) response_mime_types: Vec<String>,
    pub(crate) signatures: Vec<String>,
    /// Seconds a persistent collection is kept after its last change.
    pub(crate) collection_timeout: u32,
    pub(crate) audit: AuditSettings,
}

impl Default for Settings {
    /// Safe where the files say nothing: rules block, request bodies are read, in the sizes CRS recommends.
    fn default() -> Self {
        Self {
            engine: Mode::Block,
            request_body_access: true,
            request_body_limit: 13_107_200,
            request_body_limit_action: LimitAction::Reject,
            json_depth_limit: 512,
            arguments_limit: 1000,
            argument_separator: b'&',
            upload_file_limit: 100,
            response_body_access: false,
            response_body_limit: 524_288,
            response_body_limit_action: LimitAction::ProcessPartial,
            response_mime_types: vec!["text/plain".to_owned(), "text/html".to_owned()],
            signatures: Vec::new(),
            collection_timeout: 3600,
            audit: AuditSettings::default(),
        }
    }
}

/// What a directive sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectiveEffect {
    /// `SecRuleEngine`
    Engine,
    /// `SecRequestBodyAccess`
    RequestBodyAccess,
    /// `SecRequestBodyLimit`
    RequestBodyLimit,
    /// `SecRequestBodyLimitAction`
    RequestBodyLimitAction,
    /// `SecRequestBodyJsonDepthLimit`
    JsonDepthLimit,
    /// `SecArgumentsLimit`
    ArgumentsLimit,
    /// `SecArgumentSeparator`
    ArgumentSeparator,
    /// `SecCollectionTimeout`
    CollectionTimeout,
    /// `SecAuditEngine`
    AuditEngine,
    /// `SecAuditLog`
    AuditLog,
    /// `SecAuditLog2`
    AuditLog2,
    /// `SecAuditLogDirMode`
    AuditLogDirMode,
    /// `SecAuditLogFileMode`
    AuditLogFileMode,
    /// `SecAuditLogFormat`
    AuditLogFormat,
    /// `SecAuditLogParts`
    AuditLogParts,
    /// `SecAuditLogRelevantStatus`
    AuditLogRelevantStatus,
    /// `SecAuditLogStorageDir`
    AuditLogStorageDir,
    /// `SecAuditLogType`
    AuditLogType,
    /// `SecUploadFileLimit`
    UploadFileLimit,
    /// `SecResponseBodyAccess`
    ResponseBodyAccess,
    /// `SecResponseBodyLimit`
    ResponseBodyLimit,
    /// `SecResponseBodyLimitAction`
    ResponseBodyLimitAction,
    /// `SecResponseBodyMimeType`
    ResponseBodyMimeType,
    /// `SecResponseBodyMimeTypesClear`
    ResponseBodyMimeTypesClear,
    /// `SecComponentSignature`
    ComponentSignature,
    /// Taken without effect; the text says who does it instead.
    Accepted(&'static str),
    /// Refused; the text says why, or what to do instead.
    Unsupported(&'static str),
}

/// One row of the directive table.
#[derive(Debug)]
pub struct DirectiveInfo {
    /// The directive's name (compared case-insensitively).
    pub name: &'static str,
    /// What it sets.
    pub effect: DirectiveEffect,
    /// What it is for, one sentence.
    pub doc: &'static str,
}

const DEBUG: DirectiveEffect = DirectiveEffect::Accepted("the gateway's log level governs");
const LINEAR: DirectiveEffect = DirectiveEffect::Accepted("patterns run in linear time and need no limit");
const MEMORY: DirectiveEffect =
    DirectiveEffect::Accepted("bodies stay in memory, within the gateway's budget");
const STORES: DirectiveEffect = DirectiveEffect::Accepted("persistent collections live in memory");

macro_rules! table {
    ($($name:literal $effect:expr, $doc:literal;)*) => {
        /// Every directive that is not a rule or about rules.
        pub const TABLE: &[DirectiveInfo] = &[$(DirectiveInfo { name: $name, effect: $effect, doc: $doc }),*];
    };
}

table! {
    "SecArgumentSeparator" DirectiveEffect::ArgumentSeparator, "The byte between arguments, `&` by default.";
    "SecArgumentsLimit" DirectiveEffect::ArgumentsLimit, "Most arguments taken from a request, 1000 by default.";
    "SecAuditEngine" DirectiveEffect::AuditEngine, "Which transactions get an entry in the audit log: On, Off (the default) or RelevantOnly.";
    "SecAuditLog" DirectiveEffect::AuditLog, "The audit log's file.";
    "SecAuditLog2" DirectiveEffect::AuditLog2, "A second file of the audit log.";
    "SecAuditLogDirMode" DirectiveEffect::AuditLogDirMode, "Permissions of the audit log's directories, in octal, or `default`.";
    "SecAuditLogFileMode" DirectiveEffect::AuditLogFileMode, "Permissions of the audit log's files, in octal, or `default`.";
    "SecAuditLogFormat" DirectiveEffect::AuditLogFormat, "How entries of the audit log are written: Native (the default) or JSON.";
    "SecAuditLogParts" DirectiveEffect::AuditLogParts, "The parts of an entry, by their letters; ABCFHZ by default.";
    "SecAuditLogRelevantStatus" DirectiveEffect::AuditLogRelevantStatus, "Statuses worth an entry under RelevantOnly, as a pattern.";
    "SecAuditLogStorageDir" DirectiveEffect::AuditLogStorageDir, "The directory of entries in files of their own.";
    "SecAuditLogType" DirectiveEffect::AuditLogType, "Serial (the default) for one file, Concurrent for a file for each entry.";
    "SecCollectionTimeout" DirectiveEffect::CollectionTimeout, "Seconds that a persistent collection is kept, 3600 by default.";
    "SecComponentSignature" DirectiveEffect::ComponentSignature, "Name and version of a rule set.";
    "SecCookieFormat" DirectiveEffect::Accepted("cookies are read as RFC 6265 has them"), "Cookie version.";
    "SecDataDir" STORES, "Directory of persistent collections.";
    "SecDebugLog" DEBUG, "Debug log file.";
    "SecDebugLogLevel" DEBUG, "Debug log level.";
    "SecPcreMatchLimit" LINEAR, "Backtracking limit.";
    "SecPcreMatchLimitRecursion" LINEAR, "Recursion limit.";
    "SecRequestBodyAccess" DirectiveEffect::RequestBodyAccess, "Whether request bodies are read, On by default.";
    "SecRequestBodyInMemoryLimit" MEMORY, "Bytes of a body kept in memory.";
    "SecRequestBodyJsonDepthLimit" DirectiveEffect::JsonDepthLimit, "Deepest nesting of a JSON body, 512 by default.";
    "SecRequestBodyLimit" DirectiveEffect::RequestBodyLimit, "Most bytes of a request body.";
    "SecRequestBodyLimitAction" DirectiveEffect::RequestBodyLimitAction, "Reject or ProcessPartial beyond the limit.";
    "SecRequestBodyNoFilesLimit" DirectiveEffect::Accepted("SecRequestBodyLimit governs"), "Limit without files.";
    "SecResponseBodyAccess" DirectiveEffect::ResponseBodyAccess, "Whether response bodies are read, Off by default.";
    "SecResponseBodyLimit" DirectiveEffect::ResponseBodyLimit, "Most bytes of a response body.";
    "SecResponseBodyLimitAction" DirectiveEffect::ResponseBodyLimitAction, "Reject or ProcessPartial beyond the limit.";
    "SecResponseBodyMimeType" DirectiveEffect::ResponseBodyMimeType, "Media types whose bodies are read.";
    "SecResponseBodyMimeTypesClear" DirectiveEffect::ResponseBodyMimeTypesClear, "Empties the list of media types.";
    "SecRuleEngine" DirectiveEffect::Engine, "On, DetectionOnly or Off.";
    "SecServerSignature" DirectiveEffect::Accepted("the gateway removes the Server field"), "Server field.";
    "SecStatusEngine" DirectiveEffect::Accepted("nothing is ever reported anywhere"), "Status report.";
    "SecTmpDir" MEMORY, "Directory of temporary files.";
    "SecTmpSaveUploadedFiles" MEMORY, "Whether uploads are kept.";
    "SecUnicodeMapFile" DirectiveEffect::Accepted("the best-fit map to ASCII is built in"), "Unicode map.";
    "SecUploadDir" MEMORY, "Directory of uploads.";
    "SecUploadFileLimit" DirectiveEffect::UploadFileLimit, "Most files of an upload, 100 by default; more are MULTIPART_FILE_LIMIT_EXCEEDED.";
    "SecUploadFileMode" MEMORY, "Mode of uploaded files.";
    "SecUploadKeepFiles" MEMORY, "Whether uploads are kept.";
    "SecWebAppId" STORES, "Name space of persistent collections.";
}

/// Looks a directive up, case-insensitively.
pub fn by_name(name: &str) -> Option<&'static DirectiveInfo> {
    TABLE.iter().find(|info| info.name.eq_ignore_ascii_case(name))
}
