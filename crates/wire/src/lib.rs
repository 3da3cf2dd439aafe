//! HTTP/1 framing of our own for both sides, and HTTP/2 by hyper, feeding the same exchange.
#![forbid(unsafe_code)]
