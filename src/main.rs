//! The `plakar` program.
fn main() {}
