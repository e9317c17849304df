//! The machine: what it is.

use std::env::consts;
use std::fs;

use serde::Serialize;

/// What was measured on, and what with.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The name that the CPU gives itself.
    pub cpu: String,
    /// Architecture, system and its kernel.
    pub system: String,
    /// The data caches that one core sees, the nearest first.
    pub caches: Vec<Cache>,
    /// The compiler of the kernels.
    pub compiler: &'static str,
    /// Cargo's profile, optimisation level, target, and the target features that scalar code may use.
    pub build: String,
}

/// A cache that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// 1 is the nearest.
    pub level: u8,
    /// Its size.
    pub bytes: usize,
}

impl Machine {
    /// This machine, and this build.
    pub fn here() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            cpu: cpu_name().unwrap_or_else(|| "unknown".into()),
            system: format!("{} {} {}", consts::ARCH, consts::OS, release.trim()).trim_end().into(),
            caches: caches(),
            compiler: env!("BUILT_WITH"),
            build: format!(
                "profile {}, opt-level {}, {} with {}",
                env!("BUILT_IN"),
                env!("BUILT_AT"),
                env!("BUILT_FOR"),
                env!("BUILT_USING")
            ),
        }
    }

    /// The nearest cache that is at least this large; `None` for memory.
    pub fn holder(&self, bytes: usize) -> Option<Cache> {
        self.caches.iter().copied().find(|cache| bytes <= cache.bytes)
    }
}

#[cfg(target_arch = "x86_64")]
fn cpu_name() -> Option<String> {
    let name = raw_cpuid::CpuId::new().get_processor_brand_string()?;
    Some(name.as_str().trim().to_owned()).filter(|name| !name.is_empty())
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_name() -> Option<String> {
    None
}

/// As the CPU tells them; none where it doesn't. In a virtual machine the last level may be the host's,
/// shared with others.
#[cfg(target_arch = "x86_64")]
pub(crate) fn caches() -> Vec<Cache> {
    use raw_cpuid::{CacheType, CpuId};

    let Some(parameters) = CpuId::new().get_cache_parameters() else { return Vec::new() };
    let mut caches: Vec<Cache> = parameters
        .filter(|cache| matches!(cache.cache_type(), CacheType::Data | CacheType::Unified))
        .map(|cache| Cache {
            level: cache.level(),
            bytes: cache.sets()
                * cache.associativity()
                * cache.coherency_line_size()
                * cache.physical_line_partitions(),
        })
        .collect();
    caches.sort_unstable_by_key(|cache| cache.level);
    caches
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn caches() -> Vec<Cache> {
    Vec::new()
}
