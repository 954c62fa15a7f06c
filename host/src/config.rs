//! Where every setting comes from: flag, environment, file or default.
