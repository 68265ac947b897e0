//! Floor 0: bytes <-> values of every record on disk. No I/O, clocks or randomness.
#![doc = include_str!("FORMAT.md")]

pub mod entry;
