//! Trees against ordered maps, their shapes, and hostile ones.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::base::Id;
use crate::base::sort::KeyOrder;
use crate::format::blob::BlobType;
use crate::format::tree::{Node, Root};
use crate::store::blob::memory::{MemoryStore, store};
use crate::store::blob::{BlobSink, BlobSource, Error, Lane};

const SHAPES: [TreeShape; 2] = [TreeShape::Chained, TreeShape::ByContent];
const KINDS: [TreeKind; 2] = [TreeKind::VFS, TreeKind::INDEX];

fn id(number: usize) -> Id {
    let mut id = Id::ZERO;
    id.0[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
    id
}

/// Sorts, removes duplicates, numbers.
fn pairs(kind: TreeKind, mut keys: Vec<Vec<u8>>) -> Vec<(Vec<u8>, Id)> {
    keys.sort_by(|a, b| kind.order.compare(a, b));
    keys.dedup();
    keys.into_iter().enumerate().map(|(at, key)| (key, id(at))).collect()
}

fn build(store: &MemoryStore, kind: TreeKind, shape: TreeShape, pairs: &[(Vec<u8>, Id)]) -> Id {
    let mut tree = TreeBuilder::new(store, kind, shape);
    for (key, id) in pairs.iter().rev() {
        tree.push(key, *id).unwrap();
    }
    tree.finish().unwrap()
}

fn scan(tree: &Tree<'_, MemoryStore>, from: &[u8]) -> Vec<(Vec<u8>, Id)> {
    let mut cursor = tree.range(from).unwrap();
    let mut out = Vec::new();
    while let Some((key, id)) = cursor.next().unwrap() {
        out.push((key.to_vec(), id));
    }
    assert!(cursor.next().unwrap().is_none());
    out
}

/// Checks sizes, depth and chain; returns the depth.
fn check_shape(store: &MemoryStore, kind: TreeKind, shape: TreeShape, root: &Id) -> usize {
    let top = Root::decode(&store.get(kind.root, root).unwrap()).unwrap();
    assert_eq!((top.order, top.count, top.version.0), (50, 0, 0));
    let mut leaves = Vec::new();
    let mut stack = vec![(top.root, 1)];
    let mut depths = HashSet::new();
    while let Some((id, depth)) = stack.pop() {
        let node = Node::decode(&store.get(kind.node, &id).unwrap()).unwrap();
        assert!(node.keys.len() < 50);
        if node.is_leaf() {
            depths.insert(depth);
            leaves.push((id, node.next));
        } else {
            assert!(!node.keys.is_empty(), "an inner node of one child");
            assert!(node.next.is_none());
            stack.extend(node.pointers.iter().rev().map(|id| (*id, depth + 1)));
        }
    }
    assert_eq!(depths.len(), 1);
    for (at, (_, next)) in leaves.iter().enumerate() {
        let want = leaves.get(at + 1).map(|(id, _)| *id).filter(|_| shape == TreeShape::Chained);
        assert_eq!(*next, want);
    }
    depths.into_iter().next().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn behaves_like_an_ordered_map(
        keys in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'/'), Just(b'-'), b'a'..b'd'], 0..9), 0..900),
        probes in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'/'), Just(b'-'), b'a'..b'd'], 0..9), 0..50),
    ) {
        for kind in KINDS {
            let pairs = pairs(kind, keys.clone());
            for shape in SHAPES {
                let store = store();
                let root = build(&store, kind, shape, &pairs);
                check_shape(&store, kind, shape, &root);
                let tree = Tree::open(&store, kind, &root).unwrap();
                prop_assert_eq!(&scan(&tree, b""), &pairs);
                for (key, id) in &pairs {
                    prop_assert_eq!(tree.get(key).unwrap(), Some(*id));
                }
                for probe in &probes {
                    let known = pairs.iter().find(|(key, _)| key == probe).map(|(_, id)| *id);
                    prop_assert_eq!(tree.get(probe).unwrap(), known);
                    let from = pairs.partition_point(|(key, _)| kind.order.compare(key, probe).is_lt());
                    prop_assert_eq!(&scan(&tree, probe)[..], &pairs[from..]);
                }
            }
        }
    }
}

fn numbered(count: usize) -> Vec<(Vec<u8>, Id)> {
    (0..count).map(|i| (format!("/bucket/some/prefix/object-{i:07}").into_bytes(), id(i))).collect()
}

