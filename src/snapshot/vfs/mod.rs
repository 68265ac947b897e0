//! The file system view of a snapshot: building it from entries in any order, and reading it.

pub mod build;
pub mod read;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod upstream_tests;
