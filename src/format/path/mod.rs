//! Paths of the file system view: joining, the rules that names obey, the two orders of trees, and the rule that
//! turns the segments of S3 keys into names and back.

mod rules;
mod segment;

pub use rules::{
    check_child, check_entry, check_name, compare_bytes, compare_path_order, depth, is_clean, join, name,
    parent,
};
pub use segment::{
    VERSIONS_FOLDER, escape_collision, escape_key, escape_segment, key_path, needs_escape, unescape_key,
    unescape_segment,
};
