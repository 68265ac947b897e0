//! Archives of our own making: what the formats allow, and what they do not.

use std::io::{Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::Path;

use super::{ImportOptions, TarImporter};
use crate::connector::{Error, ErrorKind, Importer as _, Record};
use crate::format::entry::Mode;

/// A header block.
fn header(name: &str, kind: u8, size: u64, link: &str) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0001750");
    block[116..123].copy_from_slice(b"0001751");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"14500000000");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    sum(&mut block);
    block
}

fn sum(block: &mut [u8; 512]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn member(name: &str, kind: u8, content: &[u8], link: &str) -> Vec<u8> {
    [header(name, kind, content.len() as u64, link).to_vec(), padded(content)].concat()
}

fn file(name: &str, content: &str) -> Vec<u8> {
    member(name, b'0', content.as_bytes(), "")
}

const END: [u8; 1024] = [0; 1024];

/// What a scan of an archive finds, and the contents of its files: as it is, and compressed.
fn read(archive: &[u8]) -> Result<Vec<(Record, Vec<u8>)>, Error> {
    let plain = scan(archive);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(archive).unwrap();
    let spooled = scan(&gzip.finish().unwrap());
    let told = |found: &Result<Vec<(Record, Vec<u8>)>, Error>| match found {
        Ok(found) => found
            .iter()
            .map(|(record, content)| format!("{:?} {:?} {content:?}", record.path, record.info))
            .collect(),
        Err(error) => vec![error.to_string()],
    };
    let strip = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().map(|line| line.split(" of its content").next().unwrap().to_owned()).collect()
    };
    let (one, two) = (strip(told(&plain)), strip(told(&spooled)));
    if plain.is_ok() || spooled.is_ok() {
        assert_eq!(one, two, "compression changes nothing");
    }
    plain
}

fn scan(bytes: &[u8]) -> Result<Vec<(Record, Vec<u8>)>, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    std::fs::write(&path, bytes).unwrap();
    scan_file(&path, &ImportOptions::default())
}

fn scan_file(path: &Path, options: &ImportOptions) -> Result<Vec<(Record, Vec<u8>)>, Error> {
    let importer = TarImporter::open(path, options)?;
    let mut records = Vec::new();
    importer.scan(&mut |record| {
        records.push(record);
        ControlFlow::Continue(())
    })?;
    let content = |record: Record| {
        let mut content = Vec::new();
        if record.info.as_ref().is_ok_and(|info| info.mode.is_regular()) {
            let mut opened = importer.open(&record).unwrap();
            opened.read_to_end(&mut content).unwrap();
            opened.finish().unwrap();
        }
        (record, content)
    };
    Ok(records.into_iter().map(content).collect())
}

/// Spells a tree: paths with contents, links with their text, errors with their words.
fn tree(archive: &[u8]) -> Vec<String> {
    let told = |(record, content): (Record, Vec<u8>)| {
        let path = record.path.lossy().into_owned();
        match (record.info, record.symlink_target) {
            (Err(error), _) => format!("! {error}"),
            (Ok(_), Some(target)) => format!("{path} -> {}", target.lossy()),
            (Ok(info), None) if info.mode.is_dir() => format!("{path}/"),
            (Ok(info), None) => {
                let link =
                    if info.links > 1 { format!(" #{} {}", info.inode, info.links) } else { String::new() };
                format!("{path} {}{link}", content.escape_ascii())
            }
        }
    };
    read(archive).unwrap().into_iter().map(told).collect()
}

#[test]
fn the_last_of_a_name_counts_and_links_keep_what_they_were_made_of() {
    let archive = [
        member("./", b'5', b"", ""),
        file("a", "one"),
        member("link", b'1', b"", "./a"),
        member("second", b'1', b"", "link"),
        file("./a", "two"),
        file("dir/../x", "out"),
        file("/abs//name", "absolute"),
        member("nowhere", b'1', b"", "later"),
        file("later", "late"),
        END.to_vec(),
        file("behind the end", "no"),
    ]
    .concat();
    assert_eq!(
        tree(&archive),
        [
            "! cannot back up \"dir/../x\" of the archive: its name leads out of the archive",
            "! cannot back up what follows the archive: it ends before byte 8192, where more stands: another archive is a \
             source of its own",
            "//",
            "/a two",
            "/abs/name absolute",
            "/later late",
            "/link one #2 3",
            "! cannot back up \"/nowhere\" of the archive: it is a link to \"/later\", which is not in front of it",
            "/second one #2 3",
        ]
        .map(str::to_owned)
    );
}

