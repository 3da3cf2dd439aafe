//! The codes of everything that can be wrong with `gateway.toml`.

use portcullis_diag::Code;

macro_rules! codes {
    ($($name:ident = $code:literal, $about:literal;)+) => {
        $(#[doc = $about] pub(crate) const $name: Code = Code::new($code);)+

        /// Every code with what it means, for the reference page.
        pub(crate) const ALL: &[(Code, &str)] = &[$(($name, $about)),+];
    };
}

codes! {
    UNREADABLE = "CFG0001", "The file cannot be read or is not UTF-8.";
    SYNTAX = "CFG0002", "The file is not TOML.";
    UNKNOWN_FIELD = "CFG0003", "There is no such field.";
    WRONG_TYPE = "CFG0004", "The value has another type than the field.";
    BAD_VALUE = "CFG0005", "The value has the right type but not the right form, or is out of range.";
    MISSING_FIELD = "CFG0006", "A field that has no default is missing.";
    UNRESOLVED = "CFG0007", "A `${NAME}` cannot be replaced.";
    DUPLICATE = "CFG0008", "Two things have one name, address or place.";
    UNDEFINED = "CFG0009", "A reference to something that is not defined.";
    ROUTE_TIE = "CFG0010", "Two routes take the same requests and neither is more specific.";
    CONFLICT = "CFG0011", "Fields exclude each other, or one needs another.";
    MISSING_FILE = "CFG0012", "A file that is named does not exist, or a glob matches nothing.";
    UNSAFE = "CFG0013", "The setting would defeat its own protection.";
    UNUSED = "CFG0014", "Something is defined that nothing uses, or a setting has no effect.";
}