#[test]
fn every_size_around_the_edges() {
    let full = 49 * 50;
    let sizes = [
        0,
        1,
        2,
        48,
        49,
        50,
        51,
        98,
        99,
        full - 1,
        full,
        full + 1,
        full + 49,
        full + 50,
        2 * full,
        2 * full + 1,
    ];
    for size in sizes {
        let pairs = numbered(size);
        for shape in SHAPES {
            let store = store();
            let root = build(&store, TreeKind::VFS, shape, &pairs);
            let depth = check_shape(&store, TreeKind::VFS, shape, &root);
            let tree = Tree::open(&store, TreeKind::VFS, &root).unwrap();
            assert_eq!(scan(&tree, b""), pairs);
            if shape == TreeShape::Chained {
                assert_eq!(depth, 1 + usize::from(size > 49) + usize::from(size > full), "{size}");
            }
            let mut nodes = HashSet::new();
            tree.nodes(|id| {
                assert!(nodes.insert(id));
                Ok(())
            })
            .unwrap();
            let stored =
                store.blobs.lock().unwrap().keys().filter(|(kind, _)| *kind == BlobType::VFS_NODE).count();
            assert_eq!(nodes.len(), stored);
        }
    }
}

#[test]
fn an_empty_tree_is_one_empty_leaf() {
    let store = store();
    let root = build(&store, TreeKind::ERRORS, TreeShape::Chained, &[]);
    let top = Root::decode(&store.get(BlobType::ERROR_ROOT, &root).unwrap()).unwrap();
    assert_eq!(store.get(BlobType::ERROR_NODE, &top.root).unwrap().len(), 38);
    assert_eq!(Tree::open(&store, TreeKind::ERRORS, &root).unwrap().get(b"/a").unwrap(), None);
}

#[test]
fn one_change_rewrites_few_nodes() {
    let old = numbered(30_000);
    let (mut changed, mut inserted, mut removed) = (old.clone(), old.clone(), old.clone());
    changed[15_000].1 = id(1_000_000);
    inserted.insert(7_000, (b"/bucket/some/prefix/object-0006999x".to_vec(), id(1_000_001)));
    removed.remove(20_000);
    let store = store();
    build(&store, TreeKind::VFS, TreeShape::ByContent, &old);
    for new in [changed, inserted, removed] {
        let before = store.blobs.lock().unwrap().len();
        build(&store, TreeKind::VFS, TreeShape::ByContent, &new);
        let written = store.blobs.lock().unwrap().len() - before;
        assert!(written <= 16, "{written} blobs");
    }
    assert!(store.blobs.lock().unwrap().values().all(|(_, lane)| *lane == Lane::Tree));
}

/// Counts what is read.
struct Reading<'a>(&'a MemoryStore, std::sync::atomic::AtomicUsize);

impl BlobSource for Reading<'_> {
    fn mac_key(&self) -> &crate::crypto::MacKey {
        BlobSource::mac_key(self.0)
    }

    fn get(&self, kind: BlobType, id: &Id) -> Result<Vec<u8>, Error> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.get(kind, id)
    }

    fn has(&self, kind: BlobType, id: &Id) -> Result<bool, Error> {
        self.0.has(kind, id)
    }
}

/// The keys in which two trees differ, and how many blobs that took.
fn differences(store: &MemoryStore, kind: TreeKind, roots: [&Id; 2]) -> (Vec<Vec<u8>>, usize) {
    let reading = Reading(store, 0.into());
    let [left, right] = roots.map(|root| Tree::open(&reading, kind, root).unwrap());
    let mut found = Vec::new();
    differing(&left, &right, &mut |key| {
        found.push(key.to_vec());
        true
    })
    .unwrap();
    let reads = reading.1.load(std::sync::atomic::Ordering::Relaxed);
    (found, reads)
}

#[test]
fn trees_that_share_nodes_are_compared_by_what_they_do_not_share() {
    let old = numbered(30_000);
    for (shape, most) in [(TreeShape::ByContent, 40), (TreeShape::Chained, 2500)] {
        let store = store();
        let before = build(&store, TreeKind::INDEX, shape, &old);
        assert_eq!(differences(&store, TreeKind::INDEX, [&before, &before]), (vec![], 2));
        for at in [0, 15_000, 29_999] {
            let (mut changed, mut removed) = (old.clone(), old.clone());
            changed[at].1 = id(1_000_000);
            removed.remove(at);
            for new in [changed, removed] {
                let after = build(&store, TreeKind::INDEX, shape, &new);
                for roots in [[&before, &after], [&after, &before]] {
                    let (found, reads) = differences(&store, TreeKind::INDEX, roots);
                    assert_eq!(found, [old[at].0.clone()]);
                    assert!(reads <= most, "{shape:?}: {reads} reads");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn differences_are_those_of_ordered_maps(
        base in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'/'), b'a'..b'd'], 0..9), 0..400),
        more in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'/'), b'a'..b'd'], 0..9), 0..20),
        gone in prop::collection::vec(0_usize..400, 0..20),
        changed in prop::collection::vec(0_usize..400, 0..20),
    ) {
        for (kind, shape) in [(TreeKind::INDEX, TreeShape::ByContent), (TreeKind::VFS, TreeShape::Chained)] {
            let old = pairs(kind, base.clone());
            let mut new: std::collections::BTreeMap<Vec<u8>, Id> = old.iter().cloned().collect();
            for (key, _) in changed.iter().filter_map(|at| old.get(*at)) {
                new.insert(key.clone(), id(9999));
            }
            for (key, _) in gone.iter().filter_map(|at| old.get(*at)) {
                new.remove(key);
            }
            for key in &more {
                new.entry(key.clone()).or_insert(id(8888));
            }
            let mut after: Vec<(Vec<u8>, Id)> = new.clone().into_iter().collect();
            after.sort_by(|a, b| kind.order.compare(&a.0, &b.0));
            let before: std::collections::BTreeMap<Vec<u8>, Id> = old.iter().cloned().collect();
            let all: std::collections::BTreeSet<&Vec<u8>> = before.keys().chain(new.keys()).collect();
            let mut expected: Vec<Vec<u8>> =
                all.into_iter().filter(|key| before.get(*key) != new.get(*key)).cloned().collect();
            expected.sort_by(|a, b| kind.order.compare(a, b));
            let store = store();
            let (left, right) = (build(&store, kind, shape, &old), build(&store, kind, shape, &after));
            prop_assert_eq!(differences(&store, kind, [&left, &right]).0, expected);
        }
    }
}

