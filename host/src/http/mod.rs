//! The HTTP interface.

pub mod console;
