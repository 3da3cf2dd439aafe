//! Variables: what a rule looks at.
//!
//! [`TABLE`] is the single place that knows their names, what they hold and whether this engine fills them yet.

/// How a variable is filled and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value, or none.
    Scalar,
    /// Any number of values under keys; a selector picks by key.
    Collection,
    /// Known to other engines, not filled here: rules that name it are refused with this explanation.
    Planned(&'static str),
}

/// One row of the variable table.
#[derive(Debug)]
pub struct VariableInfo {
    /// The name as rules write it (compared case-insensitively).
    pub name: &'static str,
    /// The variable.
    pub var: Var,
    /// What it is made of.
    pub shape: Shape,
    /// Whether its values stay as they are while a phase runs, so that their transformed forms can be shared by all
    /// rules of the phase.
    pub stable: bool,
    /// What it holds, one sentence.
    pub doc: &'static str,
}

macro_rules! table {
    ($($var:ident $name:literal $shape:expr, $stable:literal, $doc:literal;)*) => {
        /// A variable. The discriminant is its index in [`TABLE`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Var {
            $(#[doc = concat!("`", $name, "`: ", $doc)] $var),*
        }

        /// Every variable, by [`Var`] discriminant.
        pub const TABLE: &[VariableInfo] = &[
            $(VariableInfo { name: $name, var: Var::$var, shape: $shape, stable: $stable, doc: $doc }),*
        ];
    };
}

