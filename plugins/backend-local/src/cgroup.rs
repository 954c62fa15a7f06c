//! Control groups: what holds a session's processes together, whatever they do, and limits them.
//!
//! Version 2 is preferred, also beside version 1 (a "hybrid" machine): it kills a whole group at once. Of version 1, the
//! freezer or the pids controller hold processes, memory and cpu limit them. Groups stand as high up as we may write,
//! not below the server's own group: a service manager that ends the server's group must not end its sessions.

use crate::config::UseCgroups;
use crate::process::Stat;
use berth_plugin_api::doc::Resources;
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The period of a cpu quota, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
/// How often another group may be removed under our hands while we make ours below it.
const MAKE_ATTEMPTS: usize = 20;

/// Where groups can be made on this machine.
#[derive(Debug, Default)]
pub(crate) struct Hierarchies {
    /// Where the groups that hold processes are made.
    collector: Option<PathBuf>,
    /// Where the groups that limit are made: the same as the collector in version 2.
    limiters: BTreeMap<Limiter, PathBuf>,
    version: u8,
    /// The name of the group above all sessions' groups.
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Limiter {
    Memory,
    Cpu,
}

/// The groups of one session. Told to the place's record, so that they are found again whatever is configured later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Group {
    /// Holds every process of the session.
    pub(crate) collector: Option<PathBuf>,
    /// Hold limits alone (version 1).
    pub(crate) limiters: Vec<PathBuf>,
}

/// One line of `/proc/self/mountinfo` that mounts a cgroup hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct CgroupMount {
    root: PathBuf,
    point: PathBuf,
    version: u8,
    /// Super block options: the controllers, in version 1.
    options: Vec<String>,
}

impl Hierarchies {
    /// Looks what this machine has.
    pub(crate) fn find(wanted: UseCgroups, instance: &str) -> Self {
        if wanted == UseCgroups::Never {
            return Self::default();
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounts: Vec<CgroupMount> = mounts.lines().filter_map(parse_mount).collect();
        Self::among(&mounts, &own, instance, 2)
            .or_else(|| Self::among(&mounts, &own, instance, 1))
            .unwrap_or_default()
    }

    /// Takes the hierarchies of one version, if a session's processes can be held there.
    fn among(mounts: &[CgroupMount], own: &str, instance: &str, version: u8) -> Option<Self> {
        let with = |controller: &str| {
            mounts.iter().find(|mount| match version {
                2 => mount.version == 2,
                _ => mount.version == 1 && mount.options.iter().any(|option| option == controller),
            })
        };
        let collector = match version {
            2 => with("").and_then(|mount| highest_writable(mount, &own_group(mount, own, "")?)),
            _ => ["freezer", "pids"].into_iter().find_map(|controller| {
                let mount = with(controller)?;
                highest_writable(mount, &own_group(mount, own, controller)?)
            }),
        }?;
        let mut limiters = BTreeMap::new();
        for (limiter, controller) in [(Limiter::Memory, "memory"), (Limiter::Cpu, "cpu")] {
            if version == 2 && has_controller(&collector, controller) {
                limiters.insert(limiter, collector.clone());
                continue;
            }
            // Below our own group: what limits the server limits its sessions too.
            let group = mounts
                .iter()
                .find(|mount| {
                    mount.version == 1 && mount.options.iter().any(|option| option == controller)
                })
                .and_then(|mount| own_group(mount, own, controller))
                .filter(|group| is_writable(group));
            if let Some(group) = group {
                limiters.insert(limiter, group);
            }
        }
        let safe: String = instance
            .chars()
            .filter(|character| character.is_ascii_alphanumeric() || *character == '-')
            .collect();
        Some(Self {
            collector: Some(collector),
            limiters,
            version,
            name: format!("berth-{safe}"),
        })
    }

    /// What of these limits cannot be kept here, in sentences.
    pub(crate) fn warnings(&self, resources: &Resources) -> Vec<String> {
        let mut warnings = Vec::new();
        if resources.memory_bytes.is_some() && !self.limiters.contains_key(&Limiter::Memory) {
            warnings.push(
                "this machine cannot limit memory; resources.memory_bytes is ignored".to_owned(),
            );
        }
        if resources.cpu.is_some() && !self.limiters.contains_key(&Limiter::Cpu) {
            warnings
                .push("this machine cannot limit processors; resources.cpu is ignored".to_owned());
        }
        warnings
    }

    /// Makes the groups of a session and sets its limits. Where that fails the session runs without.
    pub(crate) fn prepare(&self, session_id: &str, resources: &Resources) -> Group {
        let mut group = Group::default();
        let Some(collector) = &self.collector else {
            return group;
        };
        match self.make(collector, session_id) {
            Ok(path) => group.collector = Some(path),
            Err(fault) => {
                tracing::warn!(session.id = session_id, %fault, "cannot make a control group; its processes are followed by descent");
                return group;
            }
        }
        for (limiter, parent) in &self.limiters {
            if let Err(fault) = self.limit(*limiter, parent, session_id, resources, &mut group) {
                tracing::warn!(session.id = session_id, %fault, ?limiter, "cannot set a limit; the session runs without");
            }
        }
        group
    }

    fn limit(
        &self,
        limiter: Limiter,
        parent: &Path,
        session_id: &str,
        resources: &Resources,
        group: &mut Group,
    ) -> io::Result<()> {
        let in_collector = Some(parent) == self.collector.as_deref();
        let wanted = match limiter {
            Limiter::Memory => resources.memory_bytes,
            Limiter::Cpu => resources.cpu.map(cpu_quota_us),
        };
        let Some(wanted) = wanted else {
            return Ok(());
        };
        if in_collector {
            let controller = match limiter {
                Limiter::Memory => "+memory",
                Limiter::Cpu => "+cpu",
            };
            fs::write(parent.join("cgroup.subtree_control"), controller)?;
            fs::write(
                parent.join(&self.name).join("cgroup.subtree_control"),
                controller,
            )?;
            let path = parent.join(&self.name).join(session_id);
            return match limiter {
                Limiter::Memory => fs::write(path.join("memory.max"), wanted.to_string()),
                Limiter::Cpu => {
                    fs::write(path.join("cpu.max"), format!("{wanted} {CPU_PERIOD_US}"))
                }
            };
        }
        let path = self.make(parent, session_id)?;
        if !group.limiters.contains(&path) {
            group.limiters.push(path.clone());
        }
        match limiter {
            Limiter::Memory => fs::write(path.join("memory.limit_in_bytes"), wanted.to_string()),
            Limiter::Cpu => {
                fs::write(path.join("cpu.cfs_period_us"), CPU_PERIOD_US.to_string())?;
                fs::write(path.join("cpu.cfs_quota_us"), wanted.to_string())
            }
        }
    }

    fn make(&self, parent: &Path, session_id: &str) -> io::Result<PathBuf> {
        let path = parent.join(&self.name).join(session_id);
        let mut attempt = 0;
        loop {
            attempt += 1;
            match fs::create_dir_all(&path) {
                // The group above goes with its last session, which may be just now.
                Err(fault)
                    if fault.kind() == io::ErrorKind::NotFound && attempt < MAKE_ATTEMPTS => {}
                other => return other.map(|()| path),
            }
        }
    }
}

impl fmt::Display for Hierarchies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.collector {
            Some(path) => write!(
                f,
                "held together by a control group of their own (version {}, below {})",
                self.version,
                path.display()
            ),
            None => {
                f.write_str("followed by descent and environment: control groups cannot be written")
            }
        }
    }
}

