//! Integration tests.
#[cfg(test)]
mod s3_bed;
#[cfg(test)]
mod s3_store;
#[cfg(test)]
mod s3server;