#[test]
fn keys_must_descend() {
    let store = store();
    for (first, second) in [("/b", "/b"), ("/a", "/b"), ("/b", "/a/b")] {
        let mut tree = TreeBuilder::new(&store, TreeKind::VFS, TreeShape::Chained);
        tree.push(first.as_bytes(), id(0)).unwrap();
        assert!(
            matches!(tree.push(second.as_bytes(), id(1)), Err(Error::Malformed { .. })),
            "{first} {second}"
        );
    }
}

fn put(store: &MemoryStore, node: &Node) -> Id {
    store.put(BlobType::TREE_NODE, &node.encode(), Lane::Tree).unwrap()
}

fn leaf(keys: &[&str]) -> Node {
    Node {
        keys: keys.iter().map(|key| (*key).into()).collect(),
        values: (0..keys.len()).map(id).collect(),
        ..Node::default()
    }
}

fn inner(keys: &[&str], pointers: Vec<Id>) -> Node {
    Node { keys: keys.iter().map(|key| (*key).into()).collect(), pointers, ..Node::default() }
}

/// Scans a tree with this top node to its end.
fn scan_hostile(store: &MemoryStore, top: Id) -> Result<usize, Error> {
    let root = store.put(BlobType::TREE_ROOT, &Root::new(top).encode(), Lane::Tree).unwrap();
    let tree = Tree::open(store, TreeKind::INDEX, &root)?;
    // What maintenance follows, and every look-up, end the same way.
    let mut nodes = 0_usize;
    let followed = tree.nodes(|_| {
        nodes += 1;
        assert!(nodes < 1000, "no end in sight");
        Ok(())
    });
    let _ = tree.get(b"a");
    followed?;
    let mut cursor = tree.scan()?;
    let mut keys = 0;
    while cursor.next()?.is_some() {
        keys += 1;
    }
    Ok(keys)
}

#[test]
fn hostile_trees_end_in_errors() {
    let store = store();
    let (a, b) = (put(&store, &leaf(&["a", "b"])), put(&store, &leaf(&["m", "n"])));
    let empty = put(&store, &leaf(&[]));
    assert_eq!(scan_hostile(&store, put(&store, &inner(&["m"], vec![a, b]))).unwrap(), 4);
    let bad = [
        leaf(&["b", "a"]),
        leaf(&["a", "a"]),
        inner(&["m"], vec![a, a]),
        inner(&["m"], vec![b, a]),
        inner(&["b"], vec![a, b]),
        inner(&["m", "c"], vec![a, a, b]),
        inner(&["m"], vec![empty, b]),
        inner(&["m"], vec![a, empty]),
    ];
    for node in bad {
        let top = put(&store, &node);
        assert!(matches!(scan_hostile(&store, top), Err(Error::Malformed { .. })), "{node:?}");
    }
    // Deeper than any honest tree, and wide: 2^64 ways down if nobody held the keys against the separators.
    let mut top = a;
    for _ in 0..64 {
        top = put(&store, &inner(&["m"], vec![top, top]));
    }
    assert!(scan_hostile(&store, top).is_err());
    let mut chain = a;
    for _ in 0..64 {
        chain = put(&store, &inner(&[], vec![chain]));
    }
    assert!(scan_hostile(&store, chain).is_err());
    // A node that is its own child, which only a store that does not verify can serve.
    let this = Id([9; 32]);
    store.put_as(BlobType::TREE_NODE, this, &inner(&["m"], vec![this, b]).encode(), Lane::Tree).unwrap();
    assert!(scan_hostile(&store, this).is_err());
    assert!(matches!(scan_hostile(&store, Id([8; 32])), Err(Error::Missing { .. })));
}
