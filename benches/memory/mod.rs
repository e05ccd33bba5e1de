//! How much memory a benchmark took.

/// The largest resident size of this process so far, in MB; none where the system does not tell.
pub fn peak_megabytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().split(' ').next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024 / 1_000_000)
}
