//! Randomness from the operating system.
//!
//! Why a buffer: a small blob needs 32 random bytes, and a system call for each costs about as much as sealing
//! the blob. [`array()`] therefore hands out bytes of a block of 4 KiB that every thread draws for itself.
//!
//! Why that is safe: every byte is handed out once, in order, and wiped from the block as it leaves; the block
//! is private to its thread, so no two threads can see the same byte, and it goes away with the thread.
//! A copy of the process would repeat its bytes, but this program never goes on in a forked child: children
//! execute another program at once. Should a whole virtual machine be copied with its memory, then the native
//! cipher still does not repeat a nonce for two different items, because the item's name enters the nonce
//! (FORMAT.md, native profile, framing).

use std::cell::RefCell;

use zeroize::Zeroize;

/// The size of a thread's block in bytes.
const BLOCK: usize = 4096;

struct Block {
    bytes: [u8; BLOCK],
    used: usize,
}

impl Drop for Block {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

thread_local! {
    static POOL: RefCell<Block> = const { RefCell::new(Block { bytes: [0; BLOCK], used: BLOCK }) };
}

/// Fills a buffer straight from the operating system. For keys.
///
/// # Panics
///
/// When the operating system has no randomness to give. There is no way to go on safely without, and no
/// supported system refuses once it has booted.
pub fn fill(out: &mut [u8]) {
    getrandom::fill(out).expect("the operating system gives randomness");
}

/// Returns random bytes out of this thread's block. For nonces, salts, identifiers and one-time subkeys.
///
/// # Panics
///
/// As [`fill`].
pub fn array<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    if N > BLOCK / 4 {
        fill(&mut out);
        return out;
    }
    POOL.with_borrow_mut(|pool| {
        if pool.used + N > BLOCK {
            fill(&mut pool.bytes);
            pool.used = 0;
        }
        let taken = &mut pool.bytes[pool.used..pool.used + N];
        out.copy_from_slice(taken);
        taken.zeroize();
        pool.used += N;
    });
    out
}

/// Returns `len` random bytes, for padding.
pub fn bytes(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    fill(&mut out);
    out
}

/// Returns a random identifier.
pub fn id() -> crate::base::Id {
    crate::base::Id(array())
}

/// Returns a number below `bound` (which is at least 1), every one as likely up to one part in 2^64.
pub fn below(bound: u64) -> u64 {
    let wide = u128::from(u64::from_le_bytes(array())) * u128::from(bound.max(1));
    u64::try_from(wide >> 64).expect("the high half of a product")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_is_handed_out_twice_within_or_across_threads() {
        let draw = || (0..1000).map(|_| array::<32>()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(draw)).collect();
        let all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4000);
        assert!(!all.contains(&[0; 32]));
    }

    #[test]
    fn handed_out_bytes_are_wiped() {
        let _: [u8; 100] = array();
        POOL.with_borrow(|pool| assert!(pool.bytes[..pool.used].iter().all(|&byte| byte == 0)));
    }

    #[test]
    fn large_requests_bypass_the_block() {
        let big: [u8; 5000] = array();
        assert!(big.windows(16).all(|window| window != [0; 16]));
    }
}
