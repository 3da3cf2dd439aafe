//! Who is calling, and what may they do: tokens, keys and policy.
#![forbid(unsafe_code)]
