//! What a plugin's file says of itself before any of its code runs.
//!
//! Two ELF sections hold it: `.berth.abi`, 32 bytes of a fixed form, and `.berth.manifest`, a JSON object.

use crate::raw::ABI;
use serde::{Deserialize, Serialize};

/// The version of the plugin API that this crate is.
pub const API_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The oldest version of a host's API that a plugin built with this crate can be loaded by.
pub const MIN_HOST_API: &str = "1.0";

/// The compiler that built this crate, and so every plugin in the same build.
pub const RUSTC: &str = env!("BERTH_RUSTC");

/// The target that this crate was built for.
pub const TARGET: &str = env!("BERTH_TARGET");

/// The ELF section of the tag.
pub const ABI_SECTION: &str = ".berth.abi";

/// The ELF section of the manifest.
pub const MANIFEST_SECTION: &str = ".berth.manifest";

/// What a plugin says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// The form of the manifest: 1.
    pub manifest: u32,
    /// The plugin's name.
    pub name: String,
    /// `backend` or `agent`.
    pub kind: String,
    /// The plugin's version.
    pub version: String,
    /// The version of the plugin API that it was built with.
    pub api: String,
    /// The oldest version of a host's API that can load it.
    pub min_host_api: String,
    /// The symbol of its module.
    pub entry: String,
    /// The target that it was built for.
    pub target: String,
    /// The compiler that built it.
    pub rustc: String,
    /// What it is, in a sentence.
    pub summary: String,
    /// Its licence.
    pub license: String,
    /// Where to learn more.
    pub homepage: String,
}

impl Manifest {
    /// Whether `name` can be a plugin's name: 1 to 32 characters, `[a-z][a-z0-9-]*`.
    pub fn is_name(name: &str) -> bool {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=32).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.bytes().all(allowed)
    }
}

/// What has to hold before a plugin's code can run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbiTag {
    /// The binary form; [`ABI`].
    pub abi: u16,
    /// A panic unwinds, so that it can be caught. Where it aborts, it ends the process.
    pub unwinds: bool,
    /// How wide a pointer is, in bytes.
    pub pointer_bytes: u8,
    /// The lowest byte of a number comes first.
    pub little_endian: bool,
}

impl AbiTag {
    const MAGIC: [u8; 8] = *b"BERTHABI";

    /// The tag of what is compiled now.
    pub const fn current(unwinds: bool) -> Self {
        Self {
            abi: ABI,
            unwinds,
            pointer_bytes: (usize::BITS / 8).to_le_bytes()[0],
            little_endian: cfg!(target_endian = "little"),
        }
    }

    /// The tag as the section holds it.
    pub const fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let mut index = 0;
        while index < Self::MAGIC.len() {
            bytes[index] = Self::MAGIC[index];
            index += 1;
        }
        let abi = self.abi.to_le_bytes();
        bytes[8] = abi[0];
        bytes[9] = abi[1];
        bytes[10] = self.unwinds as u8;
        bytes[11] = self.pointer_bytes;
        bytes[12] = self.little_endian as u8;
        bytes
    }

    /// Reads a tag; `None` when these bytes are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 32] = bytes.try_into().ok()?;
        (bytes[..8] == Self::MAGIC).then(|| Self {
            abi: u16::from_le_bytes([bytes[8], bytes[9]]),
            unwinds: bytes[10] == 1,
            pointer_bytes: bytes[11],
            little_endian: bytes[12] == 1,
        })
    }
}

