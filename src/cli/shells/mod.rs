//! Completions for shells and manual pages, made from the definitions of commands and flags.
//!
//! Why not a crate that does it: flags here take one dash or two, people of Plakar write one, and what such crates
//! make knows only two.

mod bash;
mod facts;
mod fish;
mod man;
mod scan;
mod zsh;

pub(super) use bash::script as bash;
pub(super) use fish::script as fish;
pub(super) use man::pages;
pub(super) use zsh::script as zsh;