impl Group {
    /// The files by which a process joins.
    pub(crate) fn doors(&self) -> io::Result<Vec<File>> {
        self.collector
            .iter()
            .chain(&self.limiters)
            .map(|path| {
                OpenOptions::new()
                    .write(true)
                    .open(path.join("cgroup.procs"))
            })
            .collect()
    }

    /// Kills every process in it and waits until none is left.
    ///
    /// # Errors
    /// What is left after `limit`.
    pub(crate) fn kill(&self, limit: Duration) -> Result<(), Vec<i32>> {
        let Some(path) = &self.collector else {
            return Ok(());
        };
        let since = Instant::now();
        let mut pause = Duration::from_micros(500);
        loop {
            let members = members(path);
            if members.is_empty() {
                return Ok(());
            }
            if since.elapsed() > limit {
                return Err(members);
            }
            if fs::write(path.join("cgroup.kill"), "1").is_err() {
                kill_each(path, &members);
            }
            sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Whether the kernel killed one of its processes for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        let counted = |path: &Path| {
            ["memory.events", "memory.oom_control"].iter().any(|file| {
                fs::read_to_string(path.join(file)).is_ok_and(|text| {
                    text.lines()
                        .filter_map(|line| line.strip_prefix("oom_kill "))
                        .any(|count| count.trim() != "0")
                })
            })
        };
        self.collector
            .iter()
            .chain(&self.limiters)
            .any(|path| counted(path))
    }

    /// Removes the groups, which must be empty.
    pub(crate) fn remove(&self) {
        for path in self.collector.iter().chain(&self.limiters) {
            if let Err(fault) = remove_tree(path)
                && fault.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %fault, "cannot remove a control group");
            }
            // Succeeds with the last session only.
            if let Some(above) = path.parent() {
                let _ = fs::remove_dir(above);
            }
        }
    }
}

