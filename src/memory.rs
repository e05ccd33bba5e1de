//! Checks of available memory before large allocations, since an allocation that fails ends the program.

use crate::error::{Error, Result};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests of fewer bytes in total are granted without a check. A check keeps this many bytes in reserve.
const SMALL: u64 = 1 << 26;

/// Checks that `bytes` more are available for `what`.
///
/// # Errors
/// Less memory is available.
pub fn check(what: &str, bytes: u64) -> Result<()> {
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let asked = ASKED.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    if asked < SMALL {
        return Ok(());
    }
    ASKED.store(0, Ordering::Relaxed);
    match available() {
        Some(there) if there < bytes.saturating_add(SMALL) => {
            let [bytes, there] = [bytes, there.saturating_sub(SMALL)]
                .map(|bytes| (bytes as f64 / f64::from(1u32 << 20)).round());
            let expected = format!("at most the {there} MiB of available memory");
            Err(Error::invalid(what, expected, format!("{bytes} MiB")))
        }
        _ => Ok(()),
    }
}

/// The bytes that this process can still allocate: the least that the machine, the limits of the process (`ulimit -v`,
/// `ulimit -d`) and its control groups leave. `None` on systems without /proc.
pub fn available() -> Option<u64> {
    let kib = |path: &str, name: &str| field(Path::new(path), name).map(|kib| kib * 1024);
    let machine = kib("/proc/meminfo", "MemAvailable:")?;
    let of_process = |limit: &str, used: &str| {
        let most = field(Path::new("/proc/self/limits"), limit)?;
        Some(most.saturating_sub(kib("/proc/self/status", used).unwrap_or_default()))
    };
    let limits = [of_process("Max address space", "VmSize:"), of_process("Max data size", "VmData:")];
    Some(limits.into_iter().flatten().chain(groups()).fold(machine, u64::min))
}

/// The bytes that this process's control groups (v1 or v2) still allow. Memory that caches files counts as free.
fn groups() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let of = |start: &str, root: &str, [most, used, cached]: [&str; 3]| {
        let own = own.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(start))?;
        let left = |folder: &Path| {
            let folder = Path::new(root).join(folder);
            let number = |name: &str| field(&folder.join(name), "");
            let files = field(&folder.join("memory.stat"), cached).unwrap_or_default();
            Some(number(most)?.saturating_sub(number(used)?.saturating_sub(files)))
        };
        Path::new(own).ancestors().filter_map(left).min()
    };
    let second = of(":/", "/sys/fs/cgroup", ["memory.max", "memory.current", "inactive_file "]);
    let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "];
    let first = of("memory:/", "/sys/fs/cgroup/memory", names);
    second.into_iter().chain(first).min()
}

/// The number after `name` at the start of a line of a file.
fn field(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn available_memory_is_known_and_limits_requests() {
        let there = available().unwrap();
        assert!((1 << 20..1 << 50).contains(&there), "{there}");
        assert!(check("a tensor", 1 << 20).is_ok());
        let error = check("a tensor", 1 << 60).unwrap_err().to_string();
        assert!(
            error.contains("a tensor: expected at most the ") && error.contains("got 1099511627776 MiB"),
            "{error}"
        );
    }
}
