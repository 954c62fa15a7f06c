//! The end-to-end tests, one program: the real server, real plugins, real sessions.
//!
//! `main_line` what berth is for · `crash` what must survive · `several` many clients and sessions · `wrong` what is
//! answered to bad input · `reference` the examples of the API reference · `plugin_door` libraries, good and bad

mod plugin_door;
