//! The host's files as callers may see them: the allowed roots, and what a folder in them holds.
//!
//! A path is resolved (links, `..`) before it is compared with the roots, and only the resolved path is used afterwards.
//! Names that are not UTF-8 cannot be said in JSON and come back as another name, so they are left out of listings.

mod browse;
mod roots;

pub use browse::{Entry, Listing, browse};
pub use roots::{FilesError, Roots};
