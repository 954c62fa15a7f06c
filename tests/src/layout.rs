//! What is tested: a folder laid out as what is shipped, from what was built.

use anyhow::{Context, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

/// A folder with `bin/berth`, `lib/berth/plugins/*.so` and `lib/berth/keeper/<arch>/berth-keeper`.
///
/// `BERTH_DIST` names one that is there; otherwise it is put together, once for each test program, from the folder that
/// the test program was built in, or `BERTH_TARGET_DIR`. The keeper is `BERTH_KEEPER`, else what `keeper/build` left in
/// the target folder, else the workspace's own build of it.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// The layout that all tests share.
    ///
    /// # Panics
    /// Something was not built; the message says what to run.
    pub fn get() -> &'static Self {
        static LAYOUT: OnceLock<Layout> = OnceLock::new();
        LAYOUT.get_or_init(|| match Self::find() {
            Ok(layout) => layout,
            Err(fault) => {
                panic!("{fault:#}; run `cargo build --workspace` and `make keeper` first")
            }
        })
    }

    /// The server program.
    pub fn program(&self) -> PathBuf {
        self.folder.join("bin/berth")
    }

    /// The keeper for this machine.
    pub fn keeper(&self) -> PathBuf {
        self.folder
            .join("lib/berth/keeper")
            .join(std::env::consts::ARCH)
            .join("berth-keeper")
    }

    /// The folder with the plugins that came with berth.
    pub fn plugins(&self) -> PathBuf {
        self.folder.join("lib/berth/plugins")
    }

    fn find() -> anyhow::Result<Self> {
        if let Some(dist) = std::env::var_os("BERTH_DIST") {
            return Ok(Self {
                folder: PathBuf::from(dist),
            });
        }
        let built = built_folder()?;
        let folder = built
            .join("tmp")
            .join(format!("layout-{}", std::process::id()));
        sweep(&built.join("tmp"));
        let layout = Self { folder };
        link(&built.join("berth"), &layout.program())?;
        link(&keeper(&built)?, &layout.keeper())?;
        let plugins = layout.plugins();
        let libraries = libraries(&built)?;
        for library in &libraries {
            let name = library.file_name().context("a library has a name")?;
            link(library, &plugins.join(name))?;
        }
        if libraries.is_empty() {
            bail!("no plugin in {}", built.display());
        }
        Ok(layout)
    }
}

/// The plugins that were built: in the folder itself after `cargo build`, among its parts after `cargo test` alone.
fn libraries(built: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(built).with_context(|| format!("cannot read {}", built.display()))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            (name.starts_with("libberth_backend_") || name.starts_with("libberth_agent_"))
                && path.extension().is_some_and(|extension| extension == "so")
        })
        .collect();
    found.sort();
    Ok(found)
}

fn keeper(built: &Path) -> anyhow::Result<PathBuf> {
    if let Some(keeper) = std::env::var_os("BERTH_KEEPER") {
        return Ok(PathBuf::from(keeper));
    }
    let target = built.parent().unwrap_or(built);
    let candidates = [
        target.join("keeper/berth-keeper"),
        built.join("berth-keeper"),
    ];
    candidates
        .iter()
        .find(|path| path.exists())
        .cloned()
        .with_context(|| format!("no keeper in {}", target.display()))
}

/// `target/debug`, or where else the running test program was built.
fn built_folder() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("BERTH_TARGET_DIR") {
        return Ok(PathBuf::from(folder));
    }
    let program = std::env::current_exe().context("cannot tell where this program is")?;
    let parts = program.parent().context("this program is in a folder")?;
    let built = if parts.ends_with("deps") {
        parts.parent()
    } else {
        Some(parts)
    };
    built
        .map(Path::to_owned)
        .context("a test program stands in the target folder")
}

/// A hard link where that is possible: the server finds its parts beside its own resolved path, so no symbolic link.
fn link(from: &Path, to: &Path) -> anyhow::Result<()> {
    let folder = to.parent().context("a file stands in a folder")?;
    fs::create_dir_all(folder)?;
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).with_context(|| format!("{} was not built", from.display()))?;
    }
    Ok(())
}

/// Clears the layouts of earlier test programs.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix("layout-")) else {
            continue;
        };
        let old = entry
            .metadata()
            .and_then(|about| about.modified())
            .is_ok_and(|at| {
                SystemTime::now()
                    .duration_since(at)
                    .is_ok_and(|age| age.as_secs() > 60)
            });
        if old && !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
