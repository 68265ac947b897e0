//! The fuzz targets' seeds and findings, replayed as an ordinary test.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere, helpers included")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use plakar::format::fuzzing::TARGETS;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Returns the names in a folder, without their extension; none where there is no folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let Ok(listing) = fs::read_dir(folder) else { return BTreeSet::new() };
    listing.map(|item| item.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn targets() -> BTreeSet<String> {
    TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect()
}

#[test]
fn every_target_has_a_program_and_seeds() {
    assert_eq!(names(&fuzz().join("fuzz_targets")), targets());
    assert_eq!(names(&fuzz().join("corpus")), targets());
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for target in targets() {
        assert!(
            manifest.contains(&format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"")),
            "{target}"
        );
        assert!(!names(&fuzz().join("corpus").join(&target)).is_empty(), "{target}");
    }
    assert!(names(&fuzz().join("crashes")).is_subset(&targets()));
}

#[test]
fn seeds_and_findings_break_no_promise() {
    for (name, target) in TARGETS {
        for folder in ["corpus", "crashes"] {
            let Ok(listing) = fs::read_dir(fuzz().join(folder).join(name)) else { continue };
            for file in listing {
                let file = file.unwrap().path();
                let data = fs::read(&file).unwrap();
                println!("{}", file.display());
                target(&data);
            }
        }
    }
}

/// Spoils every seed in many small ways: decoders must survive all of them.
#[test]
fn spoiled_seeds_break_no_promise() {
    for (name, target) in TARGETS {
        for file in fs::read_dir(fuzz().join("corpus").join(name)).unwrap() {
            let file = file.unwrap().path();
            let seed = fs::read(&file).unwrap();
            // Long seeds are spoiled at some places only, so that the test stays quick.
            let step = 1 + seed.len() / 120;
            for at in (0..seed.len()).step_by(step) {
                target(&seed[..at]);
                for byte in
                    [0x00, 0x01, 0x7f, 0x80, 0xc0, 0xc1, 0xdd, 0xdf, 0xff, seed[at] ^ 0x01, seed[at] ^ 0x10]
                {
                    let mut spoiled = seed.clone();
                    spoiled[at] = byte;
                    target(&spoiled);
                }
                let mut longer = seed.clone();
                longer.insert(at, 0xc0);
                target(&longer);
            }
        }
    }
}
