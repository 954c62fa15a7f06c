//! What the macro writes compiles where unsafe code is forbidden, and can be read from the file.

#![forbid(unsafe_code)]

use berth_plugin_api::doc::{
    AgentDescription, DecoderRequest, DeliverRequest, Delivery, LaunchPlan, LaunchRequest,
    OpenRequest,
};
use berth_plugin_api::{Agent, NoRecords, Result};

struct Toy;

impl Agent for Toy {
    type Decoder = NoRecords;

    fn describe() -> AgentDescription {
        AgentDescription::default()
    }

    fn open(_: OpenRequest) -> Result<Self> {
        Ok(Self)
    }

    fn launch(&self, _: LaunchRequest) -> Result<LaunchPlan> {
        Ok(LaunchPlan::default())
    }

    fn deliver(&self, _: DeliverRequest) -> Result<Delivery> {
        Ok(Delivery::default())
    }

    fn decoder(&self, _: DecoderRequest) -> Result<NoRecords> {
        Ok(NoRecords)
    }
}

berth_plugin_api::export_plugin! { agent: Toy, name: "toy" }

#[test]
fn a_program_is_not_taken_for_a_plugin() {
    let program = std::env::current_exe().expect("this program");
    let bytes = std::fs::read(program).expect("readable");
    assert!(bytes.windows(8).any(|part| part == b"BERTHABI"));
}
