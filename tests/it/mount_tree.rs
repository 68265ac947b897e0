//! The file system of a mount, asked directly: what it answers, and what it holds meanwhile.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use plakar::base::Id;
use plakar::connectors::fs::FsStore;
use plakar::format::blob::BlobType;
use plakar::format::entry::{Entry, FileInfo, Mode};
use plakar::format::object::{ChunkRef, Object};
use plakar::format::snapshot::Source;
use plakar::mount::{Failure, FileKind, Listed, Listing, MountOptions, Shown, Tree};
use plakar::snapshot::tree::TreeShape;
use plakar::snapshot::vfs::build::{BuildOptions, VfsBuilder};
use plakar::snapshot::{Tally, list};
use plakar::store::blob::{BlobSink as _, BlobSource as _, Lane};
use plakar::store::{CheckpointPolicy, Repository, Writer};

use crate::cli::{User, packfiles};
use crate::interop::open_with;

const ROOT: u64 = 1;

fn user() -> User {
    let user = User::in_memory();
    let src = user.home().join("src");
    fs::create_dir_all(src.join("many")).unwrap();
    for n in 0..1300 {
        fs::write(src.join(format!("many/{n:04}")), format!("content {n}")).unwrap();
    }
    fs::write(src.join("file"), vec![7; 300_000]).unwrap();
    std::os::unix::fs::symlink("file", src.join("link")).unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    user
}

fn tree(user: &User, part: Option<&str>) -> (Tree, Arc<Tally>) {
    tree_within(user, part, 8 << 20)
}

/// Opens a view that keeps what it read within so many bytes.
fn tree_within(user: &User, part: Option<&str>, memory: u64) -> (Tree, Arc<Tally>) {
    let repository = open_with(Arc::new(FsStore::new(user.home().join("store"))), "");
    let shown = match part {
        None => Shown::Snapshots(Box::new(|all| all)),
        Some(part) => {
            let latest = list(&repository).0.pop().unwrap();
            let path = user.home().canonicalize().unwrap().join(part);
            Shown::Folder(Box::new(latest), path.to_str().unwrap().as_bytes().to_vec())
        }
    };
    let tally = Arc::new(Tally::default());
    let options = MountOptions { memory, owner: (12, 34), allow_other: false };
    (Tree::open(&repository, shown, &options, tally.clone()).unwrap(), tally)
}

/// Lists from a place on, at most so many.
fn names(tree: &Tree, listing: &Listing, from: u64, most: usize) -> (Vec<String>, u64) {
    let (mut names, mut at) = (Vec::new(), from);
    tree.list(listing, from, &mut |next, listed| {
        if names.len() == most {
            return ControlFlow::Break(());
        }
        at = next;
        names.push(listed.name.lossy().into_owned());
        ControlFlow::Continue(())
    })
    .unwrap();
    (names, at)
}

