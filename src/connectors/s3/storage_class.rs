//! Names of storage classes (what follows from a class stands in [`class`](super::class)).

use super::location::Endpoint;

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
