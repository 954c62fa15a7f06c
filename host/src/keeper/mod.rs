//! The client of the keeper in each session.
