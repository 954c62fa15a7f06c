//! Working trees of users' repositories.
