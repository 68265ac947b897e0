//! Floor 4: the command line.
//!
//! [`main`] is the whole program: it normalises the arguments ([`argv`]), parses them with the definitions of
//! [`commands`], gathers flags, environment and configuration in a [`context::Context`], runs the command and turns
//! what comes back into an exit code ([`error`]). What a command needs from the engine it asks of the lower floors;
//! nothing here is needed by a user of the library.

mod algorithms;
mod argv;
mod commands;
mod configuration;
mod context;
mod dates;
mod entries;
mod environment;
mod error;
mod failures;
mod globals;
mod help;
mod labels;
mod lock_wait;
mod option_tables;
mod passphrase;
mod places;
mod quantity;
mod query;
mod report;
mod retention;
mod retrieval;
mod run;
mod shells;
mod snapshots;
mod stores;
mod suggest;
mod surroundings;
mod synonyms;
mod trace;

pub use run::main;
