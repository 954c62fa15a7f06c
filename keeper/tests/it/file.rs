//! Files in and out.

use crate::world::{World, eventually, soon};
use berth_host::keeper::{Keeper, KeeperError, PutFile};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

fn put(path: String) -> PutFile {
    PutFile {
        path,
        ..PutFile::default()
    }
}

async fn whole(keeper: &Keeper, path: &str, offset: u64) -> Result<Vec<u8>, KeeperError> {
    let mut body = keeper.get_file(path, offset).await?;
    assert_eq!(body.offset(), offset);
    let mut whole = Vec::new();
    while let Some(bytes) = soon(body.next()).await {
        whole.extend_from_slice(&bytes?);
    }
    Ok(whole)
}

/// Gives some bytes, then waits for ever or fails.
struct Cut {
    bytes: usize,
    fails: bool,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.bytes.min(buffer.remaining());
        if count == 0 {
            return if self.fails {
                Poll::Ready(Err(io::Error::other("cut")))
            } else {
                Poll::Pending
            };
        }
        buffer.initialize_unfilled_to(count);
        buffer.advance(count);
        self.bytes -= count;
        Poll::Ready(Ok(()))
    }
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_goes_in_and_comes_out_again() {
    let world = World::start();
    let keeper = world.connect().await;
    let path = world.path("a file & 100%+ü");
    let sent: Vec<u8> = (0..700_000_u32).flat_map(u32::to_be_bytes).collect();
    let stat = soon(keeper.put_file(&put(path.clone()), &sent[..]))
        .await
        .unwrap();
    assert_eq!(
        (stat.size, stat.mode, stat.is_dir),
        (sent.len() as u64, 0o644, false)
    );
    assert_eq!(keeper.stat(&path).await.unwrap(), Some(stat));
    assert!(fs::read(&path).unwrap() == sent);
    assert!(whole(&keeper, &path, 0).await.unwrap() == sent);
    assert!(whole(&keeper, &path, 2_000_001).await.unwrap() == sent[2_000_001..]);
    assert!(whole(&keeper, &path, 9_000_000).await.unwrap().is_empty());
    assert!(
        keeper
            .get_file(&world.path("none"), 0)
            .await
            .unwrap_err()
            .is_not_found()
    );
    assert!(keeper.get_file(&world.path(""), 0).await.is_err());
    assert_eq!(keeper.stat(&world.path("none")).await.unwrap(), None);
    assert!(keeper.stat(&world.path("")).await.unwrap().unwrap().is_dir);
}

#[tokio::test]
async fn a_file_is_replaced_only_where_that_is_asked_for() {
    let world = World::start();
    let keeper = world.connect().await;
    let path = world.path("file");
    fs::write(&path, "old").unwrap();
    let large = vec![1; 5_000_000];
    let refused = soon(keeper.put_file(&put(path.clone()), &large[..]))
        .await
        .unwrap_err();
    assert!(refused.is_conflict(), "{refused:?}");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let over = PutFile {
        overwrite: true,
        mode: Some(0o600),
        ..put(path.clone())
    };
    keeper.put_file(&over, &b"new"[..]).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // A link is replaced, not followed.
    let (link, target) = (world.path("link"), world.path("target"));
    fs::write(&target, "kept").unwrap();
    symlink(&target, &link).unwrap();
    let over = PutFile {
        overwrite: true,
        ..put(link.clone())
    };
    keeper.put_file(&over, &b"new"[..]).await.unwrap();
    assert_eq!(fs::read(&target).unwrap(), b"kept");
    assert_eq!(fs::read(&link).unwrap(), b"new");
    assert!(
        keeper
            .put_file(&put(world.path("state")), &b"x"[..])
            .await
            .unwrap_err()
            .is_conflict()
    );
}

#[tokio::test]
async fn an_upload_that_is_cut_off_leaves_nothing() {
    let world = World::start();
    let keeper = world.connect().await;
    let folder = world.path("uploads");
    fs::create_dir(&folder).unwrap();
    let target = put(format!("{folder}/file"));
    let fails = Cut {
        bytes: 300_000,
        fails: true,
    };
    let error = soon(keeper.put_file(&target, fails)).await.unwrap_err();
    assert!(matches!(error, KeeperError::Source { .. }), "{error:?}");
    let other = world.connect().await;
    {
        let hangs = Cut {
            bytes: 300_000,
            fails: false,
        };
        let mut putting = std::pin::pin!(other.put_file(&target, hangs));
        let begun = eventually("the upload begins", || async {
            if names(&folder).is_empty() {
                Err("nothing")
            } else {
                Ok(())
            }
        });
        tokio::select! {
            result = &mut putting => panic!("{result:?}"),
            () = begun => {}
        }
    }
    drop(other);
    eventually("it is cleaned up", || async {
        let names = names(&folder);
        if names.is_empty() { Ok(()) } else { Err(names) }
    })
    .await;
}

#[tokio::test]
async fn folders_are_made_and_fences_hold() {
    let world = World::start();
    let keeper = world.connect().await;
    let (inside, outside) = (world.path("inside"), world.path("outside"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink(&outside, format!("{inside}/way-out")).unwrap();
    let fenced = |path: &str| PutFile {
        beneath: Some(inside.clone()),
        parents: true,
        ..put(format!("{inside}/{path}"))
    };
    keeper
        .put_file(&fenced("a/b/file"), &b"in"[..])
        .await
        .unwrap();
    assert_eq!(fs::read(format!("{inside}/a/b/file")).unwrap(), b"in");
    for path in [
        "way-out/file",
        "way-out/new/file",
        "../outside/file",
        "a/../../outside/file",
    ] {
        assert!(
            keeper.put_file(&fenced(path), &b"out"[..]).await.is_err(),
            "{path}"
        );
    }
    assert!(names(&outside).is_empty());
    let missing = keeper
        .put_file(&put(format!("{inside}/no/file")), &b"x"[..])
        .await;
    assert!(missing.unwrap_err().is_not_found());
    for path in ["relative", "/with\0nul", "/"] {
        assert!(
            keeper
                .put_file(&put(path.to_owned()), &b"x"[..])
                .await
                .is_err(),
            "{path:?}"
        );
    }
}
