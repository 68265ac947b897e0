//! Building and reading against a model made of ordered maps.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::build::{BuildOptions, Built, Facts, VfsBuilder};
use super::read::{ParentCursor, Vfs, Visit};
use crate::base::sort::KeyOrder;
use crate::base::spill::SpillDir;
use crate::base::{Id, Timestamp};
use crate::format::blob::BlobType;
use crate::format::dirpack::Frames;
use crate::format::entry::{Entry, FileInfo, Mode};
use crate::format::path::{escape_segment, join, name, parent};
use crate::format::snapshot::{INDEX_CONTENT_TYPE, INDEX_DIRPACK, INDEX_SUMMARY, Source};
use crate::format::summary::Summary;
use crate::format::xattr::XattrItem;
use crate::snapshot::tree::{Order, Tree, TreeKind, TreeShape};
use crate::store::blob::memory::{MemoryStore, store};
use crate::store::blob::{BlobSink, BlobSource, Error, Lane};

type Paths = BTreeMap<Vec<u8>, Entry>;

fn options(shape: TreeShape, memory: usize) -> (tempfile::TempDir, BuildOptions) {
    let folder = tempfile::tempdir().unwrap();
    let spills = SpillDir::new(folder.path(), None);
    let missing_folder = FileInfo { modified: Timestamp::EPOCH, ..FileInfo::new("", Mode::dir(0o750)) };
    (folder, BuildOptions { shape, spills, memory, missing_folder })
}

fn file(path: &str, seed: u32) -> Entry {
    let mut info = FileInfo::new(name(path.as_bytes()), Mode::regular(0o644));
    info.size = i64::from(seed % 1000);
    info.modified = Timestamp::from_secs(i64::from(seed % 7) * 1000);
    let mut entry = Entry::new(parent(path.as_bytes()), info);
    match seed % 5 {
        0 => {
            entry.info.mode = Mode::SYMLINK.with(Mode::PERMISSIONS);
            entry.symlink_target = "target".into();
            entry.content_type = "application/x-not-regular-file".into();
        }
        kind => {
            entry.object = Id([1; 32]);
            entry.chunks = u64::from(kind);
            entry.entropy = f64::from(seed % 9);
            entry.content_type = if kind == 1 { "text/plain; charset=utf-8" } else { "image/png" }.into();
        }
    }
    entry
}

fn folder(path: &str, seed: u32) -> Entry {
    let mut info = FileInfo::new(name(path.as_bytes()), Mode::dir(0o755));
    info.inode = u64::from(seed);
    Entry::new(parent(path.as_bytes()), info)
}

/// What the view should hold: ancestors, renamed files.
fn model(entries: &[Entry], missing: &FileInfo) -> Paths {
    let mut paths = Paths::new();
    let folders = entries.iter().filter(|entry| entry.info.mode.is_dir());
    for entry in folders {
        paths.insert(entry.path().into_bytes(), entry.clone());
    }
    let mut all: Vec<Vec<u8>> = entries.iter().map(|entry| entry.path().into_bytes()).collect();
    all.push(b"/a".to_vec());
    for path in &all {
        let mut above = parent(path);
        loop {
            paths.entry(above.to_vec()).or_insert_with(|| {
                Entry::new(parent(above), FileInfo { name: name(above).into(), ..missing.clone() })
            });
            if above == b"/" {
                break;
            }
            above = parent(above);
        }
    }
    for entry in entries.iter().filter(|entry| !entry.info.mode.is_dir()) {
        let mut entry = entry.clone();
        if paths.get(entry.path().as_bytes()).is_some_and(|other| other.info.mode.is_dir()) {
            entry.info.name = escape_segment(&entry.info.name, true);
        }
        paths.insert(entry.path().into_bytes(), entry);
    }
    paths
}

