//! Floor 4: a small HTTP/1.1 server, and what it serves.
//!
//! [`Server`] accepts connections, reads requests and writes responses; what they mean is decided by one function,
//! the [`Handler`], that gets a [`Request`] with its [`Body`] and returns a [`Response`]. Nothing in it knows what is
//! served. [`StoreService`] is the handler of `plakar server`: the http store protocol.
//!
//! **Threads.** One for each connection, up to a limit. Whoever comes when it is reached takes the place of the
//! connection that has been idle the longest, or is told to come back.
//!
//! **Time.** A head has to arrive within a fixed time, whatever dribbles in; a body and an answer have to move at a
//! least rate, counted over the time spent waiting for the other side only. So nobody holds a thread for nothing.
//!
//! **Strictness.** What could mean one thing to a proxy and another here is refused: two lengths, a length beside
//! chunks, folded headers. Heads are bounded in bytes and in number of headers, bodies by the handler.

mod body;
mod connection;
mod head;
mod message;
mod pace;
mod server;
mod store;
mod tls;
mod token;

pub use body::Body;
pub use message::{Content, Refusal, Request, Response, Writer};
pub use server::{Access, Handler, Log, Server, Settings};
pub use store::{Rights, StoreService, Troubles};
pub use tls::{TlsError, identity};
pub use token::{Token, TokenError};
