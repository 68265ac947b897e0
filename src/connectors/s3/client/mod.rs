//! The client of one endpoint and bucket: signs, sends, checks, tries again.
//!
//! Every request is a presigned URL that lives five minutes and is made anew for each attempt. Redirects are
//! never followed: an answer that names another region changes the region, once, and the host only where the
//! host is one of AWS's. What goes wrong is a `Failure` first, with all that a decision needs, and becomes a
//! [`crate::connector::Error`] where it leaves the connector.

mod acl;
mod advice;
mod agent;
mod body;
mod bucket;
mod dial;
mod failure;
mod gate;
mod last_words;
mod list;
mod lock;
mod multipart;
mod object;
mod pace;
mod retention;
mod retrieval;
mod retry;
mod send;
mod sign;
mod suffix;
mod versions;
mod xml;

pub(super) use acl::{Acl, Grantee};
pub(super) use agent::{agent, explain, roots};
pub(super) use failure::{Failure, Result, printable};
pub(super) use list::Listed;
pub(super) use lock::kept_until;
pub(super) use multipart::{Part, PartSizes};
pub(super) use object::{Condition, Download, FileRange, Put, Source, Stored, etag};
pub(super) use retention::Retention;
pub(super) use retrieval::readiness;
pub use send::Client;
pub(super) use send::Rewind;
pub(super) use sign::sign_post;
pub(super) use suffix::Suffix;
pub(super) use versions::Version;
pub(super) use xml::Element;
