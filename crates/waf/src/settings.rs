//! What directives other than rules set, and the table of those directives.

use portcullis_diag::Span;

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
    /// `SecGeoLookupDb`: the file as written, and where.
    pub(crate) geo_database: Option<(String, Span)>,
    /// Bytes of a request body besides files.
    pub(crate) no_files_limit: usize,
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
            geo_database: None,
            no_files_limit: usize::MAX,
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
    /// `SecGeoLookupDb`
    GeoLookupDb,
    /// `SecRequestBodyNoFilesLimit`
    NoFilesLimit,
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
const DNS: DirectiveEffect = DirectiveEffect::Accepted("`@rbl` asks nobody");
const HASHES: DirectiveEffect = DirectiveEffect::Unsupported("links are not signed by rules");
const LISTENERS: DirectiveEffect =
    DirectiveEffect::Accepted("the listeners limit connections and their pace");
const REMOTE: DirectiveEffect =
    DirectiveEffect::Unsupported("rules are read from files only: fetch them before the gateway starts");
const STREAMS: DirectiveEffect =
    DirectiveEffect::Accepted("the variable holds what is kept of the body anyway");
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
    "SecAuditLogPrefix" DirectiveEffect::Accepted("entries have no prefix"), "What lines of the audit log begin with.";
    "SecAuditLogRelevantStatus" DirectiveEffect::AuditLogRelevantStatus, "Statuses worth an entry under RelevantOnly, as a pattern.";
    "SecAuditLogStorageDir" DirectiveEffect::AuditLogStorageDir, "The directory of entries in files of their own.";
    "SecAuditLogType" DirectiveEffect::AuditLogType, "Serial (the default) for one file, Concurrent for a file for each entry.";
    "SecCacheTransformations" DirectiveEffect::Accepted("values are transformed once in any case"), "Cache of transformed values.";
    "SecChrootDir" DirectiveEffect::Accepted("the service manager confines the process"), "Root directory of the process.";
    "SecCollectionTimeout" DirectiveEffect::CollectionTimeout, "Seconds that a persistent collection is kept, 3600 by default.";
    "SecComponentSignature" DirectiveEffect::ComponentSignature, "Name and version of a rule set.";
    "SecConnEngine" LISTENERS, "Switch of connection limits.";
    "SecConnReadStateLimit" LISTENERS, "Connections of an address that are being read.";
    "SecConnWriteStateLimit" LISTENERS, "Connections of an address that are being written.";
    "SecContentInjection" DirectiveEffect::Accepted("responses are not rewritten by rules"), "Switch of append and prepend.";
    "SecCookieFormat" DirectiveEffect::Accepted("cookies are read as RFC 6265 has them"), "Cookie version.";
    "SecCookieV0Separator" DirectiveEffect::Accepted("cookies are read as RFC 6265 has them"), "What stands between cookies.";
    "SecDataDir" STORES, "Directory of persistent collections.";
    "SecDataset" DirectiveEffect::Unsupported("put the words into a file and write `@pmFromFile`"), "Words for @pmFromDataset.";
    "SecDebugLog" DEBUG, "Debug log file.";
    "SecDebugLogLevel" DEBUG, "Debug log level.";
    "SecDisableBackendCompression" DirectiveEffect::Accepted("the gateway decides about Accept-Encoding"), "Removes Accept-Encoding.";
    "SecGeoLookupDb" DirectiveEffect::GeoLookupDb, "The database of @geoLookup, a `.mmdb` file.";
    "SecGsbLookupDb" DirectiveEffect::Unsupported("the service it asked no longer exists"), "Database of @gsbLookup.";
    "SecGuardianLog" DirectiveEffect::Accepted("the gateway's access log has it"), "Log for httpd-guardian.";
    "SecHashEngine" HASHES, "Switch of signed links.";
    "SecHashKey" HASHES, "Key of signed links.";
    "SecHashMethodPm" HASHES, "Links that are signed.";
    "SecHashMethodRx" HASHES, "Links that are signed.";
    "SecHashParam" HASHES, "Parameter of signed links.";
    "SecHttpBlKey" DNS, "Key for @rbl with dnsbl.httpbl.org.";
    "SecIgnoreRuleCompilationErrors" DirectiveEffect::Accepted("`allow_unsupported` leaves out what is not supported"), "Whether broken rules are left out.";
    "SecInterceptOnError" DirectiveEffect::Accepted("rules that cannot be evaluated are never put into force"), "Whether errors block.";
    "SecParseXmlIntoArgs" DirectiveEffect::Accepted("XML is matched by paths, such as `XML:/*`"), "Whether XML is read into ARGS.";
    "SecPcreMatchLimit" LINEAR, "Backtracking limit.";
    "SecPcreMatchLimitRecursion" LINEAR, "Recursion limit.";
    "SecReadStateLimit" LISTENERS, "Connections of an address that are being read.";
    "SecRemoteRules" REMOTE, "Rules from a server.";
    "SecRemoteRulesFailAction" DirectiveEffect::Accepted("rules are read from files only"), "What a failed download brings about.";
    "SecRequestBodyAccess" DirectiveEffect::RequestBodyAccess, "Whether request bodies are read, On by default.";
    "SecRequestBodyInMemoryLimit" MEMORY, "Bytes of a body kept in memory.";
    "SecRequestBodyJsonDepthLimit" DirectiveEffect::JsonDepthLimit, "Deepest nesting of a JSON body, 512 by default.";
    "SecRequestBodyLimit" DirectiveEffect::RequestBodyLimit, "Most bytes of a request body.";
    "SecRequestBodyLimitAction" DirectiveEffect::RequestBodyLimitAction, "Reject or ProcessPartial beyond the limit.";
    "SecRequestBodyNoFilesLimit" DirectiveEffect::NoFilesLimit, "Most bytes of a request body besides files; more are REQBODY_ERROR and INBOUND_DATA_ERROR.";
    "SecResponseBodyAccess" DirectiveEffect::ResponseBodyAccess, "Whether response bodies are read, Off by default.";
    "SecResponseBodyLimit" DirectiveEffect::ResponseBodyLimit, "Most bytes of a response body.";
    "SecResponseBodyLimitAction" DirectiveEffect::ResponseBodyLimitAction, "Reject or ProcessPartial beyond the limit.";
    "SecResponseBodyMimeType" DirectiveEffect::ResponseBodyMimeType, "Media types whose bodies are read.";
    "SecResponseBodyMimeTypesClear" DirectiveEffect::ResponseBodyMimeTypesClear, "Empties the list of media types.";
    "SecRuleEngine" DirectiveEffect::Engine, "On, DetectionOnly or Off.";
    "SecRuleInheritance" DirectiveEffect::Accepted("all routes share the rules; a route's `firewall` says what differs"), "Whether rules are inherited.";
    "SecRulePerfTime" DirectiveEffect::Accepted("`portcullis rules bench` measures"), "Threshold of slow rules.";
    "SecRuleScript" DirectiveEffect::Unsupported("rules run no scripts: write the condition as SecRule"), "A rule in Lua.";
    "SecSensorId" DirectiveEffect::Accepted("log records name the gateway"), "Name of this machine.";
    "SecServerSignature" DirectiveEffect::Accepted("the gateway removes the Server field"), "Server field.";
    "SecStatusEngine" DirectiveEffect::Accepted("nothing is ever reported anywhere"), "Status report.";
    "SecStreamInBodyInspection" STREAMS, "Switch of STREAM_INPUT_BODY.";
    "SecStreamOutBodyInspection" STREAMS, "Switch of STREAM_OUTPUT_BODY.";
    "SecTmpDir" MEMORY, "Directory of temporary files.";
    "SecTmpSaveUploadedFiles" MEMORY, "Whether uploads are kept.";
    "SecUnicodeCodePage" DirectiveEffect::Accepted("the best-fit map to ASCII is built in"), "Code page of the Unicode map.";
    "SecUnicodeMapFile" DirectiveEffect::Accepted("the best-fit map to ASCII is built in"), "Unicode map.";
    "SecUploadDir" MEMORY, "Directory of uploads.";
    "SecUploadFileLimit" DirectiveEffect::UploadFileLimit, "Most files of an upload, 100 by default; more are MULTIPART_FILE_LIMIT_EXCEEDED.";
    "SecUploadFileMode" MEMORY, "Mode of uploaded files.";
    "SecUploadKeepFiles" MEMORY, "Whether uploads are kept.";
    "SecWebAppId" STORES, "Name space of persistent collections.";
    "SecWriteStateLimit" LISTENERS, "Connections of an address that are being written.";
    "SecXmlExternalEntity" DirectiveEffect::Accepted("entities are never fetched"), "Whether XML entities are fetched.";
}

/// Looks a directive up, case-insensitively.
pub fn by_name(name: &str) -> Option<&'static DirectiveInfo> {
    TABLE.iter().find(|info| info.name.eq_ignore_ascii_case(name))
}