fn children_of<'a>(paths: &'a Paths, folder: &[u8]) -> Vec<&'a Entry> {
    let mut children: Vec<_> =
        paths.iter().filter(|(path, _)| *path != b"/" && parent(path) == folder).map(|(_, e)| e).collect();
    children.sort_by(|a, b| a.info.name.cmp(&b.info.name));
    children
}

fn summary_of(paths: &Paths, folder: &[u8], errors: &BTreeMap<Vec<u8>, String>) -> Summary {
    let mut summary = Summary::default();
    for child in children_of(paths, folder) {
        summary.add_child_entry(child);
        if child.info.mode.is_dir() {
            summary.merge_child(&summary_of(paths, &child.path(), errors));
        }
    }
    summary.finish(errors.keys().filter(|path| parent(path) == folder).count() as u64);
    summary
}

fn walk_of(paths: &Paths, folder: &[u8], out: &mut Vec<Vec<u8>>) {
    for child in children_of(paths, folder) {
        out.push(child.path().into_bytes());
        if child.info.mode.is_dir() {
            walk_of(paths, &child.path(), out);
        }
    }
}

fn described(built: &Built) -> Source {
    Source {
        root: built.roots,
        indexes: Some(built.indexes.clone()),
        summary: built.summary.clone(),
        ..Source::default()
    }
}

fn index<'a>(store: &'a MemoryStore, built: &Built, name: &str) -> Tree<'a, MemoryStore> {
    Tree::open(store, TreeKind::INDEX, &described(built).index(name).unwrap()).unwrap()
}

fn keys(tree: &Tree<'_, MemoryStore>) -> Vec<(Vec<u8>, Id)> {
    let mut cursor = tree.scan().unwrap();
    let mut keys = Vec::new();
    while let Some((key, id)) = cursor.next().unwrap() {
        keys.push((key.to_vec(), id));
    }
    keys
}

/// Compares everything a view says with the model.
fn check(store: &MemoryStore, built: &Built, paths: &Paths, errors: &BTreeMap<Vec<u8>, String>) {
    let described = described(built);
    let vfs = Vfs::open(store, &described).unwrap();
    let mut in_order: Vec<_> = paths.keys().cloned().collect();
    in_order.sort_by(|a, b| Order::Path.compare(a, b));
    let tree = keys(vfs.tree());
    assert_eq!(tree.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(), in_order);
    assert_eq!(built.entries, paths.len() as u64);
    for (path, id) in &tree {
        assert_eq!(*id, BlobSource::mac(store, &paths[path].encode()));
        assert_eq!(vfs.entry(path).unwrap().as_ref(), Some(&paths[path]));
    }
    let bare = Vfs::open(store, &Source { indexes: None, ..described.clone() }).unwrap();
    let folders: Vec<_> =
        paths.iter().filter(|(_, entry)| entry.info.mode.is_dir()).map(|(path, _)| path).collect();
    for folder in &folders {
        let want = children_of(paths, folder);
        for view in [&vfs, &bare] {
            let got: Vec<_> = view.children(folder).unwrap().map(|child| child.unwrap().entry).collect();
            assert_eq!(got.iter().collect::<Vec<_>>(), want);
        }
        assert_eq!(vfs.summary(folder).unwrap().unwrap(), summary_of(paths, folder, errors));
    }
    for (name, len) in [(INDEX_DIRPACK, folders.len()), (INDEX_SUMMARY, folders.len())] {
        assert_eq!(keys(&index(store, built, name)).len(), len);
    }
    assert_eq!(built.summary, summary_of(paths, b"/", errors));
    let types: BTreeSet<Vec<u8>> = paths
        .iter()
        .filter(|(_, entry)| !entry.info.mode.is_dir())
        .map(|(path, entry)| {
            let mime = entry.content_type.split(|b| *b == b';').next().unwrap();
            [b"/", mime, path].concat()
        })
        .collect();
    let got: BTreeSet<_> =
        keys(&index(store, built, INDEX_CONTENT_TYPE)).into_iter().map(|(key, _)| key).collect();
    assert_eq!(got, types);
    let mut want = vec![b"/".to_vec()];
    walk_of(paths, b"/", &mut want);
    let (mut visited, mut left) = (Vec::new(), BTreeSet::new());
    for visit in vfs.walk(b"/").unwrap() {
        match visit.unwrap() {
            Visit::Entry(child) => {
                assert!(!left.contains(child.entry.parent.as_bytes()));
                visited.push(child.path().into_bytes());
            }
            Visit::Left(folder) => assert!(left.insert(folder.into_bytes())),
        }
    }
    assert_eq!(visited, want);
    assert_eq!(left.len(), folders.len());
    let items: Vec<_> = vfs.errors().unwrap().map(|item| item.unwrap()).collect();
    assert_eq!(items.len() as u64, built.error_items);
    for (item, (path, message)) in items.iter().zip(errors) {
        assert_eq!((item.path.as_bytes(), item.message.as_bytes()), (&path[..], message.as_bytes()));
    }
    assert!(vfs.take_faults().is_empty() && bare.take_faults().is_empty());
}

