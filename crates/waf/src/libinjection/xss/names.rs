//! Names of tags and attributes that run scripts.
//!
//! The names are those libinjection bans (BSD-3-Clause, Copyright (c) 2012-2016 Nick Galbreath, 2021 LibInjection; the
//! licence stands in `sqli/keyword_data.rs`); the events among them come from WebKit.

/// What an attribute's value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    /// Nothing.
    Harmless,
    /// Runs a script, whatever it is.
    Banned,
    /// Is loaded.
    Url,
    /// May run scripts in old browsers.
    Style,
    /// Is the name of an attribute that is set.
    NamesAnother,
}

#[rustfmt::skip]
const TAGS: [&str; 20] = [
    "APPLET", "BASE", "COMMENT", "EMBED", "FRAME", "FRAMESET", "HANDLER", "IFRAME", "IMPORT", "ISINDEX", "LINK",
    "LISTENER", "META", "NOSCRIPT", "OBJECT", "SCRIPT", "STYLE", "VMLFRAME", "XML", "XSS",
];

const ATTRIBUTES: [(&str, Attribute); 20] = [
    ("ACTION", Attribute::Url),
    ("ATTRIBUTENAME", Attribute::NamesAnother),
    ("BACKGROUND", Attribute::Url),
    ("BY", Attribute::Url),
    ("DATAFORMATAS", Attribute::Banned),
    ("DATASRC", Attribute::Banned),
    ("DYNSRC", Attribute::Url),
    ("FILTER", Attribute::Style),
    ("FOLDER", Attribute::Url),
    ("FORMACTION", Attribute::Url),
    ("FROM", Attribute::Url),
    ("HANDLER", Attribute::Url),
    ("HREF", Attribute::Url),
    ("LOWSRC", Attribute::Url),
    ("POSTER", Attribute::Url),
    ("SRC", Attribute::Url),
    ("STYLE", Attribute::Style),
    ("TO", Attribute::Url),
    ("VALUES", Attribute::Url),
    ("XLINK:HREF", Attribute::Url),
];

