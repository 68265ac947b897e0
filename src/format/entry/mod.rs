//! Entries of the file system view (blob type 12), their `FileInfo` and mode bits.

mod codec;
mod mode;
mod types;

pub use mode::Mode;
pub use types::{
    Classification, CustomMetadata, Entry, Extra, FileInfo, MARKED_DEVICE, Score, marked_device,
};
