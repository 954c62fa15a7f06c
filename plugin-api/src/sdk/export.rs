//! The macro that makes a library a plugin.

/// Makes the crate's dynamic library a plugin: one backend or one agent, under the name by which sessions and the
/// configuration call it (1 to 32 characters, `[a-z][a-z0-9-]*`).
///
/// ```ignore
/// berth_plugin_api::export_plugin! { backend: Docker, name: "docker" }
/// berth_plugin_api::export_plugin! { agent: Shell, name: "shell" }
/// ```
#[macro_export]
macro_rules! export_plugin {
    (backend: $plugin:ty, name: $name:literal $(,)?) => {
        const _: fn() = || {
            fn is_backend<T: $crate::Backend>() {}
            is_backend::<$plugin>();
        };
    };
    (agent: $plugin:ty, name: $name:literal $(,)?) => {
        const _: fn() = || {
            fn is_agent<T: $crate::Agent>() {}
            is_agent::<$plugin>();
        };
    };
}
