//! The macro that makes a library a plugin.

use super::document::{encode, raw};
use super::guard::catch;
use super::{agent, backend};
use crate::raw::{
    Doc, Fault, Module, ModuleRef, RawAgentObject, RawBackendObject, RawHostObject, absent,
    absent_now,
};
use crate::{Agent, Backend};
use abi_stable::library::{__call_root_module_loader, RootModuleResult};
use abi_stable::prefix_type::PrefixTypeTrait;
use abi_stable::std_types::{RResult, RStr};
use async_ffi::FfiFuture;

/// Makes the crate's dynamic library a plugin: one backend or one agent, under the name by which sessions and the
/// configuration call it (1 to 32 characters, `[a-z][a-z0-9-]*`).
///
/// ```text
/// berth_plugin_api::export_plugin! { backend: Docker, name: "docker" }
/// berth_plugin_api::export_plugin! { agent: Shell, name: "shell" }
/// ```
///
/// The crate's `crate-type` has to hold `"cdylib"`; with `"rlib"` beside it, tests can link the plugin too. The one
/// symbol that is exported is named after the crate (and told by the manifest), so that several plugins can be linked
/// into one program. The manifest is made of the crate's `Cargo.toml`. The profile must not say `panic = "abort"`: a
/// panic could then not be contained, and the host refuses the library.
#[macro_export]
macro_rules! export_plugin {
    (backend: $plugin:ty, name: $name:literal $(,)?) => {
        $crate::__export_plugin! { "backend", $plugin, $name, backend_entry }
    };
    (agent: $plugin:ty, name: $name:literal $(,)?) => {
        $crate::__export_plugin! { "agent", $plugin, $name, agent_entry }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_plugin {
    ($kind:literal, $plugin:ty, $name:literal, $entry:ident) => {
        const _: () = {
            use $crate::__private as berth;

            const PARTS: &[berth::Part] = &[
                berth::Part::Json("{\"manifest\":1,\"kind\":\""),
                berth::Part::Text($kind),
                berth::Part::Json("\",\"name\":\""),
                berth::Part::Text($name),
                berth::Part::Json("\",\"version\":\""),
                berth::Part::Text(env!("CARGO_PKG_VERSION")),
                berth::Part::Json("\",\"api\":\""),
                berth::Part::Text(berth::API_VERSION),
                berth::Part::Json("\",\"min_host_api\":\""),
                berth::Part::Text(berth::MIN_HOST_API),
                berth::Part::Json("\",\"entry\":\""),
                berth::Part::Text(concat!("berth_plugin_", env!("CARGO_CRATE_NAME"))),
                berth::Part::Json("\",\"target\":\""),
                berth::Part::Text(berth::TARGET),
                berth::Part::Json("\",\"rustc\":\""),
                berth::Part::Text(berth::RUSTC),
                berth::Part::Json("\",\"summary\":\""),
                berth::Part::Text(env!("CARGO_PKG_DESCRIPTION")),
                berth::Part::Json("\",\"license\":\""),
                berth::Part::Text(env!("CARGO_PKG_LICENSE")),
                berth::Part::Json("\",\"homepage\":\""),
                berth::Part::Text(env!("CARGO_PKG_HOMEPAGE")),
                berth::Part::Json("\"}"),
            ];

            #[used]
            #[unsafe(link_section = ".berth.manifest")]
            static MANIFEST: [u8; berth::length_of(PARTS)] = berth::join(PARTS);

            #[used]
            #[unsafe(link_section = ".berth.abi")]
            static TAG: [u8; 32] = berth::AbiTag::current(cfg!(panic = "unwind")).to_bytes();

            struct Export;

            impl berth::Exported for Export {
                type Plugin = $plugin;
                const NAME: &'static str = $name;

                fn manifest() -> &'static [u8] {
                    &MANIFEST
                }
            }

            // SAFETY: the constructor makes a `ModuleRef`, as it says. The symbol is named after this crate, so that
            // no other plugin in the same program has it.
            #[unsafe(export_name = concat!("berth_plugin_", env!("CARGO_CRATE_NAME")))]
            static HEADER: berth::LibHeader = unsafe {
                berth::LibHeader::from_constructor::<berth::ModuleRef>(
                    berth::$entry::<Export>,
                    berth::CheckTypeLayout::Yes,
                )
            };
        };
    };
}

/// A plugin and what its library says of it.
#[doc(hidden)]
pub trait Exported: 'static {
    /// The author's type.
    type Plugin;
    /// Its name.
    const NAME: &'static str;

    /// What the library's section holds.
    fn manifest() -> &'static [u8];
}

/// Makes the module of a backend's library.
#[doc(hidden)]
pub extern "C" fn backend_entry<E: Exported<Plugin: Backend>>() -> RootModuleResult {
    extern "C" fn open_agent(_: RawHostObject, _: Doc) -> RResult<RawAgentObject, Fault> {
        absent_now("open_agent")
    }

    fn module<E: Exported<Plugin: Backend>>() -> ModuleRef {
        Module {
            manifest: manifest::<E>,
            describe: describe_backend::<E>,
            open_backend: open_backend::<E>,
            open_agent,
        }
        .leak_into_prefix()
    }

    __call_root_module_loader(module::<E>)
}

/// Makes the module of an agent's library.
#[doc(hidden)]
pub extern "C" fn agent_entry<E: Exported<Plugin: Agent>>() -> RootModuleResult {
    extern "C" fn open_backend(
        _: RawHostObject,
        _: Doc,
    ) -> FfiFuture<RResult<RawBackendObject, Fault>> {
        absent("open_backend")
    }

    fn module<E: Exported<Plugin: Agent>>() -> ModuleRef {
        Module {
            manifest: manifest::<E>,
            describe: describe_agent::<E>,
            open_backend,
            open_agent: open_agent::<E>,
        }
        .leak_into_prefix()
    }

    __call_root_module_loader(module::<E>)
}

extern "C" fn manifest<E: Exported>() -> RStr<'static> {
    std::str::from_utf8(E::manifest())
        .unwrap_or_default()
        .into()
}

extern "C" fn describe_backend<E: Exported<Plugin: Backend>>() -> RResult<Doc, Fault> {
    raw(catch(|| encode(&E::Plugin::describe())))
}

extern "C" fn describe_agent<E: Exported<Plugin: Agent>>() -> RResult<Doc, Fault> {
    raw(catch(|| encode(&E::Plugin::describe())))
}

extern "C" fn open_backend<E: Exported<Plugin: Backend>>(
    host: RawHostObject,
    request: Doc,
) -> FfiFuture<RResult<RawBackendObject, Fault>> {
    backend::open::<E::Plugin>(E::NAME, host, &request, true)
}

extern "C" fn open_agent<E: Exported<Plugin: Agent>>(
    host: RawHostObject,
    request: Doc,
) -> RResult<RawAgentObject, Fault> {
    agent::open::<E::Plugin>(host, &request, true)
}