fn component() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "a-", "a.", "!", "%", "long name", "\u{e9}"])
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(component(), 1..5).prop_map(|parts| format!("/{}", parts.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_was_built_is_what_is_read(
        files in prop::collection::btree_map(path(), any::<u32>(), 0..60),
        folders in prop::collection::btree_map(path(), any::<u32>(), 0..20),
        failed in prop::collection::btree_set(path(), 0..5),
        order in any::<u64>(),
        chained: bool,
    ) {
        let store = store();
        let shape = if chained { TreeShape::Chained } else { TreeShape::ByContent };
        let (_folder, options) = options(shape, 0);
        let missing = options.missing_folder.clone();
        let builder = VfsBuilder::new(options);
        let mut entries: Vec<Entry> = files.iter().map(|(path, seed)| file(path, *seed)).collect();
        entries.extend(folders.iter().map(|(path, seed)| folder(path, *seed)));
        let mut shuffled: Vec<_> = entries.iter().collect();
        shuffled.sort_by_key(|entry| BlobSource::mac(&store, &[&order.to_le_bytes()[..], &entry.path()].concat()));
        for entry in shuffled {
            builder.add_entry(entry).unwrap();
        }
        let mut errors = BTreeMap::new();
        let mut above = entries.clone();
        for path in &failed {
            builder.add_error(path.as_bytes(), "cannot read").unwrap();
            errors.insert(path.clone().into_bytes(), "cannot read".to_owned());
            if parent(path.as_bytes()) != b"/" {
                above.push(file(&format!("{path}/x"), 1));
            }
        }
        let mut paths = model(&entries, &missing);
        // An error's folder exists too.
        for path in &failed {
            let mut above = parent(path.as_bytes());
            while !paths.get(above).is_some_and(|entry| entry.info.mode.is_dir()) {
                prop_assume!(!paths.contains_key(above));
                paths.insert(above.to_vec(), Entry::new(parent(above), FileInfo { name: name(above).into(), ..missing.clone() }));
                above = parent(above);
            }
        }
        let built = builder.finish(&store).unwrap();
        check(&store, &built, &paths, &errors);

        let described = described(&built);
        let vfs = Vfs::open(&store, &described).unwrap();
        let mut raw: Vec<_> = paths.keys().cloned().collect();
        raw.push(b"/absent".to_vec());
        raw.push(b"/a/absent/x".to_vec());
        raw.sort();
        let mut cursor = ParentCursor::new(&vfs);
        for path in &raw {
            prop_assert_eq!(cursor.entry(path).unwrap().map(|child| child.entry), paths.get(path).cloned());
        }
        prop_assert_eq!(cursor.tree_lookups(), 1, "the root only");
        raw.sort_by_key(|path| BlobSource::mac(&store, path));
        for path in &raw {
            prop_assert_eq!(cursor.entry(path).unwrap().map(|child| child.entry), paths.get(path).cloned());
        }
    }
}

#[test]
fn many_entries_with_little_memory_from_many_threads() {
    const COUNT: u32 = 20_000;
    let path = |i: u32| match i % 3 {
        0 => format!("/flat/object-{i:06}"),
        1 => format!("/deep/{}/{}/{i}", i % 10, i % 100),
        _ => format!("/wide-{}/x", i % 500),
    };
    let entries: BTreeMap<String, Entry> = (0..COUNT).map(|i| (path(i), file(&path(i), i))).collect();
    let entries: Vec<Entry> = entries.into_values().collect();
    let mut previous = None;
    for (memory, shape) in
        [(0, TreeShape::ByContent), (64 << 20, TreeShape::ByContent), (0, TreeShape::Chained)]
    {
        let store = store();
        let (_folder, options) = options(shape, memory);
        let missing = options.missing_folder.clone();
        let builder = VfsBuilder::new(options);
        std::thread::scope(|scope| {
            for part in entries.chunks(entries.len() / 4) {
                let builder = &builder;
                scope.spawn(move || part.iter().for_each(|entry| builder.add_entry(entry).unwrap()));
            }
        });
        let built = builder.finish(&store).unwrap();
        match &previous {
            None => check_sampled(&store, &built, &entries, &missing),
            Some(previous) if shape == TreeShape::ByContent => assert_eq!(&built, previous),
            Some(previous) => assert_eq!(built.summary, previous.summary),
        }
        previous.get_or_insert(built);
    }
}

fn check_sampled(store: &MemoryStore, built: &Built, entries: &[Entry], missing: &FileInfo) {
    let paths = model(entries, missing);
    assert_eq!(built.entries, paths.len() as u64);
    let described = described(built);
    let vfs = Vfs::open(store, &described).unwrap();
    assert_eq!(keys(vfs.tree()).len(), paths.len());
    let flat: Vec<_> =
        vfs.children(b"/flat").unwrap().map(|child| child.unwrap().path().into_bytes()).collect();
    let want: Vec<_> = paths.keys().filter(|path| parent(path) == b"/flat").cloned().collect();
    assert_eq!(flat, want);
    assert!(vfs.object(&vfs.dirpack(b"/flat").unwrap().unwrap()).unwrap().chunks.len() > 100);
    // A previous snapshot is joined in one pass: every chunk of every dirpack is read once.
    store.reads.store(0, std::sync::atomic::Ordering::Relaxed);
    let mut cursor = ParentCursor::new(&vfs);
    for (path, entry) in paths.iter().filter(|(path, _)| **path != b"/") {
        assert_eq!(cursor.entry(path).unwrap().unwrap().entry, *entry);
    }
    assert_eq!(cursor.tree_lookups(), 0);
    let chunks: usize = paths
        .iter()
        .filter(|(_, entry)| entry.info.mode.is_dir())
        .map(|(path, _)| vfs.object(&vfs.dirpack(path).unwrap().unwrap()).unwrap().chunks.len() + 1)
        .sum();
    let reads = store.reads.load(std::sync::atomic::Ordering::Relaxed);
    assert!(reads < chunks * 2, "{reads} reads for {chunks} blobs of dirpacks");
    let lanes = store.blobs.lock().unwrap();
    assert!(lanes.iter().all(|((kind, _), (_, lane))| match *kind {
        BlobType::CHUNK | BlobType::OBJECT | BlobType::VFS_ENTRY | BlobType::SUMMARY =>
            *lane == Lane::Metadata,
        _ => *lane == Lane::Tree,
    }));
}

/// A walk comes back to every ancestor, however many there are: none is read twice for that.
#[test]
fn a_deep_tree_is_joined_in_one_pass() {
    const LEVELS: u32 = 200;
    const SIDES: u32 = 40;
    let mut entries = Vec::new();
    let mut folder = String::new();
    for level in 0..LEVELS {
        // Before and behind the way down, with folders on the side to push the ancestors out.
        for name in ["a", "z"] {
            entries.push(file(&format!("{folder}/{name}"), level));
        }
        for side in 0..if level % 50 == 0 { SIDES } else { 0 } {
            entries.push(file(&format!("{folder}/side {side:02}/x"), side));
        }
        folder.push_str("/way down");
    }
    let store = store();
    let built = small(&store, &entries);
    let described = described(&built);
    let vfs = Vfs::open(&store, &described).unwrap();
    let dirpacks: usize = vfs
        .walk(b"/")
        .unwrap()
        .filter_map(|visit| match visit.unwrap() {
            Visit::Entry(child) if child.is_dir() => Some(child.path()),
            _ => None,
        })
        .map(|path| vfs.object(&vfs.dirpack(&path).unwrap().unwrap()).unwrap().chunks.len() + 1)
        .sum();
    let mut walk: Vec<Entry> = entries;
    // As a walk comes by: folder by folder, names ascending, what is below a folder where its name stands.
    walk.sort_by(|a, b| a.path().split(|c| *c == b'/').cmp(b.path().split(|c| *c == b'/')));
    store.reads.store(0, std::sync::atomic::Ordering::Relaxed);
    let mut cursor = ParentCursor::new(&vfs);
    for entry in &walk {
        let path = entry.path();
        assert_eq!(cursor.entry(&path).unwrap().unwrap().entry, *entry, "{}", path.escape_ascii());
    }
    assert_eq!(cursor.tree_lookups(), 0);
    let reads = store.reads.load(std::sync::atomic::Ordering::Relaxed);
    // An ancestor read twice would show.
    println!("{reads} reads for {dirpacks} blobs of dirpacks");
    assert!(reads <= dirpacks + dirpacks / 50, "{reads} reads for {dirpacks} blobs of dirpacks");
}

fn small(store: &MemoryStore, entries: &[Entry]) -> Built {
    let (_folder, options) = options(TreeShape::Chained, 0);
    let builder = VfsBuilder::new(options);
    for entry in entries {
        builder.add_entry(entry).unwrap();
    }
    builder.finish(store).unwrap()
}

#[test]
fn an_empty_view_is_a_root() {
    let store = store();
    let built = small(&store, &[]);
    check(&store, &built, &model(&[], &options(TreeShape::Chained, 0).1.missing_folder), &BTreeMap::new());
    let described = described(&built);
    let vfs = Vfs::open(&store, &described).unwrap();
    let object = vfs.object(&vfs.dirpack(b"/").unwrap().unwrap()).unwrap();
    let empty = BlobSource::mac(&store, b"");
    assert_eq!((object.content_mac, object.chunks.len(), object.chunks[0].id), (empty, 1, empty));
    assert_eq!(object.content_type, "application/octet-stream");
    assert!(store.has(BlobType::CHUNK, &empty).unwrap());
    assert_eq!(built.summary.encode().len(), 24);
}

#[test]
fn the_content_mac_of_a_dirpack_covers_all_chunks() {
    let store = store();
    let entries: Vec<_> = (0..200).map(|i| file(&format!("/d/{i:03}"), i)).collect();
    let described = described(&small(&store, &entries));
    let vfs = Vfs::open(&store, &described).unwrap();
    for folder in [&b"/"[..], b"/d"] {
        let id = vfs.dirpack(folder).unwrap().unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut vfs.open_object(&id).unwrap(), &mut bytes).unwrap();
        let object = vfs.object(&id).unwrap();
        assert_eq!(object.content_mac, BlobSource::mac(&store, &bytes));
        assert_eq!(object.size(), bytes.len() as u64);
        let mut rest = &bytes[..];
        for chunk in &object.chunks {
            let length = store.chunker().cut(rest);
            assert_eq!(length, chunk.length as usize);
            rest = &rest[length..];
        }
        assert_eq!(Frames::new(&bytes).count(), if folder == b"/" { 1 } else { 200 });
    }
}

