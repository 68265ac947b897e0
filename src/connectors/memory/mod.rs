//! Stores for tests: one in memory, and a decorator that makes any store fail on schedule.

mod faulty;
mod store;

pub use faulty::{Counted, Faulty};
pub use store::MemoryStore;
