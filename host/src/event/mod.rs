//! What happened in each session, numbered and durable.