#[test]
fn files_beside_folders_are_renamed_and_duplicates_are_reported() {
    let store = store();
    let (_folder, options) = options(TreeShape::Chained, 0);
    let builder = VfsBuilder::new(options);
    // An object beside a prefix; names that sort before and behind the mark; the later of two files.
    for (path, seed) in
        [("/a", 1), ("/a/b", 2), ("/!", 3), ("/!/x", 4), ("/twice", 6), ("/same", 8), ("/%", 9), ("/%/y", 1)]
    {
        builder.add_entry(&file(path, seed)).unwrap();
    }
    builder.add_entry(&file("/twice", 7)).unwrap();
    builder.add_entry(&file("/same", 8)).unwrap();
    builder.add_error(b"/gone", "first").unwrap();
    builder.add_error(b"/gone", "second").unwrap();
    builder.add_error(b"/gone", "second").unwrap();
    let item = XattrItem::new("/a/b".into(), "user.a".into(), 3, Id([5; 32]));
    builder.add_xattr(&item).unwrap();
    let built = builder.finish(&store).unwrap();
    assert_eq!((built.renamed, built.error_items), (3, 2));
    let described = described(&built);
    let vfs = Vfs::open(&store, &described).unwrap();
    let names: Vec<_> = vfs
        .children(b"/")
        .unwrap()
        .map(|child| child.unwrap().entry.info.name.lossy().into_owned())
        .collect();
    assert_eq!(names, ["!", "%", "%~!", "%~%25", "%~a", "a", "same", "twice"]);
    assert_eq!(vfs.entry(b"/twice").unwrap().unwrap().info.size, 7);
    let renamed = vfs.entry(b"/%~!").unwrap().unwrap();
    assert_eq!((renamed.info.size, renamed.info.name.as_bytes()), (3, &b"%~!"[..]));
    let errors: Vec<_> = vfs.errors().unwrap().map(|item| item.unwrap()).collect();
    assert_eq!(errors[0].message, "first; second");
    assert_eq!(errors[1].path, "/twice");
    assert_eq!(built.summary.below.errors, 2);
    assert_eq!(
        vfs.all_xattrs().unwrap().map(|item| item.unwrap()).collect::<Vec<_>>(),
        std::slice::from_ref(&item)
    );
    assert_eq!(vfs.xattr(b"/a/b", b"user.a").unwrap(), Some(item));
    assert_eq!(vfs.xattr(b"/a/b", b"user.b").unwrap(), None);
}

