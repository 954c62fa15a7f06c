//! An author's agent as it crosses.

use super::document::{decode, encode, raw};
use super::guard::catch;
use super::log;
use crate::doc::OpenRequest;
use crate::raw::{
    Doc, Fault, RawAgent, RawAgent_TO, RawAgentObject, RawDecoder, RawDecoder_TO, RawDecoderObject,
    RawHostObject,
};
use crate::{Agent, Code, Decoder, Error};
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RResult, RSlice};
use std::sync::Arc;

struct AgentShell<A>(A);

struct DecoderShell<D> {
    /// `None` once it has panicked: what it holds then is not to be trusted.
    decoder: Option<D>,
}

/// Opens `A`. A `library` of its own leads its log to the host; what is linked into the host's program logs there
/// anyway.
pub fn open<A: Agent>(
    host: RawHostObject,
    request: &Doc,
    library: bool,
) -> RResult<RawAgentObject, Fault> {
    raw(catch(|| {
        let request: OpenRequest = decode(request)?;
        if library {
            log::install(&Arc::new(host), &request.log_level);
        }
        let agent = A::open(request)?;
        Ok(RawAgent_TO::from_value(AgentShell(agent), TD_Opaque))
    }))
}

impl<A: Agent> RawAgent for AgentShell<A> {
    fn launch(&self, request: Doc) -> RResult<Doc, Fault> {
        raw(catch(|| encode(&self.0.launch(decode(&request)?)?)))
    }

    fn deliver(&self, request: Doc) -> RResult<Doc, Fault> {
        raw(catch(|| encode(&self.0.deliver(decode(&request)?)?)))
    }

    fn decoder(&self, request: Doc) -> RResult<RawDecoderObject, Fault> {
        raw(catch(|| {
            let decoder = self.0.decoder(decode(&request)?)?;
            let shell = DecoderShell {
                decoder: Some(decoder),
            };
            Ok(RawDecoder_TO::from_value(shell, TD_Opaque))
        }))
    }
}

fn lost() -> Error {
    Error::new(Code::Panic, "the decoder panicked before")
}

impl<D: Decoder> RawDecoder for DecoderShell<D> {
    fn feed(&mut self, source: u32, input: RSlice<'_, u8>) -> RResult<Doc, Fault> {
        let decoder = &mut self.decoder;
        let outcome = catch(|| {
            let decoder = decoder.as_mut().ok_or_else(lost)?;
            encode(&decoder.feed(source, input.as_slice()))
        });
        if outcome
            .as_ref()
            .is_err_and(|error| error.code == Code::Panic)
        {
            self.close();
        }
        raw(outcome)
    }

    fn state(&self) -> RResult<Doc, Fault> {
        raw(catch(|| {
            encode(&self.decoder.as_ref().ok_or_else(lost)?.state())
        }))
    }
}

impl<D> DecoderShell<D> {
    fn close(&mut self) {
        let decoder = self.decoder.take();
        let _: crate::Result<()> = catch(|| {
            drop(decoder);
            Ok(())
        });
    }
}

impl<D> Drop for DecoderShell<D> {
    fn drop(&mut self) {
        self.close();
    }
}