/// The beginnings of events' names: an attribute is a handler if one of them follows its `on`. Sorted, and none is the
/// beginning of another.
#[rustfmt::skip]
const EVENTS: [&str; 254] = [
    "ABORT", "ACTIVATE", "ACTIVE", "ADDSOURCEBUFFER", "ADDSTREAM", "ADDTRACK", "AFTERPRINT", "ANIMATIONCANCEL",
    "ANIMATIONEND", "ANIMATIONITERATION", "ANIMATIONSTART", "AUDIOEND", "AUDIOPROCESS", "AUDIOSTART",
    "AUTOCOMPLETE", "BEFOREACTIVATE", "BEFORECOPY", "BEFORECUT", "BEFOREINPUT", "BEFORELOAD", "BEFOREPASTE",
    "BEFOREPRINT", "BEFOREUNLOAD", "BEGINEVENT", "BLOCKED", "BLUR", "BOUNDARY", "BUFFEREDAMOUNTLOW", "CACHED",
    "CANCEL", "CANPLAY", "CHANGE", "CHARGINGCHANGE", "CHARGINGTIMECHANGE", "CHECKING", "CLICK", "CLOSE",
    "COMPLETE", "COMPOSITIONEND", "COMPOSITIONSTART", "COMPOSITIONUPDATE", "CONNECT", "CONTEXTMENU",
    "CONTROLLERCHANGE", "COPY", "CUECHANGE", "CUT", "DATAAVAILABLE", "DATACHANNEL", "DBLCLICK", "DEVICECHANGE",
    "DEVICEMOTION", "DEVICEORIENTATION", "DISCHARGINGTIMECHANGE", "DISCONNECT", "DOMACTIVATE",
    "DOMCHARACTERDATAMODIFIED", "DOMCONTENTLOADED", "DOMFOCUSIN", "DOMFOCUSOUT", "DOMNODEINSERTED",
    "DOMNODEREMOVED", "DOMSUBTREEMODIFIED", "DOWNLOADING", "DRAG", "DROP", "DURATIONCHANGE", "EMPTIED",
    "ENCRYPTED", "END", "ENTER", "ERROR", "EXIT", "FETCH", "FINISH", "FOCUS", "FORMCHANGE", "FORMINPUT",
    "GAMEPADCONNECTED", "GAMEPADDISCONNECTED", "GESTURECHANGE", "GESTUREEND", "GESTURESCROLLEND",
    "GESTURESCROLLSTART", "GESTURESCROLLUPDATE", "GESTURESTART", "GESTURETAP", "GOTPOINTERCAPTURE", "HASHCHANGE",
    "ICECANDIDATE", "ICECONNECTIONSTATECHANGE", "ICEGATHERINGSTATECHANGE", "INACTIVE", "INPUT", "INSTALL",
    "INVALID", "KEYDOWN", "KEYPRESS", "KEYSTATUSESCHANGE", "KEYUP", "LANGUAGECHANGE", "LEAVEPICTUREINPICTURE",
    "LEVELCHANGE", "LOAD", "LOSTPOINTERCAPTURE", "MARK", "MERCHANTVALIDATION", "MESSAGE", "MOUSEDOWN",
    "MOUSEENTER", "MOUSELEAVE", "MOUSEMOVE", "MOUSEOUT", "MOUSEOVER", "MOUSEUP", "MOUSEWHEEL", "MUTE",
    "NEGOTIATIONNEEDED", "NEXTTRACK", "NOMATCH", "NOUPDATE", "OBSOLETE", "OFFLINE", "ONLINE", "OPEN",
    "ORIENTATIONCHANGE", "OVERCONSTRAINED", "OVERFLOWCHANGED", "PAGEHIDE", "PAGESHOW", "PASTE", "PAUSE",
    "PAYERDETAILCHANGE", "PAYMENTAUTHORIZED", "PAYMENTMETHODCHANGE", "PAYMENTMETHODSELECTED", "PLAY",
    "POINTERCANCEL", "POINTERDOWN", "POINTERENTER", "POINTERLEAVE", "POINTERLOCKCHANGE", "POINTERLOCKERROR",
    "POINTERMOVE", "POINTEROUT", "POINTEROVER", "POINTERUP", "POPSTATE", "PREVIOUSTRACK", "PROCESSORERROR",
    "PROGRESS", "PROPERTYCHANGE", "RATECHANGE", "READYSTATECHANGE", "REJECTIONHANDLED", "REMOVE", "RESET",
    "RESIZE", "RESOURCETIMINGBUFFERFULL", "RESULT", "RESUME", "SCROLL", "SEARCH", "SECURITYPOLICYVIOLATION",
    "SEEKED", "SEEKING", "SELECT", "SHIPPINGADDRESSCHANGE", "SHIPPINGCONTACTSELECTED", "SHIPPINGMETHODSELECTED",
    "SHIPPINGOPTIONCHANGE", "SHOW", "SIGNALINGSTATECHANGE", "SLOTCHANGE", "SOUNDEND", "SOUNDSTART",
    "SOURCECLOSE", "SOURCEENDED", "SOURCEOPEN", "SPEECHEND", "SPEECHSTART", "SQUEEZE", "STALLED", "START",
    "STATECHANGE", "STOP", "STORAGE", "SUBMIT", "SUCCESS", "SUSPEND", "TEXTINPUT", "TIMEOUT", "TIMEUPDATE",
    "TOGGLE", "TONECHANGE", "TOUCHCANCEL", "TOUCHEND", "TOUCHFORCECHANGE", "TOUCHMOVE", "TOUCHSTART", "TRACK",
    "TRANSITIONCANCEL", "TRANSITIONEND", "TRANSITIONRUN", "TRANSITIONSTART", "UNCAPTUREDERROR",
    "UNHANDLEDREJECTION", "UNLOAD", "UNMUTE", "UPDATE", "UPGRADENEEDED", "VALIDATEMERCHANT", "VERSIONCHANGE",
    "VISIBILITYCHANGE", "VOLUMECHANGE", "WAITING", "WEBGLCONTEXTCHANGED", "WEBGLCONTEXTCREATIONERROR",
    "WEBGLCONTEXTLOST", "WEBGLCONTEXTRESTORED", "WEBKITANIMATIONEND", "WEBKITANIMATIONITERATION",
    "WEBKITANIMATIONSTART", "WEBKITBEFORETEXTINSERTED", "WEBKITBEGINFULLSCREEN",
    "WEBKITCURRENTPLAYBACKTARGETISWIRELESSCHANGED", "WEBKITENDFULLSCREEN", "WEBKITFULLSCREENCHANGE",
    "WEBKITFULLSCREENERROR", "WEBKITKEYADDED", "WEBKITKEYERROR", "WEBKITKEYMESSAGE", "WEBKITMOUSEFORCECHANGED",
    "WEBKITMOUSEFORCEDOWN", "WEBKITMOUSEFORCEUP", "WEBKITMOUSEFORCEWILLBEGIN", "WEBKITNEEDKEY",
    "WEBKITNETWORKINFOCHANGE", "WEBKITPLAYBACKTARGETAVAILABILITYCHANGED", "WEBKITPRESENTATIONMODECHANGED",
    "WEBKITREGIONOVERSETCHANGE", "WEBKITREMOVESOURCEBUFFER", "WEBKITSOURCECLOSE", "WEBKITSOURCEENDED",
    "WEBKITSOURCEOPEN", "WEBKITSPEECHCHANGE", "WEBKITTRANSITIONEND", "WEBKITWILLREVEALBOTTOM",
    "WEBKITWILLREVEALLEFT", "WEBKITWILLREVEALRIGHT", "WEBKITWILLREVEALTOP", "WHEEL", "WRITE", "ZOOM",
];