#[test]
fn everything_but_files_is_kept_as_what_it_is() {
    let archive = [
        member("sym", b'2', b"", "../over/there"),
        member("sym/below", b'0', b"x", ""),
        member("pipe", b'6', b"", ""),
        member("zero", b'3', b"", ""),
        member("disk", b'4', b"", ""),
        member("old folder/", b'0', b"", ""),
        member("contiguous", b'7', b"c", ""),
        member("odd", b'Q', b"q", ""),
        END.to_vec(),
    ]
    .concat();
    let found = read(&archive).unwrap();
    let mode = |path: &str| {
        let (record, _) = found.iter().find(|(record, _)| record.path == path).unwrap();
        record.info.as_ref().unwrap().mode
    };
    assert!(mode("/pipe").is_pipe() && mode("/zero").is_char_device() && mode("/disk").is_block_device());
    assert!(mode("/old folder").is_dir() && mode("/contiguous").is_regular() && mode("/odd").is_regular());
    assert_eq!(mode("/odd"), Mode::regular(0o644));
    let told = tree(&archive).join("\n");
    assert!(told.contains("/sym -> ../over/there"), "{told}");
    assert!(told.contains("! cannot back up \"/sym/below\" of the archive: \"/sym\" is no folder"), "{told}");
    let info = found[0].0.info.as_ref().unwrap();
    assert_eq!((info.uid, info.gid, info.modified.secs), (0o1750, 0o1751, 0o14_500_000_000));
}

#[test]
fn sparse_files_have_their_holes_back() {
    // The old GNU format: two parts in the header, a third in a block behind it.
    let mut first = header("old", b'S', 30, "");
    let put = |block: &mut [u8; 512], at: usize, number: u64| {
        block[at..at + 11].copy_from_slice(format!("{number:011o}").as_bytes());
    };
    for (at, (offset, length)) in (386..).step_by(24).zip([(10, 10), (1000, 10), (2000, 5), (3000, 5)]) {
        put(&mut first, at, offset);
        put(&mut first, at + 12, length);
    }
    first[482] = 1;
    put(&mut first, 483, 5000);
    let mut more = [0; 512];
    put(&mut more, 0, 5000);
    put(&mut more, 12, 0);
    sum(&mut first);
    let content = padded(b"AAAAAAAAAABBBBBBBBBBCCCCCDDDDD");
    let map = padded(b"1\n4\n3\n");
    let records =
        b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n25 GNU.sparse.name=newer\n25 GNU.sparse.realsize=9\n";
    let newer = member("GNUSparseFile.0/newer", b'0', &[map, b"xyz".to_vec()].concat(), "");
    let archive =
        [first.to_vec(), more.to_vec(), content, member("pax", b'x', records, ""), newer, END.to_vec()]
            .concat();
    let found = read(&archive).unwrap();
    let mut wanted = vec![0; 5000];
    for (at, part) in [(10, "AAAAAAAAAA"), (1000, "BBBBBBBBBB"), (2000, "CCCCC"), (3000, "DDDDD")] {
        wanted[at..at + part.len()].copy_from_slice(part.as_bytes());
    }
    assert_eq!((found[1].0.path.lossy().as_ref(), &found[1].1), ("/old", &wanted));
    assert_eq!((found[0].0.path.lossy().as_ref(), &found[0].1[..]), ("/newer", &b"\0\0\0\0xyz\0\0"[..]));
}

#[test]
fn what_follows_the_end_is_not_passed_over_in_silence() {
    let one = [file("a", "content"), END.to_vec(), vec![0; 9000]].concat();
    let two = [&one[..], &file("b", "more"), &END].concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&two).unwrap();
    for bytes in [two, gzip.finish().unwrap()] {
        let (file, options) = (tempfile::NamedTempFile::new().unwrap(), ImportOptions::default());
        std::fs::write(file.path(), bytes).unwrap();
        let mut records = Vec::new();
        let importer = TarImporter::open(file.path(), &options).unwrap();
        importer
            .scan(&mut |record| {
                records.push(record);
                ControlFlow::Continue(())
            })
            .unwrap();
        let refused: Vec<_> = records.iter().filter_map(|record| record.info.as_ref().err()).collect();
        let place = format!("it ends before byte {}", one.len());
        assert!(matches!(&refused[..], [only] if only.to_string().contains(&place)), "{refused:?}");
        assert!(records.iter().any(|record| &*record.path.lossy() == "/a"));
    }
}

