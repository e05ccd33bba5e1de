//! The memory use of a benchmark.

/// The peak resident size of this process so far, in MB; `None` if the system does not report it.
pub fn peak_megabytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().split(' ').next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024 / 1_000_000)
}
