//! Many calls, one answer: aggregation of several upstreams into one document.
#![forbid(unsafe_code)]