table! {
    Args "ARGS" Shape::Collection, true, "Arguments of the query string and, from phase 2 on, of the body, in wire order.";
    ArgsCombinedSize "ARGS_COMBINED_SIZE" Shape::Scalar, true, "Bytes of all argument names and values, decoded.";
    ArgsGet "ARGS_GET" Shape::Collection, true, "Arguments of the query string.";
    ArgsGetNames "ARGS_GET_NAMES" Shape::Collection, true, "Names of the query string's arguments.";
    ArgsNames "ARGS_NAMES" Shape::Collection, true, "Names of all arguments.";
    ArgsPost "ARGS_POST" Shape::Collection, true, "Arguments of the body.";
    ArgsPostNames "ARGS_POST_NAMES" Shape::Collection, true, "Names of the body's arguments.";
    AuthType "AUTH_TYPE" Shape::Scalar, true, "The scheme of the Authorization field, such as `Basic`.";
    Duration "DURATION" Shape::Scalar, false, "Microseconds since the transaction began.";
    Env "ENV" Shape::Collection, true, "An environment variable of the gateway; needs a selector.";
    Files "FILES" Shape::Collection, true, "File names of multipart parts.";
    FilesCombinedSize "FILES_COMBINED_SIZE" Shape::Scalar, true, "Bytes of all uploaded files.";
    FilesNames "FILES_NAMES" Shape::Collection, true, "Names of the multipart parts that carry files.";
    FilesSizes "FILES_SIZES" Shape::Collection, true, "Bytes of each uploaded file.";
    FilesTmpnames "FILES_TMPNAMES" Shape::Planned("uploads are never written to disk; write `FILES` or `FILES_NAMES`"), true, "Names of temporary files.";
    FilesTmpContent "FILES_TMP_CONTENT" Shape::Planned("files are not searched; `FILES` and `FILES_SIZES` are their names and sizes"), true, "Contents of temporary files.";
    FullRequest "FULL_REQUEST" Shape::Planned("write `REQUEST_LINE|REQUEST_HEADERS|REQUEST_BODY`"), true, "The whole request.";
    FullRequestLength "FULL_REQUEST_LENGTH" Shape::Planned("write `REQUEST_BODY_LENGTH`"), true, "Bytes of the whole request.";
    Geo "GEO" Shape::Collection, false, "Where the address of the last @geoLookup is: COUNTRY_CODE, COUNTRY_NAME, COUNTRY_CONTINENT, REGION, CITY, POSTAL_CODE, LATITUDE, LONGITUDE, DMA_CODE.";
    Global "GLOBAL" Shape::Collection, false, "Variables all transactions share, once `initcol` has opened them.";
    HighestSeverity "HIGHEST_SEVERITY" Shape::Scalar, false, "Lowest severity number of the rules matched so far; 255 before.";
    InboundDataError "INBOUND_DATA_ERROR" Shape::Scalar, true, "1 when the request body was longer than the limit.";
    Ip "IP" Shape::Collection, false, "Variables of a client, under the key `initcol` gave.";
    Json "JSON" Shape::Planned("members of a JSON body are in `ARGS`, under names such as `json.user.name`"), true, "A JSON body.";
    MatchedVar "MATCHED_VAR" Shape::Scalar, false, "The value that matched last.";
    MatchedVars "MATCHED_VARS" Shape::Collection, false, "All values the current chain matched.";
    MatchedVarsNames "MATCHED_VARS_NAMES" Shape::Collection, false, "Full names of all variables the current chain matched.";
    MatchedVarName "MATCHED_VAR_NAME" Shape::Scalar, false, "Full name of the variable that matched last.";
    ModsecBuild "MODSEC_BUILD" Shape::Planned("this is no ModSecurity of any version"), true, "ModSecurity's version.";
    MscPcreError "MSC_PCRE_ERROR" Shape::Scalar, true, "Never set: patterns have no limit to exceed.";
    MscPcreLimitsExceeded "MSC_PCRE_LIMITS_EXCEEDED" Shape::Scalar, true, "Never set: patterns have no limit to exceed.";
    MultipartBoundaryQuoted "MULTIPART_BOUNDARY_QUOTED" Shape::Scalar, true, "1 when the boundary was quoted.";
    MultipartBoundaryWhitespace "MULTIPART_BOUNDARY_WHITESPACE" Shape::Scalar, true, "1 when there was white space around the boundary's `=`.";
    MultipartCrlfLfLines "MULTIPART_CRLF_LF_LINES" Shape::Scalar, true, "1 when lines ended in CRLF here and LF there.";
    MultipartDataAfter "MULTIPART_DATA_AFTER" Shape::Scalar, true, "1 when data followed the last boundary.";
    MultipartDataBefore "MULTIPART_DATA_BEFORE" Shape::Scalar, true, "1 when data preceded the first boundary.";
    MultipartFilename "MULTIPART_FILENAME" Shape::Collection, true, "File names as the parts wrote them, `filename*` decoded.";
    MultipartFileLimitExceeded "MULTIPART_FILE_LIMIT_EXCEEDED" Shape::Scalar, true, "1 when there were more files than SecUploadFileLimit.";
    MultipartHeaderFolding "MULTIPART_HEADER_FOLDING" Shape::Scalar, true, "1 when a header of a part went over several lines.";
    MultipartInvalidHeaderFolding "MULTIPART_INVALID_HEADER_FOLDING" Shape::Scalar, true, "1 when such a line began with something else than a space or tab.";
    MultipartInvalidPart "MULTIPART_INVALID_PART" Shape::Scalar, true, "1 when a part had no name.";
    MultipartInvalidQuoting "MULTIPART_INVALID_QUOTING" Shape::Scalar, true, "1 when a name was in apostrophes.";
    MultipartLfLine "MULTIPART_LF_LINE" Shape::Scalar, true, "1 when a line ended in LF alone.";
    MultipartMissingSemicolon "MULTIPART_MISSING_SEMICOLON" Shape::Scalar, true, "1 when a semicolon was missing before a parameter.";
    MultipartName "MULTIPART_NAME" Shape::Collection, true, "Names as the parts wrote them.";
    MultipartPartHeaders "MULTIPART_PART_HEADERS" Shape::Collection, true, "Header lines of the parts, by the part's name.";
    MultipartStrictError "MULTIPART_STRICT_ERROR" Shape::Scalar, true, "1 when the multipart body is broken or bends the grammar.";
    MultipartUnmatchedBoundary "MULTIPART_UNMATCHED_BOUNDARY" Shape::Scalar, true, "1 when a boundary is missing or disguised, 2 when other lines look like one.";
    OutboundDataError "OUTBOUND_DATA_ERROR" Shape::Scalar, true, "1 when the response body was longer than the limit.";
    PathInfo "PATH_INFO" Shape::Planned("write `REQUEST_FILENAME`"), true, "What follows a script's name in the path.";
    QueryString "QUERY_STRING" Shape::Scalar, true, "The query as sent, without the question mark.";
    RemoteAddr "REMOTE_ADDR" Shape::Scalar, true, "The client's address.";
    RemoteHost "REMOTE_HOST" Shape::Scalar, true, "The client's address (names are never looked up).";
    RemotePort "REMOTE_PORT" Shape::Scalar, true, "The client's port.";
    RemoteUser "REMOTE_USER" Shape::Planned("who the client is, the identity guard decides; rules see `REQUEST_HEADERS:Authorization`"), true, "The user's name.";
    ReqbodyError "REQBODY_ERROR" Shape::Scalar, true, "1 when the request body could not be parsed.";
    ReqbodyErrorMsg "REQBODY_ERROR_MSG" Shape::Scalar, true, "Why the request body could not be parsed.";
    ReqbodyProcessor "REQBODY_PROCESSOR" Shape::Scalar, true, "URLENCODED, JSON, MULTIPART, XML or GRAPHQL; unset for other bodies.";
    ReqbodyProcessorError "REQBODY_PROCESSOR_ERROR" Shape::Scalar, true, "As REQBODY_ERROR.";
    ReqbodyProcessorErrorMsg "REQBODY_PROCESSOR_ERROR_MSG" Shape::Scalar, true, "As REQBODY_ERROR_MSG.";
    RequestBasename "REQUEST_BASENAME" Shape::Scalar, true, "What follows the path's last slash or backslash.";
    RequestBody "REQUEST_BODY" Shape::Scalar, true, "The raw body: of urlencoded bodies, those no processor reads or could read, and where it is forced.";
    RequestBodyLength "REQUEST_BODY_LENGTH" Shape::Scalar, true, "Bytes of the body.";
    RequestCookies "REQUEST_COOKIES" Shape::Collection, true, "Cookies, as sent.";
    RequestCookiesNames "REQUEST_COOKIES_NAMES" Shape::Collection, true, "Names of the cookies.";
    RequestFilename "REQUEST_FILENAME" Shape::Scalar, true, "The path, percent-decoded once.";
    RequestHeaders "REQUEST_HEADERS" Shape::Collection, true, "Field values of the request.";
    RequestHeadersNames "REQUEST_HEADERS_NAMES" Shape::Collection, true, "Field names of the request, as sent.";
    RequestLine "REQUEST_LINE" Shape::Scalar, true, "Method, target and protocol as sent.";
    RequestMethod "REQUEST_METHOD" Shape::Scalar, true, "The method.";
    RequestProtocol "REQUEST_PROTOCOL" Shape::Scalar, true, "The protocol, such as `HTTP/1.1`.";
    RequestUri "REQUEST_URI" Shape::Scalar, true, "Path and query as sent, without scheme, host and fragment.";
    RequestUriRaw "REQUEST_URI_RAW" Shape::Scalar, true, "The target as sent.";
    RequestXml "REQUEST_XML" Shape::Planned("write `XML`"), true, "An XML body.";
    Resource "RESOURCE" Shape::Collection, false, "Variables of a resource, under the key `setrsc` gave.";
    ResponseArgs "RESPONSE_ARGS" Shape::Planned("write `RESPONSE_BODY`"), true, "Members of a JSON response.";
    ResponseBody "RESPONSE_BODY" Shape::Scalar, true, "The response body, when its media type is inspected.";
    ResponseContentLength "RESPONSE_CONTENT_LENGTH" Shape::Scalar, true, "Bytes of the inspected response body.";
    ResponseContentType "RESPONSE_CONTENT_TYPE" Shape::Scalar, true, "The Content-Type of the response.";
    ResponseHeaders "RESPONSE_HEADERS" Shape::Collection, true, "Field values of the response.";
    ResponseHeadersNames "RESPONSE_HEADERS_NAMES" Shape::Collection, true, "Field names of the response, as sent.";
    ResponseProtocol "RESPONSE_PROTOCOL" Shape::Scalar, true, "The protocol of the response.";
    ResponseStatus "RESPONSE_STATUS" Shape::Scalar, true, "The status code.";
    ResponseXml "RESPONSE_XML" Shape::Planned("write `RESPONSE_BODY`"), true, "An XML response.";
    Rule "RULE" Shape::Collection, false, "Properties of the current rule as written: `id`, `msg`, `logdata`, `rev`, `severity`, `ver`.";
    ScriptBasename "SCRIPT_BASENAME" Shape::Planned("no file is served here; write `REQUEST_BASENAME`"), true, "Name of the file served.";
    ScriptFilename "SCRIPT_FILENAME" Shape::Planned("no file is served here; write `REQUEST_FILENAME`"), true, "Path of the file served.";
    ServerAddr "SERVER_ADDR" Shape::Scalar, true, "The address the client connected to.";
    ServerName "SERVER_NAME" Shape::Scalar, true, "The host of the request, without port.";
    ServerPort "SERVER_PORT" Shape::Scalar, true, "The port the client connected to.";
    Session "SESSION" Shape::Collection, false, "Variables of a session, under the key `setsid` gave.";
    SessionId "SESSIONID" Shape::Scalar, false, "The key that `setsid` gave.";
    StatusLine "STATUS_LINE" Shape::Scalar, true, "Protocol and status of the response.";
    StreamInputBody "STREAM_INPUT_BODY" Shape::Scalar, true, "The request body as it came, whatever its type.";
    StreamOutputBody "STREAM_OUTPUT_BODY" Shape::Scalar, true, "The response body, as in RESPONSE_BODY.";
    Time "TIME" Shape::Scalar, false, "Time of day, `HH:MM:SS`, UTC.";
    TimeDay "TIME_DAY" Shape::Scalar, false, "Day of the month, from 1, UTC.";
    TimeEpoch "TIME_EPOCH" Shape::Scalar, false, "Seconds since 1970, UTC.";
    TimeHour "TIME_HOUR" Shape::Scalar, false, "Hour, from 0, UTC.";
    TimeMin "TIME_MIN" Shape::Scalar, false, "Minute, from 0, UTC.";
    TimeMon "TIME_MON" Shape::Scalar, false, "Month, from 0, UTC.";
    TimeSec "TIME_SEC" Shape::Scalar, false, "Second, from 0, UTC.";
    TimeWday "TIME_WDAY" Shape::Scalar, false, "Day of the week, Sunday is 0, UTC.";
    TimeYear "TIME_YEAR" Shape::Scalar, false, "Year, UTC.";
    Tx "TX" Shape::Collection, false, "The transaction's own variables, and captures as TX:0 to TX:9.";
    UniqueId "UNIQUE_ID" Shape::Scalar, true, "The request id.";
    UrlencodedError "URLENCODED_ERROR" Shape::Scalar, true, "1 when an argument holds a `%` without two hexadecimal digits.";
    User "USER" Shape::Collection, false, "Variables of a user, under the key `setuid` gave.";
    UserAgentIp "USERAGENT_IP" Shape::Planned("write `REMOTE_ADDR`"), true, "The client's address.";
    UserId "USERID" Shape::Scalar, false, "The key that `setuid` gave.";
    WebAppId "WEBAPPID" Shape::Planned("all routes are one application"), true, "Name of the application.";
    WebserverErrorLog "WEBSERVER_ERROR_LOG" Shape::Planned("the log is not matched by rules"), true, "Lines of the server's log.";
    Xml "XML" Shape::Collection, true, "Text and attributes of an XML body; needs a path, such as `XML:/*` or `XML://@*`.";
}

