//! Whether a bucket answers.

use std::ops::ControlFlow;

use super::client::Client;
use super::options::Options;
use crate::connector::Result;

/// Asks a bucket for the first key of a location, with one request. Returns whether the key that asks may list; where
/// `must_list`, not being allowed to is an error, as everything else is.
pub fn reach(options: Options, must_list: bool) -> Result<bool> {
    let client = Client::new(options)?;
    let prefix = client.options().location.prefix.clone();
    match client.list(prefix.as_bytes(), Some(1), &mut |_| ControlFlow::Break(())) {
        Ok(()) => Ok(true),
        Err(failure) if !must_list && failure.status == 403 && failure.is("AccessDenied") => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

/// Returns whether the bucket of a location is there and may be seen; an error when it cannot be known.
pub fn bucket_exists(options: Options) -> Result<bool> {
    Ok(Client::new(options)?.bucket_exists()?)
}