#[test]
fn a_renamed_file_never_vanishes_silently() {
    let store = store();
    let built = small(&store, &[file("/a", 1), file("/a/b", 2), folder("/%~a", 3)]);
    assert_eq!((built.renamed, built.error_items), (1, 1));
}

#[test]
fn paths_that_are_not_clean_are_refused() {
    let (_folder, options) = options(TreeShape::Chained, 0);
    let builder = VfsBuilder::new(options);
    let entry = file("/a", 1);
    for path in ["", "a", "/a/", "//a", "/a/../b", "/./a", "/a\0"] {
        assert!(builder.add(path.as_bytes(), &entry.encode(), &Facts::of(&entry)).is_err(), "{path:?}");
        assert!(builder.add_error(path.as_bytes(), "x").is_err());
    }
}

#[test]
fn dangling_values_are_found_in_dirpacks() {
    let store = store();
    let entries = [folder("/srv", 1), file("/srv/a", 1), file("/srv/b", 2)];
    let built = small(&store, &entries);
    let described = described(&built);
    store.blobs.lock().unwrap().retain(|(kind, _), _| *kind != BlobType::VFS_ENTRY);
    let vfs = Vfs::open(&store, &described).unwrap();
    for entry in &entries {
        assert_eq!(vfs.entry(&entry.path()).unwrap().as_ref(), Some(entry));
    }
    assert!(vfs.entry(b"/").unwrap().unwrap().info.mode.is_dir());
    assert_eq!(vfs.entry(b"/srv/c").unwrap(), None);
    let faults = vfs.take_faults();
    assert_eq!(faults.len(), 4);
    assert!(faults.iter().all(|fault| matches!(fault.error, Error::Missing { .. })));
    assert_eq!(vfs.walk(b"/").unwrap().filter(|visit| matches!(visit, Ok(Visit::Entry(_)))).count(), 4);
    // Without dirpacks there is nothing to fall back to, and it is said.
    let bare = Vfs::open(&store, &Source { indexes: None, ..described.clone() }).unwrap();
    assert!(matches!(bare.entry(b"/srv/a"), Err(Error::Missing { .. })));
    assert!(bare.children(b"/srv").unwrap().all(|child| matches!(child, Err(Error::Missing { .. }))));
}

