//! From members in the archive's order to a tree: the last of each name, and what hard links lead to.
//!
//! Nothing is held in memory but a number for each file that has several names. Members are sorted by path and place in
//! the archive; links are sorted by what they lead to and looked for in one pass, those that lead to links once more.

use std::collections::HashMap;

use super::members::{Member, Stored};
use crate::base::RawString;
use crate::base::sort::{ByteOrder, Sorted, Sorter};
use crate::base::spill::SpillDir;
use crate::connector::{Metadata, Result, Xattr};
use crate::format::entry::{Entry, FileInfo};
use crate::format::path::{name, parent};

/// How often links that lead to links are followed.
const ROUNDS: usize = 16;

/// Under which keys an entry in a spill keeps what entries do not have.
const CONTENT: &str = "content";
const LINK: &str = "link";
const XATTR: &[u8] = b"xattr:";

/// Where a member stands in the archive's order.
type Place = u64;

/// A member on its way.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) entry: Entry,
    pub(super) content: Stored,
    pub(super) xattrs: Vec<Xattr>,
    /// The path that a hard link leads to.
    pub(super) link: Option<RawString>,
}

impl Node {
    /// Makes a node of a member; its path is clean.
    pub(super) fn of(member: Member, path: &[u8], link: Option<RawString>) -> Self {
        let mut info = FileInfo::new(RawString::from(name(path)), member.mode);
        info.size = i64::try_from(member.content.size).unwrap_or(i64::MAX);
        (info.uid, info.gid, info.modified, info.links) = (member.uid, member.gid, member.modified, 1);
        (info.user, info.group) = (member.user, member.group);
        let mut entry = Entry::new(RawString::from(parent(path)), info);
        if member.mode.is_symlink() {
            entry.symlink_target = member.link.into();
        }
        Self { entry, content: member.content, xattrs: member.xattrs, link }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut entry = self.entry.clone();
        let mut put = |key: Vec<u8>, value| entry.metadata.push(Metadata { key: key.into(), value });
        put(CONTENT.into(), encode_content(&self.content));
        if let Some(link) = &self.link {
            put(LINK.into(), link.to_vec());
        }
        for xattr in &self.xattrs {
            put([XATTR, xattr.name.as_bytes()].concat(), xattr.value.clone());
        }
        entry.encode()
    }

    pub(super) fn decode(bytes: &[u8]) -> Self {
        let mut entry = Entry::decode(bytes).expect("it was encoded by this run, and spills are sealed");
        let metadata = std::mem::take(&mut entry.metadata);
        let mut node = Self { entry, content: Stored::default(), xattrs: Vec::new(), link: None };
        for Metadata { key, value } in metadata {
            if let Some(name) = key.strip_prefix(XATTR) {
                node.xattrs.push(Xattr { name: name.into(), value });
            } else if key == LINK {
                node.link = Some(value.into());
            } else {
                node.content = decode_content(&value);
            }
        }
        node
    }
}

/// Encodes where a content stands: numbers of eight bytes.
pub(super) fn encode_content(content: &Stored) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
    put(content.start);
    put(content.size);
    if let Some(pieces) = &content.pieces {
        put(pieces.len() as u64);
        for (offset, length) in pieces {
            put(*offset);
            put(*length);
        }
    }
    bytes
}

/// Decodes what [`encode_content`] wrote.
pub(super) fn decode_content(bytes: &[u8]) -> Stored {
    let mut numbers = bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let (start, size) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let pieces = numbers.next().map(|_| {
        let rest: Vec<u64> = numbers.by_ref().collect();
        rest.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect()
    });
    Stored { start, size, pieces }
}

/// Makes the key of a path: everything below a folder comes directly behind it.
fn key(path: &[u8], place: Place) -> Vec<u8> {
    let mut key: Vec<u8> = path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect();
    // Below every byte of a name, and below the slash: a path ends before it goes on.
    key.extend_from_slice(&[0, 0]);
    // The big end first, so that bytes sort as numbers do.
    key.extend(place.to_le_bytes().into_iter().rev());
    key
}

const TAIL: usize = 2 + size_of::<Place>();

fn split(key: &[u8]) -> (&[u8], Place) {
    let (path, tail) = key.split_at(key.len() - TAIL);
    let mut place: [u8; size_of::<Place>()] = *tail.last_chunk().expect("a key ends with a place");
    place.reverse();
    (path, Place::from_le_bytes(place))
}

/// Takes members in the archive's order.
#[derive(Debug)]
pub(super) struct Collector {
    spills: SpillDir,
    memory: usize,
    members: Sorter<ByteOrder>,
    links: Sorter<ByteOrder>,
    next: Place,
}

