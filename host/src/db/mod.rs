//! Opens and migrates the database.
