//! What a library says of itself, and whether this host can take it: all that is known before any of its code runs.

use super::find::{Found, read};
use super::refusal::Refusal;
use crate::driver::{Isolation, PluginKind};
use berth_plugin_api::manifest::{self, API_VERSION, AbiTag, Manifest};
use berth_plugin_api::raw::ABI;
use sha2::{Digest, Sha256};
use std::cmp::Ordering;
use std::fmt::Write;
use std::path::PathBuf;

/// Compilers whose plugins are broken, and why.
const BROKEN_COMPILERS: &[(&str, &str)] = &[(
    "rustc 1.98.0 ",
    "empty slots in method tables, https://github.com/rust-lang/rust/issues/161441",
)];

/// A library that was read and found to fit.
pub(super) struct Inspected {
    pub(super) path: PathBuf,
    pub(super) order: usize,
    pub(super) isolation: Isolation,
    pub(super) kind: PluginKind,
    pub(super) manifest: Manifest,
    /// In hexadecimal.
    pub(super) sha256: String,
    pub(super) bytes: Vec<u8>,
}

/// What was learnt of a library that does not fit.
pub(super) struct Misfit {
    pub(super) path: PathBuf,
    pub(super) manifest: Option<Manifest>,
    pub(super) refusal: Refusal,
}

/// Reads a library that is trusted, and judges it. `isolation` says where its code is to run, by its name.
pub(super) fn inspect(
    found: &Found,
    isolation: impl FnOnce(&str) -> Option<Isolation>,
) -> Result<Inspected, Box<Misfit>> {
    let bytes = read(found).map_err(|refusal| {
        Box::new(Misfit {
            path: found.path.clone(),
            manifest: None,
            refusal,
        })
    })?;
    judge_with(found.path.clone(), bytes, found.order, |name| {
        isolation(name).unwrap_or(found.isolation)
    })
}

/// Judges the bytes of a library.
pub(super) fn judge(
    path: PathBuf,
    bytes: Vec<u8>,
    isolation: Isolation,
) -> Result<Inspected, Box<Misfit>> {
    judge_with(path, bytes, 0, |_| isolation)
}

fn judge_with(
    path: PathBuf,
    bytes: Vec<u8>,
    order: usize,
    isolation: impl FnOnce(&str) -> Isolation,
) -> Result<Inspected, Box<Misfit>> {
    let (tag, manifest) = match manifest::read(&bytes) {
        Ok(read) => read,
        Err(error) => {
            return Err(Box::new(Misfit {
                path,
                manifest: None,
                refusal: error.into(),
            }));
        }
    };
    let isolation = isolation(&manifest.name);
    let kind = match judge_sections(tag, &manifest, isolation) {
        Ok(kind) => kind,
        Err(refusal) => {
            return Err(Box::new(Misfit {
                path,
                manifest: Some(manifest),
                refusal,
            }));
        }
    };
    let mut sha256 = String::with_capacity(64);
    for byte in Sha256::digest(&bytes) {
        let _ = write!(sha256, "{byte:02x}");
    }
    Ok(Inspected {
        path,
        order,
        isolation,
        kind,
        manifest,
        sha256,
        bytes,
    })
}

/// Whether a library with this tag and manifest can be taken.
fn judge_sections(
    tag: AbiTag,
    manifest: &Manifest,
    isolation: Isolation,
) -> Result<PluginKind, Refusal> {
    if tag.abi != ABI {
        return Err(Refusal::Abi {
            plugin: tag.abi,
            host: ABI,
        });
    }
    let ours = AbiTag::current(true);
    if (tag.pointer_bytes, tag.little_endian) != (ours.pointer_bytes, ours.little_endian) {
        return Err(Refusal::Machine {
            plugin: format!("{} bit", u32::from(tag.pointer_bytes) * 8),
            host: std::env::consts::ARCH,
        });
    }
    if !tag.unwinds && isolation == Isolation::None {
        return Err(Refusal::PanicAborts);
    }
    if manifest.manifest != 1 {
        return Err(Refusal::Manifest(format!(
            "that its form is number {}, and this berth knows number 1",
            manifest.manifest
        )));
    }
    let kind = match manifest.kind.as_str() {
        "backend" => PluginKind::Backend,
        "agent" => PluginKind::Agent,
        other => {
            return Err(Refusal::Manifest(format!(
                "that it is a {other:?}, and there are only backends and agents"
            )));
        }
    };
    if !Manifest::is_name(&manifest.name) {
        return Err(Refusal::Manifest(format!(
            "that its name is {:?}, and a name has 1 to 32 characters of a-z, 0-9 and '-', a letter first",
            manifest.name
        )));
    }
    judge_api(manifest)?;
    for (compiler, why) in BROKEN_COMPILERS {
        if format!("{} ", manifest.rustc).starts_with(compiler) {
            return Err(Refusal::Compiler {
                compiler: compiler.trim_end().to_owned(),
                why,
            });
        }
    }
    Ok(kind)
}