impl Var {
    /// How many variables there are.
    pub(crate) const COUNT: usize = TABLE.len();

    /// The table's entry for this variable.
    pub fn info(self) -> &'static VariableInfo {
        // Discriminants are indices by construction of the macro; the fallback is never taken.
        TABLE.get(self as usize).unwrap_or(&FALLBACK)
    }

    /// Looks a name up, case-insensitively.
    pub fn by_name(name: &str) -> Option<Self> {
        // ModSecurity 2's recommended configuration long wrote this name the other way round.
        let name = if name.eq_ignore_ascii_case("MULTIPART_SEMICOLON_MISSING") {
            "MULTIPART_MISSING_SEMICOLON"
        } else {
            name
        };
        TABLE.iter().find(|info| info.name.eq_ignore_ascii_case(name)).map(|info| info.var)
    }

    /// Whether the variable's entries outlive the transaction, in a collection that a rule has to open.
    pub(crate) const fn is_persistent(self) -> bool {
        matches!(self, Self::Global | Self::Ip | Self::Resource | Self::Session | Self::User)
    }

    /// The parts of a message whose entries are the variable's, one after the other; of a scalar, itself.
    pub(crate) fn parts(self) -> &'static [Self] {
        match self {
            Self::Args | Self::ArgsNames => &[Self::ArgsGet, Self::ArgsPost],
            Self::ArgsGetNames => &[Self::ArgsGet],
            Self::ArgsPostNames => &[Self::ArgsPost],
            Self::RequestHeadersNames => &[Self::RequestHeaders],
            Self::RequestCookiesNames => &[Self::RequestCookies],
            Self::ResponseHeadersNames => &[Self::ResponseHeaders],
            Self::FilesNames => &[Self::Files],
            part => std::slice::from_ref(&part.info().var),
        }
    }

    /// Whether the variable's values are names (and their keys the same names).
    pub(crate) const fn is_names(self) -> bool {
        matches!(
            self,
            Self::ArgsNames
                | Self::ArgsGetNames
                | Self::ArgsPostNames
                | Self::RequestHeadersNames
                | Self::RequestCookiesNames
                | Self::ResponseHeadersNames
                | Self::FilesNames
                | Self::MultipartName
        )
    }
}

const FALLBACK: VariableInfo =
    VariableInfo { name: "", var: Var::Args, shape: Shape::Planned(""), stable: false, doc: "" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_finds_its_own_entry() {
        for (index, info) in TABLE.iter().enumerate() {
            assert_eq!(info.var as usize, index);
            assert_eq!(Var::by_name(&info.name.to_lowercase()), Some(info.var));
        }
    }
}
