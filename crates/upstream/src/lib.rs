//! Endpoints, pools, balancing; one call out.
#![forbid(unsafe_code)]
