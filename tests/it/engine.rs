//! The engine end to end, without the command line.