#[test]
fn a_broken_archive_fails_with_the_place() {
    let whole = [file("a", "content"), file("b", "more"), END.to_vec()].concat();
    assert!(read(&whole).is_ok());
    assert!(read(&whole[..whole.len() - 512]).is_ok(), "one block of zeros is an end");
    // Wherever it breaks off, nothing looks whole.
    for length in [0, 1, 511, 512, 513, 600, 1023, 1024, 1536, 2048, 2049, 2560 - 513] {
        let error = read(&whole[..length]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Io, "{length}: {error}");
        assert!(error.to_string().contains("at byte "), "{length}: {error}");
    }
    let mut torn = whole.clone();
    torn[1024 + 3] ^= 1;
    assert!(read(&torn).unwrap_err().to_string().contains("checksum of a header is wrong, at byte 1536"));
    assert!(read(&[0; 10_240]).unwrap_err().to_string().contains("it holds no member"));
    assert!(read(&[7; 4096]).unwrap_err().to_string().contains("it is no tar archive"));
    assert!(read(&[&[0; 512][..], &whole].concat()).unwrap_err().to_string().contains("lone block of zeros"));
    let huge = [header("a", b'x', 1 << 32, "").to_vec(), END.to_vec()].concat();
    assert!(read(&huge).unwrap_err().to_string().contains("longer than 8 MiB"));
    let endless = [header("a", b'0', 0o77_777_777_777, "").to_vec(), END.to_vec()].concat();
    assert!(read(&endless).unwrap_err().to_string().contains("breaks off"));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&whole).unwrap();
    let gzip = gzip.finish().unwrap();
    assert!(scan(&gzip).is_ok());
    assert!(scan(&gzip[..gzip.len() - 9]).is_err(), "a compressed end is missed, too");
    let mut wrong = gzip.clone();
    let at = gzip.len() - 6;
    wrong[at] ^= 1;
    assert!(scan(&wrong).is_err(), "checksums of the compression count");
    let zstd = zstd::encode_all(&whole[..], 1).unwrap();
    assert!(scan(&zstd).is_ok() && scan(&zstd[..zstd.len() - 3]).is_err());
    assert!(scan(b"BZh91AY&SY").unwrap_err().to_string().contains("bzip2 -dc"));
}

#[test]
fn what_stands_before_a_member_is_bounded_as_a_whole() {
    let record = |key: &str, length: usize| {
        let text = format!("{key}={}", "v".repeat(length));
        let whole = text.len() + 2 + 7;
        format!("{whole:07} {text}\n").into_bytes()
    };
    let mebibyte = |kind| member("x", kind, &record("comment", (1 << 20) - 100), "");
    let scanned = |parts: &[Vec<u8>]| scan(&[parts.concat(), END.to_vec()].concat());
    for kind in [b'x', b'g', b'L'] {
        let seven = mebibyte(kind).repeat(7);
        let found = scanned(&[seven.clone(), file("a", "1"), seven, file("b", "2")]).unwrap();
        assert_eq!(found.len(), if kind == b'L' { 1 } else { 2 }, "each member may have as many");
        let error = scanned(&[mebibyte(kind).repeat(9), file("a", "1")]).unwrap_err().to_string();
        assert!(error.contains("longer than 8 MiB, at byte 8"), "{error}");
    }
    // What holds for every member is copied for each: little of it is taken.
    let global = |n: usize| member("g", b'g', &record(&format!("SCHILY.xattr.user.{n}"), 20_000), "");
    let again: Vec<u8> = (0..100).flat_map(|_| [global(1), file("a", "1")].concat()).collect();
    assert_eq!(scanned(&[global(1), global(2), global(3), again]).unwrap().len(), 1);
    let error = scanned(&[global(1), file("a", "1"), global(2), global(3), global(4)]).unwrap_err();
    assert!(error.to_string().contains("more than 64 KiB of every member, at byte 8"), "{error}");
    // Attributes come in as many headers as one likes.
    let some = |from: usize| -> Vec<u8> {
        let records = (from..from + 300).flat_map(|n| record(&format!("SCHILY.xattr.user.{n}"), 1));
        member("x", b'x', &records.collect::<Vec<_>>(), "")
    };
    assert!(scanned(&[some(0), some(300), some(600), file("a", "1")]).is_ok());
    let error = scanned(&[some(0), some(300), some(600), some(900), file("a", "1")]).unwrap_err();
    assert!(error.to_string().contains("more than 1024 extended attributes, at byte "), "{error}");
}

#[test]
fn patterns_leave_members_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    let archive = [file("keep/a", "1"), file("drop/b", "2"), file("keep/c.tmp", "3"), END.to_vec()].concat();
    std::fs::write(&path, archive).unwrap();
    let options =
        ImportOptions { excludes: vec!["*.tmp".into(), "/drop".into()], ..ImportOptions::default() };
    let found = scan_file(&path, &options).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.path, "/keep/a");
    assert!(TarImporter::open(Path::new("/nowhere/x.tar"), &options).is_err());
    assert!(TarImporter::open(folder.path(), &options).is_err());
}
