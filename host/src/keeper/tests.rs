//! The client against a real keeper.