impl Collector {
    /// Sorts within so many bytes of memory.
    pub(super) fn new(spills: &SpillDir, memory: usize) -> Self {
        let memory = memory / 4;
        let sorter = || Sorter::new(ByteOrder, spills, memory);
        Self { spills: spills.clone(), memory, members: sorter(), links: sorter(), next: 0 }
    }

    pub(super) fn push(&mut self, path: &[u8], node: &Node) -> Result<()> {
        let place = self.next;
        self.next += 1;
        if let Some(link) = &node.link {
            self.links.push(&key(link, place), &key(path, place))?;
        }
        self.members.push(&key(path, place), &node.encode())?;
        Ok(())
    }

    /// Follows the links.
    pub(super) fn finish(self) -> Result<Resolved> {
        let mut members = self.members.finish()?;
        let mut requests = self.links.finish()?;
        let mut found = Sorter::new(ByteOrder, &self.spills, self.memory);
        let mut names: HashMap<Place, u16> = HashMap::new();
        for _ in 0..ROUNDS {
            if requests.records() == 0 {
                break;
            }
            let mut again = Sorter::new(ByteOrder, &self.spills, self.memory);
            members.rewind()?;
            join(&mut members, &mut requests, &mut |wanted, place, member| {
                let node = Node::decode(member);
                if let Some(link) = &node.link {
                    // The place stays that of the link that was asked for.
                    again.push(&key(link, place), wanted)?;
                } else {
                    let count = names.entry(place).or_insert(1);
                    *count = count.saturating_add(1);
                    found.push_parts(wanted, &[&place.to_le_bytes(), member])?;
                }
                Ok(())
            })?;
            requests = again.finish()?;
        }
        members.rewind()?;
        Ok(Resolved { members, found: found.finish()?, found_ended: false, names })
    }
}

/// Takes what a request stands for, and the place and the bytes of the member found.
type Each<'a> = dyn FnMut(&[u8], Place, &[u8]) -> Result<()> + 'a;

/// Finds for each request the last member of its path that stands before it. Requests are ordered by path and place,
/// and so are members.
fn join(
    members: &mut Sorted<ByteOrder>,
    requests: &mut Sorted<ByteOrder>,
    each: &mut Each<'_>,
) -> Result<()> {
    let mut more = members.advance()?;
    // The last member passed, for requests of the same path.
    let mut last: Option<(Vec<u8>, Place, Vec<u8>)> = None;
    while requests.advance()? {
        let (request, wanted) = requests.record();
        while more && members.record().0 < request {
            let (key, value) = members.record();
            let (path, place) = split(key);
            last = Some((path.to_vec(), place, value.to_vec()));
            more = members.advance()?;
        }
        let (path, _) = split(request);
        if let Some((_, place, member)) = last.as_ref().filter(|(known, ..)| known == path) {
            each(wanted, *place, member)?;
        }
    }
    Ok(())
}

/// The members by path, links resolved.
pub(super) struct Resolved {
    members: Sorted<ByteOrder>,
    found: Sorted<ByteOrder>,
    found_ended: bool,
    names: HashMap<Place, u16>,
}

impl std::fmt::Debug for Resolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resolved({} members)", self.members.records())
    }
}

impl Resolved {
    /// Passes the last member of each path, folders before what is in them, until `each` returns false. A hard link
    /// that leads nowhere comes with its link.
    pub(super) fn each(mut self, each: &mut dyn FnMut(Node) -> bool) -> Result<()> {
        let mut at: Option<(Vec<u8>, Vec<u8>)> = None;
        self.found_ended = !self.found.advance()?;
        loop {
            let next = if self.members.advance()? {
                let (key, value) = self.members.record();
                Some((key.to_vec(), value.to_vec()))
            } else {
                None
            };
            let ended = next.is_none();
            if let Some((key, value)) = std::mem::replace(&mut at, next) {
                let same = at.as_ref().is_some_and(|(next, _)| split(next).0 == split(&key).0);
                if !same {
                    let node = self.node(&key, &value)?;
                    if !each(node) {
                        return Ok(());
                    }
                }
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Makes a node of the last member of a path.
    fn node(&mut self, key: &[u8], value: &[u8]) -> Result<Node> {
        let mut node = Node::decode(value);
        let mut place = split(key).1;
        if node.link.is_some() {
            while !self.found_ended && self.found.record().0 < key {
                self.found_ended = !self.found.advance()?;
            }
            if self.found_ended || self.found.record().0 != key {
                return Ok(node);
            }
            let (target, member) =
                self.found.record().1.split_first_chunk().expect("a place stands before the member");
            place = Place::from_le_bytes(*target);
            let found = Node::decode(member);
            let (name, parent) = (node.entry.info.name, node.entry.parent);
            node = found;
            (node.entry.info.name, node.entry.parent) = (name, parent);
        }
        if let Some(names) = self.names.get(&place) {
            (node.entry.info.links, node.entry.info.inode) = (*names, place + 1);
        }
        Ok(node)
    }
}
