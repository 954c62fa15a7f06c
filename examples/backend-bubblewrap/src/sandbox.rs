//! bubblewrap's command line.

use crate::options::{Config, Options};
use berth_plugin_api::doc::{KeeperProgram, Mount};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::Path;

/// Where the keeper's state folder is in a sandbox: a short path, since a socket's path may not be long.
const STATE: &str = "/run/berth";
/// Where programs are looked up in a sandbox.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What of the machine each sandbox may read.
const SYSTEM: [&str; 2] = ["/usr", "/etc"];
/// What is a part of `/usr` on today's machines, and a folder of its own on older ones.
const BESIDE_USR: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// What a session's sandbox is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    pub(crate) session_id: String,
    pub(crate) keeper: KeeperProgram,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) options: Options,
}

impl Sandbox {
    /// The arguments of `bwrap`. `state` is the keeper's state folder on the host.
    pub(crate) fn arguments(&self, config: &Config, state: &Path) -> Vec<OsString> {
        let mut arguments = Arguments::default();
        arguments.add(["--unshare-all", "--as-pid-1", "--new-session"]);
        arguments.add(["--cap-drop", "ALL"]);
        if self.options.network {
            arguments.add(["--share-net"]);
        }
        // Later mounts hide earlier ones: the system first, what is the session's own over it.
        for folder in SYSTEM {
            arguments.add(["--ro-bind", folder, folder]);
        }
        for name in BESIDE_USR {
            let folder = Path::new("/").join(name);
            match folder.read_link() {
                Ok(target) => arguments.add([Path::new("--symlink"), &target, &folder]),
                Err(_) => arguments.add([Path::new("--ro-bind-try"), &folder, &folder]),
            }
        }
        for folder in &config.share {
            arguments.add([Path::new("--ro-bind"), folder, folder]);
        }
        arguments.add(["--proc", "/proc", "--dev", "/dev"]);
        arguments.add(["--perms", "1777", "--tmpfs", "/tmp"]);
        if self.options.network {
            // Where the names of hosts are looked up: /etc/resolv.conf often points there.
            arguments.add([
                "--ro-bind-try",
                "/run/systemd/resolve",
                "/run/systemd/resolve",
            ]);
        }
        arguments.add([Path::new("--ro-bind"), &self.keeper.path, &self.keeper.path]);
        for mount in &self.mounts {
            let how = if mount.read_only {
                "--ro-bind"
            } else {
                "--bind"
            };
            arguments.add([Path::new(how), &mount.source, &mount.target]);
        }
        arguments.add([Path::new("--bind"), state, Path::new(STATE)]);
        arguments.add(["--remount-ro", "/", "--chdir", "/", "--clearenv"]);
        arguments.add(["--setenv", "PATH", PATH]);
        for (name, value) in &self.keeper.env {
            arguments.add(["--setenv", name, value]);
        }
        arguments.add(["--setenv", "BERTH_SESSION", &self.session_id]);
        arguments.add(["--setenv", "BERTH_STATE", STATE, "--"]);
        arguments.add([&self.keeper.path]);
        arguments.add(&self.keeper.args);
        arguments.0
    }
}

#[derive(Debug, Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add(&mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) {
        self.0.extend(arguments.into_iter().map(Into::into));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(options: Options, read_only: bool) -> String {
        let sandbox = Sandbox {
            session_id: "s".to_owned(),
            keeper: KeeperProgram {
                path: "/lib/berth-keeper".into(),
                args: vec!["run".to_owned()],
                ..KeeperProgram::default()
            },
            mounts: vec![Mount {
                source: "/data/work".into(),
                target: "/work".into(),
                read_only,
            }],
            options,
        };
        let arguments = sandbox.arguments(&Config::default(), Path::new("/data/state"));
        arguments.join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn a_session_has_the_network_that_it_asked_for() {
        assert!(arguments(Options::default(), false).contains(" --share-net "));
        assert!(!arguments(Options { network: false }, false).contains("--share-net"));
    }

    #[test]
    fn only_the_sessions_own_can_be_written() {
        let line = arguments(Options::default(), false);
        assert!(line.contains(" --bind /data/work /work "));
        assert_eq!(line.matches(" --bind ").count(), 2, "{line}");
        assert!(line.contains(" --remount-ro / "));
        assert!(arguments(Options::default(), true).contains(" --ro-bind /data/work /work "));
        assert!(line.ends_with(" -- /lib/berth-keeper run"));
    }
}