#[test]
fn folders_are_listed_in_pages_from_any_place() {
    let user = user();
    let (tree, tally) = tree(&user, Some("src"));
    let many = tree.look_up(ROOT, b"many").unwrap();
    assert_eq!(many.kind, FileKind::Folder);
    let listing = tree.open_folder(many.number).unwrap();
    let (mut all, mut at) = (Vec::new(), 0);
    loop {
        let (some, next) = names(&tree, &listing, at, 7);
        if some.is_empty() {
            break;
        }
        all.extend(some);
        at = next;
    }
    assert_eq!(at, 1300);
    assert_eq!(all, (0..1300).map(|n| format!("{n:04}")).collect::<Vec<_>>());
    // Back and forth, over the ends of pages and behind the end.
    for from in [1299, 511, 512, 513, 0, 1024, 1300, 5000] {
        let (some, _) = names(&tree, &listing, from, 3);
        let from = usize::try_from(from).unwrap();
        assert_eq!(some, all[from.min(1300)..(from + 3).min(1300)], "{from}");
    }
    assert_eq!(tree.held(), 1, "listing holds no numbers");
    let mut numbers = BTreeSet::new();
    tree.list(&listing, 0, &mut |_, listed| {
        numbers.insert(listed.attributes.number);
        let found = tree.look_up(many.number, &listed.name).unwrap();
        assert_eq!(found, listed.attributes);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!((numbers.len(), tree.held()), (1300, 1301));
    for number in numbers {
        tree.forget(number, 1);
        assert_eq!(tree.attributes(number), Err(Failure::Missing));
    }
    assert_eq!((tree.held(), tally.problems().len()), (1, 0));
}

/// Turns every bit of the packfiles, in place: nothing can be read until that is done once more.
fn flip(user: &User) {
    for path in packfiles(user.home().join("store")) {
        let bytes: Vec<u8> = fs::read(&path).unwrap().into_iter().map(|byte| !byte).collect();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        File::options().write(true).open(&path).unwrap().write_all(&bytes).unwrap();
    }
}

#[test]
fn a_listing_goes_on_where_the_store_failed_it() {
    let user = user();
    let (tree, tally) = tree_within(&user, Some("src"), 0);
    let many = tree.look_up(ROOT, b"many").unwrap();
    let listing = tree.open_folder(many.number).unwrap();
    let nothing = &mut |_: u64, _: &Listed| ControlFlow::Break(());
    for from in [0, 512, 1024] {
        // What stands in the page at hand is passed on; what would be behind it fails, and is not the end.
        flip(&user);
        if from > 0 {
            assert_eq!(names(&tree, &listing, from - 12, 2000), (numbered(from - 12..from), from));
        }
        for _ in 0..2 {
            assert_eq!(tree.list(&listing, from, nothing), Err(Failure::Store), "{from}");
        }
        flip(&user);
        assert_eq!(names(&tree, &listing, from, 1), (numbered(from..from + 1), from + 1));
    }
    assert_eq!(names(&tree, &listing, 1025, 2000), (numbered(1025..1300), 1300));
    assert_eq!(names(&tree, &listing, 1300, 2000), (Vec::new(), 1300));
    assert!(!tally.problems().is_empty());
}

/// Adds a snapshot of files at the top, each with one chunk, the same for all, and what its object says of the length.
pub(crate) fn lie(repository: &Arc<Repository>, chunk: &[u8], files: &[(&str, u32)]) -> Id {
    let mut header = list(repository).0.remove(0).header;
    let id = Id([0xcc; 32]);
    let writer = Writer::open(repository, id, CheckpointPolicy::default(), None).unwrap();
    let builder = VfsBuilder::new(BuildOptions {
        shape: TreeShape::ByContent,
        spills: repository.spills().clone(),
        memory: 1 << 20,
        missing_folder: FileInfo::new("", Mode::from_unix(0o040_755)),
    });
    let chunk = writer.put(BlobType::CHUNK, chunk, Lane::Data).unwrap();
    for (name, length) in files {
        let mut object = Object::new(chunk);
        object.chunks.push(ChunkRef::new(chunk, *length, 0.0));
        let mut info = FileInfo::new(*name, Mode::regular(0o644));
        info.size = i64::from(*length);
        let mut entry = Entry::new("/", info);
        entry.object = writer.put(BlobType::OBJECT, &object.encode(), Lane::Metadata).unwrap();
        builder.add_entry(&entry).unwrap();
    }
    let built = builder.finish(&writer).unwrap();
    let before = header.source().unwrap().clone();
    let (root, indexes, summary) = (built.roots, Some(built.indexes), built.summary);
    header.sources = Some(vec![Source { root, indexes, summary, ..before }]);
    header.identifier = id;
    writer.put_as(BlobType::SNAPSHOT, id, &header.encode(), Lane::Tree).unwrap();
    writer.commit().unwrap();
    id
}

#[test]
fn who_lies_about_the_length_of_a_chunk_is_not_believed() {
    let user = User::in_memory();
    fs::create_dir(user.home().join("src")).unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    let open = || open_with(Arc::new(FsStore::new(user.home().join("store"))), "");
    let id = lie(&open(), b"0123456789", &[("true", 10), ("long", 1_000_000), ("short", 4)]);
    let repository = open();
    let options = MountOptions { memory: 8 << 20, owner: (12, 34), allow_other: false };
    // Whoever is read first, by itself or ahead: what is kept of it does not make the others' lies true.
    for (order, ahead) in [(["true", "long", "short"], false), (["long", "short", "true"], true)] {
        let info = list(&repository).0.into_iter().find(|info| info.id == id).unwrap();
        let tally = Arc::new(Tally::default());
        let shown = Shown::Folder(Box::new(info), b"/".to_vec());
        let tree = Tree::open(&repository, shown, &options, tally.clone()).unwrap();
        for name in order.repeat(2) {
            let file = tree.look_up(ROOT, name.as_bytes()).unwrap();
            let file = tree.open_file(file.number).unwrap();
            if ahead {
                let chunk = (*repository).mac(b"0123456789");
                tree.read_ahead(&[4, 1_000_000, 10].map(|length| ChunkRef::new(chunk, length, 0.0)));
            }
            let wanted = if name == "true" { Ok(b"0123456789".to_vec()) } else { Err(Failure::Store) };
            assert_eq!(tree.read(&file, 0, 100), wanted, "{name}");
            assert_eq!(tree.read(&file, 3, 1).is_ok(), name == "true");
        }
        let problems = tally.problems();
        assert!(problems.iter().all(|problem| !problem.path.lossy().contains("/true")), "{problems:?}");
        let told =
            problems.iter().filter(|problem| problem.message.contains("has 10 bytes, its object says"));
        assert_eq!(told.count(), 2, "{problems:?}");
    }
}

fn numbered(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("{n:04}")).collect()
}

#[test]
fn what_cannot_be_is_told_apart() {
    let user = user();
    let (tree, _) = tree(&user, Some("src"));
    let file = tree.look_up(ROOT, b"file").unwrap();
    let link = tree.look_up(ROOT, b"link").unwrap();
    assert_eq!((file.size, link.size, link.kind), (300_000, 4, FileKind::Symlink));
    assert_eq!(tree.link_text(link.number).unwrap(), b"file");
    assert_eq!(tree.link_text(file.number), Err(Failure::Unsuitable));
    for name in [&b"nothing"[..], b"", b".", b"..", b"a/b", b"many/0000", b"\0"] {
        assert_eq!(tree.look_up(ROOT, name), Err(Failure::Missing), "{}", name.escape_ascii());
    }
    assert_eq!(tree.look_up(file.number, b"below"), Err(Failure::Missing));
    assert_eq!(tree.look_up(99, b"x"), Err(Failure::Missing));
    assert_eq!(tree.open_folder(file.number).unwrap_err(), Failure::NotFolder);
    assert_eq!(tree.open_file(ROOT).unwrap_err(), Failure::IsFolder);
    assert_eq!(tree.open_file(link.number).unwrap_err(), Failure::Unsuitable);
    assert_eq!(tree.attribute(file.number, b"user.none"), Err(Failure::NoAttribute));
    let open = tree.open_file(file.number).unwrap();
    assert_eq!(tree.read(&open, 299_990, 100).unwrap(), [7; 10]);
    assert_eq!(tree.read(&open, 300_000, 100).unwrap(), [0; 0]);
    assert_eq!(tree.read(&open, u64::MAX, u32::MAX).unwrap(), [0; 0]);
}

#[test]
fn the_top_holds_a_folder_for_each_snapshot_and_a_link() {
    let user = user();
    let (tree, _) = tree(&user, None);
    let listing = tree.open_folder(ROOT).unwrap();
    let (found, _) = names(&tree, &listing, 0, 10);
    assert_eq!((found.len(), found[1].as_str(), tree.snapshot_count()), (2, "latest", 1));
    let latest = tree.look_up(ROOT, b"latest").unwrap();
    assert_eq!(tree.link_text(latest.number).unwrap(), found[0].as_bytes());
    let folder = tree.look_up(ROOT, found[0].as_bytes()).unwrap();
    assert_eq!((folder.uid, folder.gid, folder.permissions), (12, 34, 0o755));
    assert_eq!(tree.attributes(folder.number).unwrap(), folder);
    assert_eq!(tree.look_up(latest.number, b"x"), Err(Failure::NotFolder));
    assert_eq!(tree.attribute_names(folder.number).unwrap(), b"");
}
