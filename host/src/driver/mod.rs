//! Calls to plugins: dispatch, time limits, health.