fn judge_api(manifest: &Manifest) -> Result<(), Refusal> {
    let plugin = Version::parse(&manifest.api);
    let needs = Version::parse(&manifest.min_host_api);
    let host = Version::parse(API_VERSION);
    let refusal = |todo| Refusal::Api {
        plugin: manifest.api.clone(),
        needs: manifest.min_host_api.clone(),
        host: API_VERSION,
        todo,
    };
    if plugin.numbers[0] < host.numbers[0] {
        return Err(refusal("build it again with a newer berth-plugin-api"));
    }
    if plugin.numbers[0] > host.numbers[0] || needs > host {
        return Err(refusal(
            "update berth, or use an older version of the plugin",
        ));
    }
    Ok(())
}

/// A version's numbers; a pre-release comes before its release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    numbers: [u64; 3],
    pre_release: Option<String>,
}

impl Version {
    /// Reads `1`, `1.2`, `1.2.3-beta+build`; what is missing or unreadable counts as 0.
    pub(super) fn parse(text: &str) -> Self {
        let text = text.split('+').next().unwrap_or_default();
        let (release, pre_release) = match text.split_once('-') {
            Some((release, pre_release)) => (release, Some(pre_release.to_owned())),
            None => (text, None),
        };
        let mut numbers = [0; 3];
        for (number, part) in numbers.iter_mut().zip(release.split('.')) {
            *number = part.parse().unwrap_or_default();
        }
        Self {
            numbers,
            pre_release,
        }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (&self.pre_release, &other.pre_release) {
                (None, None) => Ordering::Equal,
                (None, Some(_)) => Ordering::Greater,
                (Some(_), None) => Ordering::Less,
                (Some(one), Some(two)) => one.cmp(two),
            }
        })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            manifest: 1,
            name: "toy".to_owned(),
            kind: "backend".to_owned(),
            version: "1.0.0".to_owned(),
            api: API_VERSION.to_owned(),
            min_host_api: "1.0".to_owned(),
            rustc: "rustc 1.95.0 (59807616e 2026-04-14)".to_owned(),
            ..Manifest::default()
        }
    }

    fn check(change: impl FnOnce(&mut Manifest, &mut AbiTag), expected: &str) {
        let (mut manifest, mut tag) = (manifest(), AbiTag::current(true));
        change(&mut manifest, &mut tag);
        let refusal = judge_sections(tag, &manifest, Isolation::None)
            .unwrap_err()
            .to_string();
        assert!(refusal.contains(expected), "{refusal}");
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_to_do() {
        assert_eq!(
            judge_sections(AbiTag::current(true), &manifest(), Isolation::None).unwrap(),
            PluginKind::Backend
        );
        check(|_, tag| tag.abi = 2, "build it again");
        check(|_, tag| tag.pointer_bytes = 4, "built for 32 bit");
        check(|_, tag| tag.unwinds = false, "remove that line");
        check(|manifest, _| manifest.manifest = 2, "form is number 2");
        check(|manifest, _| manifest.kind = "cook".to_owned(), "\"cook\"");
        check(
            |manifest, _| manifest.name = "A".to_owned(),
            "a letter first",
        );
        check(
            |manifest, _| manifest.api = "0.9.0".to_owned(),
            "newer berth-plugin-api",
        );
        check(
            |manifest, _| manifest.api = "2.0.0".to_owned(),
            "update berth",
        );
        check(
            |manifest, _| {
                manifest.api = "1.9.0".to_owned();
                manifest.min_host_api = "1.9".to_owned();
            },
            "update berth",
        );
        check(
            |manifest, _| manifest.rustc = "rustc 1.98.0 (abc)".to_owned(),
            "another compiler",
        );
    }

    #[test]
    fn a_newer_minor_is_taken_when_it_says_that_it_can_be() {
        let mut manifest = manifest();
        manifest.api = "1.9.0".to_owned();
        judge_sections(AbiTag::current(true), &manifest, Isolation::None).unwrap();
    }

    #[test]
    fn a_plugin_that_aborts_can_run_in_a_process_of_its_own() {
        judge_sections(AbiTag::current(false), &manifest(), Isolation::Process).unwrap();
    }

    #[test]
    fn versions_are_compared_by_number() {
        let sorted = [
            "",
            "0.9",
            "1.0.0-beta",
            "1.0.0",
            "1.0.2+x",
            "1.0.10",
            "1.1",
            "10",
        ];
        for pair in sorted.windows(2) {
            assert!(
                Version::parse(pair[0]) < Version::parse(pair[1]),
                "{pair:?}"
            );
        }
    }
}
