//! Which key is which resource.

use crate::base::Id;
use crate::connector::Kind;

/// Returns the name of a resource below the store's prefix.
pub(super) fn name_of(kind: Kind, id: Id) -> String {
    let hex = id.to_hex();
    match kind {
        Kind::Packfile | Kind::State => format!("{}/{}/{hex}", kind.folder(), &hex[..2]),
        Kind::Lock => format!("{}/{hex}", kind.folder()),
    }
}

/// Reads a resource's id off what follows its folder; `None` for a foreign name.
pub(super) fn parse_name(kind: Kind, rest: &[u8]) -> Option<Id> {
    let name = match kind {
        Kind::Packfile | Kind::State => {
            let (fan, name) = (rest.get(..2)?, rest.get(3..)?);
            (rest[2] == b'/' && name.starts_with(fan)).then_some(name)?
        }
        Kind::Lock => rest,
    };
    Id::from_hex(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_another_shape_are_foreign() {
        let id = Id([0xab; 32]);
        let hex = id.to_hex();
        assert_eq!(parse_name(Kind::State, format!("ab/{hex}").as_bytes()), Some(id));
        assert_eq!(parse_name(Kind::Lock, hex.as_bytes()), Some(id));
        for name in ["", "a", "ab/", "ac/", "README", "ab/README"] {
            assert_eq!(parse_name(Kind::Packfile, name.as_bytes()), None, "{name}");
        }
        assert_eq!(parse_name(Kind::Packfile, format!("cd/{hex}").as_bytes()), None);
        assert_eq!(parse_name(Kind::Packfile, format!("ab/{hex}.tmp").as_bytes()), None);
    }
}