/// Version 1 has no kill: stop the group from growing, then kill one by one.
fn kill_each(path: &Path, members: &[i32]) {
    let frozen = fs::write(path.join("freezer.state"), "FROZEN").is_ok();
    let _ = fs::write(path.join("pids.max"), "0");
    for pid in members {
        if let Some(stat) = Stat::of(*pid) {
            let _ = stat.process.signal(Signal::SIGKILL);
        }
    }
    if frozen {
        // Frozen processes end only when they go on.
        let _ = fs::write(path.join("freezer.state"), "THAWED");
    }
}

/// The processes of a group and of the groups that its processes made below it.
fn members(path: &Path) -> Vec<i32> {
    let mut found: Vec<i32> = fs::read_to_string(path.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    for below in folders(path) {
        found.extend(members(&below));
    }
    found
}

fn remove_tree(path: &Path) -> io::Result<()> {
    for below in folders(path) {
        remove_tree(&below)?;
    }
    // A group stays busy for a moment after its last process has ended.
    let since = Instant::now();
    loop {
        match fs::remove_dir(path) {
            Err(fault)
                if fault.kind() == io::ErrorKind::ResourceBusy
                    && since.elapsed() < Duration::from_secs(2) =>
            {
                sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn parse_mount(line: &str) -> Option<CgroupMount> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let version = match file_system.next()? {
        "cgroup2" => 2,
        "cgroup" => 1,
        _ => return None,
    };
    let options = file_system.nth(1).unwrap_or_default();
    Some(CgroupMount {
        root: PathBuf::from(root),
        point: PathBuf::from(point),
        version,
        options: options.split(',').map(str::to_owned).collect(),
    })
}

/// The folder of our own group in a mounted hierarchy; `None` where the mount does not show it.
fn own_group(mount: &CgroupMount, own: &str, controller: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let ours = match mount.version {
            2 => controllers.is_empty(),
            _ => controllers.split(',').any(|name| name == controller),
        };
        ours.then_some(path)
    })?;
    let below = Path::new(path).strip_prefix(&mount.root).ok()?;
    Some(mount.point.join(below))
}

fn highest_writable(mount: &CgroupMount, own: &Path) -> Option<PathBuf> {
    let candidates: Vec<&Path> = own
        .ancestors()
        .take_while(|path| path.starts_with(&mount.point))
        .collect();
    candidates
        .into_iter()
        .rev()
        .find(|path| is_writable(path))
        .map(Path::to_owned)
}

fn is_writable(group: &Path) -> bool {
    access(group, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
        && access(&group.join("cgroup.procs"), AccessFlags::W_OK).is_ok()
}

fn has_controller(group: &Path, controller: &str) -> bool {
    fs::read_to_string(group.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_ascii_whitespace().any(|name| name == controller))
}

fn cpu_quota_us(cpu: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "clamped to what the kernel takes, well inside the whole numbers of a float"
    )]
    let quota = (cpu * CPU_PERIOD_US as f64).clamp(1_000.0, 1e12) as u64;
    quota
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The hierarchies of version 1, on machines that have them.
    pub(crate) fn version_1(instance: &str) -> Option<Hierarchies> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let mounts: Vec<CgroupMount> = mounts.lines().filter_map(parse_mount).collect();
        Hierarchies::among(&mounts, &own, instance, 1)
    }

    #[test]
    fn mounts_are_read() {
        assert_eq!(
            parse_mount(
                "35 25 0:30 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw"
            ),
            Some(CgroupMount {
                root: "/".into(),
                point: "/sys/fs/cgroup/unified".into(),
                version: 2,
                options: vec!["rw".to_owned()],
            })
        );
        let memory =
            parse_mount("36 25 0:31 /a /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory")
                .unwrap();
        assert_eq!((memory.version, memory.options[1].as_str()), (1, "memory"));
        let own = "4:memory:/a/b\n0::/\n";
        assert_eq!(
            own_group(&memory, own, "memory"),
            Some("/sys/fs/cgroup/memory/b".into())
        );
        assert_eq!(own_group(&memory, "4:memory:/\n", "memory"), None);
        assert_eq!(parse_mount("22 1 0:20 / /proc rw - proc proc rw"), None);
    }

    #[test]
    fn a_quota_is_what_the_kernel_takes() {
        for (cpu, quota) in [
            (1.5, 150_000),
            (0.0, 1_000),
            (-1.0, 1_000),
            (f64::MAX, 1_000_000_000_000),
        ] {
            assert_eq!(cpu_quota_us(cpu), quota);
        }
    }
}
