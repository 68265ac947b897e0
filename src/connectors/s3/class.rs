//! Storage classes: which must be retrieved before they are read, and what goes into which.

/// Classes whose objects must be retrieved before they can be read. The other "glacier", `GLACIER_IR`, is read at
/// once.
const COLD: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];
/// The class whose objects may move to tiers that must be retrieved, where the bucket is set up so.
const TIERING: &str = "INTELLIGENT_TIERING";

/// Returns whether objects of a class must be retrieved before they can be read.
pub(super) fn is_cold(class: &str) -> bool {
    COLD.contains(&class)
}

/// Returns whether an object of a class may have to be retrieved: whether asking for it is worth a request.
pub(super) fn may_be_cold(class: &str) -> bool {
    is_cold(class) || class == TIERING
}

/// What an object of a store is for, as far as its class depends on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Packfiles of file contents.
    Content,
    /// Packfiles of metadata, and states.
    Metadata,
    /// CONFIG and locks: small, and written again and again.
    Control,
}

/// Chooses the class of an object; `None` stands for the bucket's default, STANDARD.
///
/// Why: listing must never need a retrieval, so metadata leaves a class that is cold or may become so. In classes
/// that are read at once (`ONEZONE_IA`, `GLACIER_IR`…) metadata stays with the content: who chose the class chose its
/// price for reading. CONFIG and locks are always STANDARD: other classes bill months for what lives for minutes.
pub(super) fn choose<'a>(part: Part, class: Option<&'a str>, metadata: Option<&'a str>) -> Option<&'a str> {
    let chosen = match part {
        Part::Content => class,
        Part::Metadata => metadata.or_else(|| class.filter(|class| !may_be_cold(class))),
        Part::Control => None,
    };
    chosen.filter(|class| *class != "STANDARD")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_goes_where_reading_waits() {
        for class in ["GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING"] {
            assert_eq!(choose(Part::Content, Some(class), None), Some(class));
            assert_eq!(choose(Part::Metadata, Some(class), None), None);
            assert_eq!(choose(Part::Metadata, Some(class), Some("ONEZONE_IA")), Some("ONEZONE_IA"));
            assert_eq!(choose(Part::Control, Some(class), Some("ONEZONE_IA")), None);
        }
        for class in ["ONEZONE_IA", "GLACIER_IR"] {
            assert_eq!(choose(Part::Content, Some(class), None), Some(class));
            assert_eq!(choose(Part::Metadata, Some(class), None), Some(class));
            assert_eq!(choose(Part::Metadata, Some(class), Some("STANDARD")), None);
            assert_eq!(choose(Part::Control, Some(class), None), None);
        }
        assert_eq!(choose(Part::Content, Some("STANDARD"), None), None);
    }
}
