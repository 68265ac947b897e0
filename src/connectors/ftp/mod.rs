//! Servers reached by FTP, plain or over TLS (RFC 959, 2228, 2428, 3659, 4217).
//!
//! Passive mode, binary, several control connections. TLS is used where the server offers it (`tls=auto`), always
//! (`ftps://…`, `tls=explicit`, `tls=implicit`) or never (`tls=off`); certificates are checked. Data connections go to
//! the server's own address, whatever address it names.
//!
//! Names travel as bytes. Names with a line break or a NUL cannot be said in FTP and are refused.
//!
//! - Folders are listed with MLSD where the server has it: times in seconds, in UTC, and exact names. Else with LIST,
//!   whose times have minutes or days and no time zone: what was modified within two days of a run is read again by the
//!   next. A listing that the server says it cut short is an error, and so is a name that it does not keep.
//! - A download that breaks off goes on where it stopped, once, if the server's MDTM says that the file is the same.
//! - A restore writes under temporary names and renames. FTP has no owners, no links and no folders that only their
//!   owner may enter; modes and times are set where the server has `SITE CHMOD`, `MFMT` or the `MDTM` that sets.

mod client;
mod exporter;
mod importer;
mod listing;
mod options;
mod session;
mod sockets;
mod tls;
mod unix;

#[cfg(test)]
mod tests;

pub use exporter::open_exporter;
pub use importer::FtpImporter;
pub use options::{Options, Tls};
