//! Finding, checking and loading plugins.
