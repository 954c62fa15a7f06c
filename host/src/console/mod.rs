//! A session's terminal as its clients see it: one state, many clients.
