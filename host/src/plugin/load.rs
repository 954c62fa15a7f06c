//! Taking a library into this process: the one place where code that is not ours begins to run.
//!
//! The bytes that were checked are the bytes that are loaded: they go into a sealed memory file (or, where the system
//! forbids that, into a private copy named by its hash). A library is never unloaded. Each is loaded by a path of its
//! own, since the system's loader takes a path that it knows for the library that it has.
#![expect(
    unsafe_code,
    reason = "loading a library cannot be checked by the compiler"
)]

use super::inspect::Inspected;
use super::refusal::Refusal;
use abi_stable::library::AbiHeaderRef;
use berth_plugin_api::raw::{ModuleRef, module_of};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tracing::debug;

/// The library stays for as long as the process, whatever closes it.
const RTLD_NODELETE: i32 = 0x1000;
/// The memory file may be mapped to run, also where the system's default is otherwise (Linux 6.3).
const MFD_EXEC: u32 = 0x10;

/// Loads a library and checks that its types are laid out as ours. `copies` is where a private copy may be put.
///
/// Constructors of the library run; nothing else of it, but for the making of its module.
pub(super) fn load(plugin: &Inspected, copies: &Path) -> Result<ModuleRef, Refusal> {
    let (name, entry) = (
        plugin.manifest.name.as_str(),
        plugin.manifest.entry.as_str(),
    );
    let (bytes, sha256) = (&plugin.bytes, &plugin.sha256);
    let library = match memory_file(name, bytes) {
        Ok(file) => {
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            // Left open: its number, and so its path, must never be another library's.
            let _ = file.into_raw_fd();
            dlopen(&path)
        }
        Err(error) => Err(error.to_string()),
    };
    let library = match library {
        Ok(library) => library,
        // Whatever is wrong with a library itself is wrong with its copy too, and told of that.
        Err(error) => {
            debug!(
                plugin = name,
                error, "not loaded from memory; trying a private copy"
            );
            let path = private_copy(bytes, sha256, copies).map_err(Refusal::Copy)?;
            dlopen(&path).map_err(|message| {
                // It is of no use then, and would only stay behind.
                std::fs::remove_file(&path).ok();
                Refusal::Loader {
                    message: message.replace(&path.display().to_string(), "the library"),
                }
            })?
        }
    };
    // SAFETY: the manifest names the symbol as one that `export_plugin!` made, which is a static `LibHeader`; its magic
    // bytes are checked by `upgrade` before anything else of it is used.
    let header = unsafe { library.get::<AbiHeaderRef>(entry) }
        .map(|symbol| *symbol)
        .map_err(|_| Refusal::NoSymbol {
            symbol: entry.to_owned(),
        })?;
    // Never closed, so that what the header points to stays.
    let _ = library.into_raw();
    let header = header
        .upgrade()
        .map_err(|error| Refusal::Header(one_line(&error.to_string())))?;
    module_of(header).map_err(|error| Refusal::of_module(error, &plugin.manifest.api))
}

/// The bytes of a library, kept for processes that load it later, whatever becomes of its file.
#[derive(Debug)]
pub(super) struct Held {
    /// Where a process of the same user finds them, for as long as this lives.
    pub(super) path: PathBuf,
    _file: Option<OwnedFd>,
}

/// Keeps the bytes of a library. `copies` is where a private copy may be put.
pub(super) fn hold(plugin: &Inspected, copies: &Path) -> Result<Held, Refusal> {
    if let Ok(file) = memory_file(&plugin.manifest.name, &plugin.bytes) {
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        return Ok(Held {
            path: path.into(),
            _file: Some(file),
        });
    }
    let path = private_copy(&plugin.bytes, &plugin.sha256, copies).map_err(Refusal::Copy)?;
    Ok(Held { path, _file: None })
}

fn dlopen(path: &Path) -> Result<Library, String> {
    // SAFETY: the library's constructors run. Its file is trusted, and made by `export_plugin!` as its sections say.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) }
        .map_err(|error| message_of(&error))
}

/// The loader's own words, which libloading keeps as the source.
fn message_of(error: &libloading::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A file in memory that nothing can change any more.
fn memory_file(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let name = format!("berth-plugin-{name}");
    let file = match memfd_create(name.as_str(), flags | MFdFlags::from_bits_retain(MFD_EXEC)) {
        Err(Errno::EINVAL) => memfd_create(name.as_str(), flags),
        outcome => outcome,
    }?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// A copy in a folder that only the server's user can enter, under the name of its hash.
fn private_copy(bytes: &[u8], sha256: &str, copies: &Path) -> io::Result<PathBuf> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(copies)?;
    let path = copies.join(format!("{sha256}.so"));
    let partial = copies.join(format!("{sha256}.{}.partial", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o500)
        .open(&partial)?;
    file.write_all(bytes)?;
    drop(file);
    std::fs::rename(&partial, &path)?;
    Ok(path)
}
