//! Files, as streams. A file that is put is there whole or not at all.

use crate::http::{Answer, Query, Refusal, code, next};
use berth_keeper_protocol::{FileStat, OFFSET_HEADER};
use bytes::BytesMut;
use h2::RecvStream;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::fs::{Metadata, Permissions};
use std::io::{self, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

const PIECE: usize = 16 * 1024;
const DEFAULT_MODE: u32 = 0o644;

pub(crate) async fn stat(query: &Query) -> Result<FileStat, Refusal> {
    let path = absolute(query, "path")?;
    let found = fs::metadata(&path).await;
    let found = found.map_err(|error| named(&path, &error))?;
    Ok(describe(&path, &found))
}

pub(crate) async fn get(query: &Query, answer: &Answer) -> Result<(), Refusal> {
    let path = absolute(query, "path")?;
    let offset: u64 = query.parsed("offset")?.unwrap_or(0);
    let mut file = OpenOptions::new()
        .read(true)
        // A named pipe without a writer must not hold us.
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(&path)
        .await
        .map_err(|error| named(&path, &error))?;
    if !file.metadata().await?.is_file() {
        let message = format!("{} is no file", path.display());
        return Err(Refusal::new(code::INVALID, message));
    }
    file.seek(SeekFrom::Start(offset)).await?;
    if answer.begin(&[(OFFSET_HEADER, offset)]).is_err() {
        return Ok(());
    }
    while let Ok(room) = answer.room(PIECE).await {
        let mut buffer = BytesMut::with_capacity(room);
        let read = (&mut file).take(room as u64).read_buf(&mut buffer).await?;
        if read == 0 {
            answer.finish(buffer.freeze());
            break;
        }
        if answer.send(buffer.freeze()).is_err() {
            break;
        }
    }
    Ok(())
}

pub(crate) async fn put(query: &Query, body: &mut RecvStream) -> Result<FileStat, Refusal> {
    let path = absolute(query, "path")?;
    let mode = query.parsed("mode")?.unwrap_or(DEFAULT_MODE) & 0o7777;
    let overwrite = query.flag("overwrite")?;
    let nameless = || Refusal::new(code::INVALID, format!("{} names no file", path.display()));
    let name = path.file_name().ok_or_else(nameless)?;
    let above = path.parent().ok_or_else(nameless)?;
    let fence = match query.find("beneath") {
        Some(_) => Some(fs::canonicalize(absolute(query, "beneath")?).await?),
        None => None,
    };
    if query.flag("parents")? {
        if let Some(fence) = &fence {
            let there = above.ancestors().find(|folder| folder.exists());
            stay_beneath(fence, &fs::canonicalize(there.unwrap_or(above)).await?)?;
        }
        fs::create_dir_all(above)
            .await
            .map_err(|error| named(above, &error))?;
    }
    // From here on the folder is this very one, whatever its path is made to mean.
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY)
        .open(above)
        .await
        .map_err(|error| named(above, &error))?;
    let folder_path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    if let Some(fence) = &fence {
        stay_beneath(fence, &fs::read_link(&folder_path).await?)?;
    }
    let target = folder_path.join(name);
    if let Ok(found) = fs::symlink_metadata(&target).await {
        if found.is_dir() {
            let message = format!("{} is a folder", path.display());
            return Err(Refusal::new(code::CONFLICT, message));
        }
        if !overwrite {
            return Err(there_already(&path));
        }
    }
    let mut draft = Draft::create(&folder_path)
        .await
        .map_err(|error| named(above, &error))?;
    while let Some(bytes) = next(body).await? {
        draft.file.write_all(&bytes).await?;
    }
    draft.file.flush().await?;
    draft
        .file
        .set_permissions(Permissions::from_mode(mode))
        .await?;
    let written = draft.file.metadata().await?;
    draft
        .keep(&target, overwrite)
        .map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => there_already(&path),
            _ => named(&path, &error),
        })?;
    Ok(describe(&path, &written))
}

/// A file that is being written; gone when it is dropped before it is kept.
struct Draft {
    file: File,
    path: PathBuf,
    kept: bool,
}

impl Draft {
    async fn create(folder: &Path) -> io::Result<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = LAST.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".berth-put-{}-{number}", std::process::id()));
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .await;
            match file {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path,
                        kept: false,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn keep(mut self, target: &Path, overwrite: bool) -> io::Result<()> {
        if overwrite {
            std::fs::rename(&self.path, target)?;
        } else {
            let flags = RenameFlags::RENAME_NOREPLACE;
            match renameat2(AT_FDCWD, &self.path, AT_FDCWD, target, flags) {
                Ok(()) => {}
                // Not every file system can: there a second name, which is refused as well where one is.
                Err(nix::Error::EINVAL | nix::Error::ENOSYS) => {
                    std::fs::hard_link(&self.path, target)?;
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.kept = true;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            std::fs::remove_file(&self.path).ok();
        }
    }
}

fn stay_beneath(fence: &Path, folder: &Path) -> Result<(), Refusal> {
    if folder.starts_with(fence) {
        return Ok(());
    }
    let message = format!("{} is outside of {}", folder.display(), fence.display());
    Err(Refusal::new(code::INVALID, message))
}

fn absolute(query: &Query, name: &str) -> Result<PathBuf, Refusal> {
    let path = query.get(name)?;
    if path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..") {
        return Ok(PathBuf::from(path));
    }
    let message = format!("{name} must be an absolute path without `..`, not {path:?}");
    Err(Refusal::new(code::INVALID, message))
}

fn there_already(path: &Path) -> Refusal {
    Refusal::new(
        code::CONFLICT,
        format!("{} is there already", path.display()),
    )
}

fn named(path: &Path, error: &io::Error) -> Refusal {
    let named = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    Refusal::from(named)
}

fn describe(path: &Path, found: &Metadata) -> FileStat {
    FileStat {
        path: path.to_string_lossy().into_owned(),
        size: found.len(),
        is_dir: found.is_dir(),
        mode: found.mode() & 0o7777,
    }
}