/// A piece of a manifest that is put together while the plugin is compiled.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// JSON.
    Json(&'static str),
    /// What stands inside a JSON string.
    Text(&'static str),
}

/// How long these parts are together.
#[doc(hidden)]
pub const fn length_of(parts: &[Part]) -> usize {
    let mut length = 0;
    let mut index = 0;
    while index < parts.len() {
        length += match parts[index] {
            Part::Json(text) => text.len(),
            Part::Text(text) => {
                let bytes = text.as_bytes();
                let mut escaped = bytes.len();
                let mut at = 0;
                while at < bytes.len() {
                    if matches!(bytes[at], b'"' | b'\\') {
                        escaped += 1;
                    }
                    at += 1;
                }
                escaped
            }
        };
        index += 1;
    }
    length
}

/// These parts together.
#[doc(hidden)]
pub const fn join<const LENGTH: usize>(parts: &[Part]) -> [u8; LENGTH] {
    let mut joined = [0; LENGTH];
    let mut end = 0;
    let mut index = 0;
    while index < parts.len() {
        let (text, escape) = match parts[index] {
            Part::Json(text) => (text.as_bytes(), false),
            Part::Text(text) => (text.as_bytes(), true),
        };
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            if escape && matches!(byte, b'"' | b'\\') {
                joined[end] = b'\\';
                end += 1;
            }
            joined[end] = if escape && byte < b' ' { b' ' } else { byte };
            end += 1;
            at += 1;
        }
        index += 1;
    }
    joined
}

/// What could not be read of a file.
#[cfg(feature = "host")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadError {
    /// It is no ELF library, or not whole.
    NotALibrary(String),
    /// It is a library for another machine.
    Machine(String),
    /// It is a library, but has no section of this name, so it is no berth plugin.
    NoSection(&'static str),
    /// The section does not hold what it should.
    BadSection(&'static str, String),
}

/// Reads both sections from the bytes of a file. Nothing of the file is run.
///
/// # Errors
/// It is no plugin, or not whole.
#[cfg(feature = "host")]
pub fn read(file: &[u8]) -> Result<(AbiTag, Manifest), ReadError> {
    use object::{Architecture, Object, ObjectKind, ObjectSection};

    let not_a_library = |error: object::Error| ReadError::NotALibrary(error.to_string());
    let library = object::File::parse(file).map_err(not_a_library)?;
    if library.kind() != ObjectKind::Dynamic {
        return Err(ReadError::NotALibrary(
            "it is a program or an object file, not a shared library".to_owned(),
        ));
    }
    let expected = match std::env::consts::ARCH {
        "x86_64" => Some(Architecture::X86_64),
        "aarch64" => Some(Architecture::Aarch64),
        _ => None,
    };
    if expected.is_some_and(|expected| expected != library.architecture()) {
        return Err(ReadError::Machine(
            format!("{:?}", library.architecture()).to_lowercase(),
        ));
    }
    let section = |name: &'static str| {
        library
            .section_by_name(name)
            .ok_or(ReadError::NoSection(name))?
            .data()
            .map_err(not_a_library)
    };
    let abi = section(ABI_SECTION)?;
    let tag = AbiTag::from_bytes(abi).ok_or_else(|| {
        ReadError::BadSection(ABI_SECTION, format!("{} bytes that are no tag", abi.len()))
    })?;
    let manifest = serde_json::from_slice(section(MANIFEST_SECTION)?)
        .map_err(|error| ReadError::BadSection(MANIFEST_SECTION, error.to_string()))?;
    Ok((tag, manifest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_reads_back() {
        for unwinds in [true, false] {
            let tag = AbiTag::current(unwinds);
            assert_eq!(AbiTag::from_bytes(&tag.to_bytes()), Some(tag));
        }
        assert_eq!(AbiTag::from_bytes(&[0; 32]), None);
        assert_eq!(
            AbiTag::from_bytes(&AbiTag::current(true).to_bytes()[1..]),
            None
        );
    }

    #[test]
    fn parts_are_escaped() {
        const PARTS: &[Part] = &[
            Part::Json("{\"a\":\""),
            Part::Text("say \"hi\" \\ \n"),
            Part::Json("\"}"),
        ];
        static JOINED: [u8; length_of(PARTS)] = join(PARTS);
        let value: serde_json::Value = serde_json::from_slice(&JOINED).unwrap();
        assert_eq!(value["a"], "say \"hi\" \\  ");
    }

    #[test]
    fn names_keep_the_rule() {
        for good in ["a", "local", "my-cloud-2"] {
            assert!(Manifest::is_name(good), "{good}");
        }
        for bad in ["", "A", "2a", "-a", "a_b", "a/b", &"x".repeat(33)] {
            assert!(!Manifest::is_name(bad), "{bad}");
        }
    }
}
