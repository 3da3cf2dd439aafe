//! Scripted backends, clocks and corpus runners for tests; not published.
#![forbid(unsafe_code)]
