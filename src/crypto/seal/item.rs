//! The name of what is sealed.

use crate::base::Id;

const CONFIG: u8 = 1;
const LOCK: u8 = 2;
const STATE: u8 = 3;
const PACKFILE: u8 = 4;

/// Names what is sealed: the native cipher binds it into every segment and chooses the key by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Item {
    /// Resource or blob type (FORMAT.md, resource types).
    pub kind: u8,
    /// 0, or which part of the resource: 1 packfile index, 2 packfile footer, 3 canary; 1 to 3 the
    /// parts of a quick index.
    pub part: u8,
    /// The identifier under which a reader looks the item up; zero where it has none.
    pub id: Id,
}

impl Item {
    /// A blob of a packfile, by its type and identifier.
    pub const fn blob(kind: u8, id: Id) -> Self {
        Self { kind, part: 0, id }
    }

    /// A state, by its file name; in a ptar by the fixed identifier.
    pub const fn state(name: Id) -> Self {
        Self { kind: STATE, part: 0, id: name }
    }

    /// A part of the quick index that stands at the end of an archive's state, by the fixed identifier of that state.
    pub const fn quick(part: u8, name: Id) -> Self {
        Self { kind: STATE, part, id: name }
    }

    /// A lock, by its file name.
    pub const fn lock(name: Id) -> Self {
        Self { kind: LOCK, part: 0, id: name }
    }

    /// The index of a packfile.
    pub const fn index() -> Self {
        Self { kind: PACKFILE, part: 1, id: Id::ZERO }
    }

    /// The footer of a packfile.
    pub const fn footer() -> Self {
        Self { kind: PACKFILE, part: 2, id: Id::ZERO }
    }

    /// The canary of a configuration.
    pub const fn canary() -> Self {
        Self { kind: CONFIG, part: 3, id: Id::ZERO }
    }

    /// Returns whether this is metadata of the repository, as opposed to a blob that may be copied elsewhere.
    pub(super) const fn is_meta(self) -> bool {
        self.kind <= PACKFILE
    }

    /// u32le type ‖ u8 part ‖ id.
    pub(super) fn associated_data(self) -> [u8; 37] {
        let mut out = [0; 37];
        out[0] = self.kind;
        out[4] = self.part;
        out[5..].copy_from_slice(self.id.as_bytes());
        out
    }
}
