//! What a restore does with what stands at its destination already.

/// What happens to what already has the name of something to restore.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Existing {
    /// It is replaced, unless it is a folder.
    #[default]
    Replace,
    /// It is kept, and the item counts as skipped.
    Skip,
    /// It is kept, and the item is an error.
    Fail,
}
