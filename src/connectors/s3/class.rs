//! Storage classes: their names, which must be retrieved before they are read, and what goes into which.

use super::location::Endpoint;

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

/// Classes of AWS's, and by and large everyone's.
const KNOWN: [&str; 12] = [
    "STANDARD",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "GLACIER_IR",
    "DEEP_ARCHIVE",
    "EXPRESS_ONEZONE",
    "REDUCED_REDUNDANCY",
    "OUTPOSTS",
    "SNOW",
    "FSX_OPENZFS",
];
/// Scaleway's.
const SCALEWAY: [&str; 3] = ["STANDARD", "ONEZONE_IA", "GLACIER"];
/// A name this near to a known one is a slip.
const SLIP: usize = 2;

/// Reads the name of a class, in any case. A name that is a slip of a known one is refused with that one; any other is
/// taken, for providers have classes of their own ([`warning`] says so).
pub(super) fn parse(option: &str, text: &str) -> Result<String, String> {
    let class = text.to_ascii_uppercase();
    if KNOWN.contains(&class.as_str()) {
        return Ok(class);
    }
    let is_name =
        class.len() <= 64 && class.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_');
    let nearest = KNOWN.iter().map(|known| (strsim::damerau_levenshtein(known, &class), known)).min();
    match nearest {
        Some((distance, known)) if distance <= SLIP => {
            Err(format!("{option}: there is no class {class} (did you mean {known}?)"))
        }
        _ if !is_name => Err(format!("{option} is a name like {}, not {text}", KNOWN[..7].join(", "))),
        _ => Ok(class),
    }
}

/// Returns what to say about a class that may not exist at a server.
pub(super) fn warning(class: &str, endpoint: &Endpoint) -> Option<String> {
    if endpoint.is_scaleway() && !SCALEWAY.contains(&class) {
        return Some(format!("storage class {class}: Scaleway has {} only", SCALEWAY.join(", ")));
    }
    (!KNOWN.contains(&class)).then(|| {
        format!(
            "storage class {class} is not one that is known here; the server will say if it has no such class"
        )
    })
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

    #[test]
    fn known_classes_slips_and_strangers() {
        for class in KNOWN {
            assert_eq!(parse("storage_class", &class.to_lowercase()).as_deref(), Ok(class));
        }
        for (slip, meant) in [
            ("GLACER", "GLACIER"),
            ("STANDARD-IA", "STANDARD_IA"),
            ("a b", "not a b"),
            ("standart_ia", "STANDARD_IA"),
        ] {
            let told = parse("storage_class", slip).unwrap_err();
            assert!(told.contains(meant), "{told}");
        }
        assert_eq!(parse("storage_class", "HIGH_PERF").as_deref(), Ok("HIGH_PERF"));
        assert!(parse("storage_class", "GLACIER\r\nx: y").is_err());
    }

    #[test]
    fn strangers_are_warned_of() {
        let at = |class: &str, host: &str| warning(class, &Endpoint::parse(host).unwrap());
        assert_eq!(at("STANDARD_IA", "s3.amazonaws.com"), None);
        assert!(at("HIGH_PERF", "s3.example.net").is_some());
        assert_eq!(at("GLACIER", "s3.fr-par.scw.cloud"), None);
        assert!(at("DEEP_ARCHIVE", "s3.fr-par.scw.cloud").unwrap().contains("ONEZONE_IA"));
    }
}