/// Whether the name is that of a tag that runs scripts or loads what does; all of SVG and XSL count.
pub(super) fn is_banned_tag(name: &[u8]) -> bool {
    let family = name
        .get(..3)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"svg") || start.eq_ignore_ascii_case(b"xsl"));
    name.len() >= 3 && (family || TAGS.iter().any(|tag| is_with_nuls(name, tag)))
}

/// What the attribute's value does.
pub(super) fn attribute(name: &[u8]) -> Attribute {
    if name.len() < 2 {
        return Attribute::Harmless;
    }
    if is_handler(name) || is_namespace(name) {
        return Attribute::Banned;
    }
    let known = ATTRIBUTES.iter().find(|(known, _)| is_with_nuls(name, known));
    known.map_or(Attribute::Harmless, |(_, attribute)| *attribute)
}

/// `xmlns…` and `xlink…`: with the right namespace, any tag is a script.
fn is_namespace(name: &[u8]) -> bool {
    let start = name.get(..5);
    start.is_some_and(|start| start.eq_ignore_ascii_case(b"xmlns") || start.eq_ignore_ascii_case(b"xlink"))
}

/// Whether the name begins with `on` and an event's name.
fn is_handler(name: &[u8]) -> bool {
    let Some((on, event)) = name.split_at_checked(2) else { return false };
    if name.len() < 5 || !on.eq_ignore_ascii_case(b"on") {
        return false;
    }
    // No name is the beginning of another: only the greatest that is not above can be the beginning of this one.
    let upper = || event.iter().map(u8::to_ascii_uppercase);
    let above = EVENTS.partition_point(|known| known.bytes().le(upper()));
    let nearest = above.checked_sub(1).and_then(|index| EVENTS.get(index));
    nearest.is_some_and(|known| {
        event.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known.as_bytes()))
    })
}

/// Whether the name is the known one, NULs left out.
fn is_with_nuls(name: &[u8], known: &str) -> bool {
    name.len() >= known.len()
        && name.iter().filter(|&&byte| byte != 0).map(u8::to_ascii_uppercase).eq(known.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_sorted_and_none_begins_another() {
        for pair in EVENTS.windows(2) {
            assert!(pair[0] < pair[1] && !pair[1].starts_with(pair[0]), "{pair:?}");
        }
    }
}
