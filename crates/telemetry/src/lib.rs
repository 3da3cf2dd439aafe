//! Every metric name, log field and the redaction of secrets.
#![forbid(unsafe_code)]
