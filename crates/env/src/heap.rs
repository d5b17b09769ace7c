//! How the process' allocator gives memory back.

/// The size from which a piece of memory is mapped by itself, and goes back when it is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES: i32 = 1 << 20;
/// What may stay free at the end of a heap: to give back each bit costs as much as to clear it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FREE_BYTES: i32 = 8 << 20;

/// Keeps the heap near what is in use. To be called first thing in `main`.
///
/// glibc raises the size from which it maps memory each time such a piece is freed, up to 32 MiB;
/// what is smaller then comes from heaps, of which it makes eight a core, and leaves holes there
/// that are not given back. Here the size stays, and there is a heap for each core. Says whether
/// the allocator took it; elsewhere there is nothing to do.
pub fn keep_small() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let heaps = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
        glibc::set(glibc::M_MMAP_THRESHOLD, MAPPED_BYTES)
            && glibc::set(glibc::M_TRIM_THRESHOLD, FREE_BYTES)
            && glibc::set(glibc::M_ARENA_MAX, i32::try_from(heaps).unwrap_or(i32::MAX))
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    true
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the C library has no safe way to be told this")]
mod glibc {
    use std::ffi::c_int;

    /// From `malloc.h`.
    pub(super) const M_MMAP_THRESHOLD: c_int = -3;
    /// From `malloc.h`.
    pub(super) const M_TRIM_THRESHOLD: c_int = -1;
    /// From `malloc.h`.
    pub(super) const M_ARENA_MAX: c_int = -8;

    // SAFETY: the signature is that of `malloc.h` in every glibc. The function takes two numbers
    // by value, touches no memory of the caller, and may be called at any time by any thread
    // (mallopt(3): MT-Unsafe only in that it sets what others read, one word each). A number that
    // it does not know or like is refused with 0.
    unsafe extern "C" {
        safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }

    pub(super) fn set(parameter: c_int, value: c_int) -> bool {
        mallopt(parameter, value) == 1
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_freed_goes_back() {
        let resident_bytes = || {
            let text = std::fs::read_to_string("/proc/self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        assert!(keep_small());
        let before = resident_bytes();
        // A large piece that is freed would have raised the size from which others are mapped.
        drop(vec![1_u8; 24 << 20]);
        let mut kept = Vec::new();
        let pieces: Vec<Vec<u8>> = (0..24)
            .map(|_| {
                let piece = vec![1_u8; 5 << 20];
                // On top of each there is something that stays.
                kept.push(vec![1_u8; 1 << 10]);
                piece
            })
            .collect();
        assert!(resident_bytes() > before + (110 << 20));
        drop(pieces);
        assert!(resident_bytes() < before + (40 << 20), "{}", kept.len());
    }
}