#[test]
fn a_lost_dirpack_falls_back_to_the_tree() {
    let store = store();
    let entries: Vec<_> = (0..50).map(|i| file(&format!("/d/{i:03}"), i)).collect();
    let described = described(&small(&store, &entries));
    store.blobs.lock().unwrap().retain(|(kind, _), _| *kind != BlobType::OBJECT);
    let vfs = Vfs::open(&store, &described).unwrap();
    assert_eq!(vfs.children(b"/d").unwrap().flatten().count(), 50);
    assert_eq!(vfs.take_faults().len(), 1);
}

/// A dirpack with these frames as the root's, and what listing it gives.
fn list_hostile(frames: &[(Entry, bool)]) -> Vec<Result<Vec<u8>, Error>> {
    use crate::format::dirpack::{FrameKind, encode_frame};
    use crate::format::object::{ChunkRef, Object};
    let store = store();
    let mut source = described(&small(&store, &[]));
    let mut bytes = Vec::new();
    for (entry, good) in frames {
        let encoded = entry.encode();
        let mac = if *good { BlobSource::mac(&store, &encoded) } else { Id([1; 32]) };
        encode_frame(FrameKind::of(entry.info.mode.is_dir()), &encoded, mac, &mut bytes);
    }
    let mut object = Object::new(BlobSource::mac(&store, &bytes));
    let chunk = store.put(BlobType::CHUNK, &bytes, Lane::Metadata).unwrap();
    object.chunks = vec![ChunkRef::new(chunk, u32::try_from(bytes.len()).unwrap(), 0.0)];
    let object = store.put(BlobType::OBJECT, &object.encode(), Lane::Metadata).unwrap();
    let mut tree = crate::snapshot::tree::TreeBuilder::new(&store, TreeKind::INDEX, TreeShape::Chained);
    tree.push(b"/", object).unwrap();
    let root = tree.finish().unwrap();
    for index in source.indexes.iter_mut().flatten().filter(|index| index.name == INDEX_DIRPACK) {
        index.value = root;
    }
    let vfs = Vfs::open(&store, &source).unwrap();
    vfs.children(b"/").unwrap().map(|child| child.map(|child| child.path().into_bytes())).collect()
}

#[test]
fn hostile_dirpacks_give_errors_and_the_rest() {
    let named = |parent: &str, name: &str| Entry::new(parent, FileInfo::new(name, Mode::regular(0o644)));
    let last = (named("/", "z"), true);
    for bad in [
        (named("/", ".."), true),
        (named("/", "a/b"), true),
        (named("/", ""), true),
        (named("/", "a\0"), true),
        (named("/etc", "a"), true),
        (named("/", "/"), true),
        (named("/", "a"), false),
    ] {
        let got = list_hostile(&[bad.clone(), last.clone()]);
        assert_eq!(got.len(), 2, "{bad:?}");
        assert!(got[0].as_ref().is_err_and(Error::is_damage), "{bad:?}");
        assert_eq!(got[1].as_ref().unwrap(), b"/z");
    }
    let got =
        list_hostile(&[(named("/", "b"), true), (named("/", "a"), true), (named("/", "b"), true), last]);
    assert_eq!(got.iter().filter(|child| child.is_ok()).count(), 2);
    assert_eq!(join("/", "z"), "/z");
}
