//! What a body may hold: its JSON shape on the way in, no secrets on the way out.
#![forbid(unsafe_code)]
