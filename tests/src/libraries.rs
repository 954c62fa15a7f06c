//! Real plugin libraries, good and bad, built by the tests from `tests/fixtures/plugins`.

use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The libraries of `tests/fixtures/plugins`, built once for each test program; where nothing changed, that is quick.
#[derive(Debug)]
pub struct Libraries {
    built: PathBuf,
}

impl Libraries {
    /// Builds what is not built.
    ///
    /// # Panics
    /// It cannot be built; the message holds what cargo said.
    pub fn get() -> &'static Self {
        static LIBRARIES: OnceLock<Libraries> = OnceLock::new();
        LIBRARIES.get_or_init(|| match build() {
            Ok(built) => Libraries { built },
            Err(fault) => panic!("the plugins of tests/fixtures/plugins: {fault:#}"),
        })
    }

    /// The library of the fixture `name`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.built.join(format!("lib{}.so", name.replace('-', "_")))
    }

    /// A program of the fixtures.
    pub fn program(&self, name: &str) -> PathBuf {
        self.built.join(name)
    }
}

/// The copies of the API that stand for its next minor and for a fork: what is replaced by what in which file.
const NEWER: &[(&str, &str, &str)] = &[
    ("Cargo.toml", "version = \"1.0.0\"", "version = \"1.1.0\""),
    (
        "src/raw.rs",
        "    fn shutdown(&self, cx: CallCx, request: Doc) -> Answer;\n",
        "    fn shutdown(&self, cx: CallCx, request: Doc) -> Answer;\n    /// `null` → `null`\n    \
         fn hibernate(&self, _cx: CallCx, _request: Doc) -> Answer { absent(\"hibernate\") }\n",
    ),
    (
        "src/raw.rs",
        "    pub open_agent: extern \"C\" fn(RawHostObject, Doc) -> RResult<RawAgentObject, Fault>,\n",
        "    pub open_agent: extern \"C\" fn(RawHostObject, Doc) -> RResult<RawAgentObject, Fault>,\n    \
         /// Of no use.\n    pub later: extern \"C\" fn() -> RStr<'static>,\n",
    ),
    (
        "src/sdk/export.rs",
        "            open_agent,\n",
        "            open_agent,\n            later: manifest::<E>,\n",
    ),
    (
        "src/sdk/export.rs",
        "            open_agent: open_agent::<E>,\n",
        "            open_agent: open_agent::<E>,\n            later: manifest::<E>,\n",
    ),
];
const SWAPPED: &[(&str, &str, &str)] = &[
    ("Cargo.toml", "version = \"1.0.0\"", "version = \"1.0.1\""),
    (
        "src/raw.rs",
        "    pub code: u32,\n    /// [`Fault::RETRYABLE`], [`Fault::MAY_HAVE_HAPPENED`].\n    pub flags: u32,\n",
        "    pub flags: u32,\n    /// [`Fault::RETRYABLE`], [`Fault::MAY_HAVE_HAPPENED`].\n    pub code: u32,\n",
    ),
];

fn build() -> anyhow::Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace")?;
    // target/debug/deps/<this program>
    let target = std::env::current_exe()?
        .ancestors()
        .nth(3)
        .context("the target folder")?
        .join("plugin-fixtures");
    let staged = target.join("workspace");
    let fixtures = root.join("tests/fixtures/plugins");
    stage(&fixtures, &staged, &|path, text| {
        if path.ends_with("Cargo.toml") {
            let api = root.join("plugin-api").display().to_string();
            return text.replace("../../../../plugin-api", &api);
        }
        text
    })?;
    stage_api(root, &target.join("api-newer"), NEWER)?;
    stage_api(root, &target.join("api-swapped"), SWAPPED)?;
    let lock = fs::read_to_string(root.join("Cargo.lock"))?;
    let seed = staged.join("seed.lock");
    if fs::read_to_string(&seed).ok().as_deref() != Some(&lock) {
        fs::write(staged.join("Cargo.lock"), &lock)?;
        fs::write(&seed, &lock)?;
    }
    let built = target.join("target");
    cargo(&staged, &built, &["build"])?;
    // Only the last crate has to be built so: the tag in its library is its own.
    let aborting = [
        "rustc",
        "--package",
        "toy-that-aborts",
        "--lib",
        "--",
        "-Cpanic=abort",
    ];
    cargo(&staged, &built, &aborting)?;
    Ok(built.join("debug"))
}

fn cargo(workspace: &Path, target: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let (command, arguments) = arguments.split_first().context("a command")?;
    let output = Command::new(env!("CARGO"))
        .args([*command, "--offline", "--quiet", "--target-dir"])
        .arg(target)
        .args(arguments)
        .current_dir(workspace)
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .context("cargo cannot be run")?;
    ensure!(
        output.status.success(),
        "cargo {command} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Copies a folder's text files, changed by `change`; a file that would not differ is left alone, so that cargo takes
/// it for unchanged.
fn stage(from: &Path, to: &Path, change: &dyn Fn(&Path, String) -> String) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (name, path) = entry.map(|entry| (entry.file_name(), entry.path()))?;
        let target = to.join(name);
        if path.is_dir() {
            stage(&path, &target, change)?;
            continue;
        }
        write_changed(&target, &change(&path, fs::read_to_string(&path)?))?;
    }
    Ok(())
}

/// A workspace that holds a changed copy of the API alone.
fn stage_api(root: &Path, to: &Path, changes: &[(&str, &str, &str)]) -> anyhow::Result<()> {
    let api = root.join("plugin-api");
    for (file, old, _) in changes {
        let count = fs::read_to_string(api.join(file))?.matches(old).count();
        ensure!(
            count == 1,
            "plugin-api/{file} holds the text that the tests replace {count} times, not once: {old:?}"
        );
    }
    stage(&api, &to.join("plugin-api"), &|path, text| {
        changes
            .iter()
            .filter(|(file, _, _)| path == api.join(file))
            .fold(text, |text, (_, old, new)| text.replace(old, new))
    })?;
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let (head, rest) = manifest
        .split_once("members = [")
        .context("the workspace's members")?;
    let (_, tail) = rest.split_once(']').context("the workspace's members")?;
    let manifest = format!("{head}members = [\"plugin-api\"]{tail}");
    write_changed(&to.join("Cargo.toml"), &manifest)
}

fn write_changed(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}
