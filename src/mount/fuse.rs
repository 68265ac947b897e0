//! The kernel's protocol: requests to the tree, its answers to replies.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use super::attributes::{Attributes, FileKind};
use super::content::OpenFile;
use super::listing::{LONGEST_NAME, Listing};
use super::numbers::{LATEST, ROOT};
use super::pool::Pool;
use super::tree::{Failure, Tree};

/// How long the kernel may rely on what a snapshot says: it never changes.
const FOREVER: Duration = Duration::from_hours(24);
/// How long it may rely on which snapshots there are.
const A_MOMENT: Duration = Duration::from_secs(1);
/// The block size told, in bytes: the size of good reads.
const BLOCK: u32 = 128 << 10;
/// Threads that look up names and list folders.
const NAME_THREADS: usize = 8;
/// Threads that read ahead.
const AHEAD_THREADS: usize = 4;
/// Jobs that may wait for those.
const AHEAD_JOBS: usize = 64;
/// Chunks read ahead together where that spares requests.
const TOGETHER: usize = 8;

/// Things that are open, by handle.
struct Handles<T> {
    open: Mutex<HashMap<u64, Arc<T>>>,
    next: AtomicU64,
}

impl<T> Handles<T> {
    fn new() -> Self {
        Self { open: Mutex::default(), next: AtomicU64::new(1) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<T>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, value: T) -> FileHandle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(handle, Arc::new(value));
        FileHandle(handle)
    }

    fn get(&self, handle: FileHandle) -> Option<Arc<T>> {
        self.lock().get(&handle.0).cloned()
    }

    fn close(&self, handle: FileHandle) {
        self.lock().remove(&handle.0);
    }
}

/// What the threads share.
struct Shared {
    tree: Arc<Tree>,
    files: Handles<OpenFile>,
    folders: Handles<Listing>,
    /// Whether the top shows all snapshots, so that it changes.
    changes: bool,
}

/// A tree as the kernel's file system.
pub(super) struct Fuse {
    shared: Arc<Shared>,
    names: Pool,
    contents: Pool,
    ahead: Arc<Pool>,
}

impl fmt::Debug for Fuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fuse({:?})", self.names)
    }
}

impl Fuse {
    pub(super) fn new(tree: Arc<Tree>, changes: bool) -> io::Result<Self> {
        let readers = tree.repository().storage().parallelism().clamp(4, 16);
        let shared = Shared { tree, files: Handles::new(), folders: Handles::new(), changes };
        Ok(Self {
            shared: Arc::new(shared),
            names: Pool::start("mount-names", NAME_THREADS, None)?,
            contents: Pool::start("mount-contents", readers, None)?,
            ahead: Arc::new(Pool::start("mount-ahead", AHEAD_THREADS, Some(AHEAD_JOBS))?),
        })
    }

    /// Has a request about names answered.
    fn name(&self, answer: impl FnOnce(&Shared) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.names.run(move || answer(&shared));
    }
}

impl Shared {
    /// Returns how long the kernel may rely on what it is told of a number.
    fn lasts(&self, number: u64) -> Duration {
        if self.changes && (number == ROOT || number == LATEST) { A_MOMENT } else { FOREVER }
    }

    /// Returns how long the kernel may rely on a name in a folder.
    fn name_lasts(&self, folder: u64) -> Duration {
        if self.changes && folder == ROOT { A_MOMENT } else { FOREVER }
    }
}

fn errno(failure: Failure) -> Errno {
    match failure {
        Failure::Missing => Errno::ENOENT,
        Failure::NotFolder => Errno::ENOTDIR,
        Failure::IsFolder => Errno::EISDIR,
        Failure::NoAttribute => Errno::NO_XATTR,
        Failure::TooLong => Errno::E2BIG,
        Failure::Unsuitable => Errno::EINVAL,
        Failure::Store => Errno::EIO,
    }
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Folder => FileType::Directory,
        FileKind::File => FileType::RegularFile,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Pipe => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

fn file_attr(of: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(of.number),
        size: of.size,
        blocks: of.size.div_ceil(512),
        atime: of.modified,
        mtime: of.modified,
        ctime: of.modified,
        crtime: of.modified,
        kind: file_type(of.kind),
        perm: of.permissions,
        nlink: of.links,
        uid: of.uid,
        gid: of.gid,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

/// Answers with bytes that the caller has a buffer of `size` for; a size of 0 asks for the length.
fn reply_sized(bytes: &[u8], size: u32, reply: ReplyXattr) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    match size {
        0 => reply.size(length),
        size if size < length => reply.error(Errno::ERANGE),
        _ => reply.data(bytes),
    }
}

impl Filesystem for Fuse {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Older kernels lack some of these, and do without.
        for wanted in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
        ] {
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let name = name.as_bytes().to_vec();
        self.name(move |shared| match shared.tree.look_up(parent.0, &name) {
            Ok(found) => {
                let lasts = shared.lasts(found.number);
                let name_lasts = shared.name_lasts(parent.0);
                reply.entry_with_ttls(&lasts, &name_lasts, &file_attr(&found), Generation(0));
            }
            Err(failure) => reply.error(errno(failure)),
        });
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.shared.tree.forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.name(move |shared| match shared.tree.attributes(ino.0) {
            Ok(found) => reply.attr(&shared.lasts(ino.0), &file_attr(&found)),
            Err(failure) => reply.error(errno(failure)),
        });
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        self.name(move |shared| match shared.tree.link_text(ino.0) {
            Ok(text) => reply.data(&text),
            Err(failure) => reply.error(errno(failure)),
        });
    }

    fn access(&self, _req: &Request, _ino: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        if mask.contains(AccessFlags::W_OK) { reply.error(Errno::EROFS) } else { reply.ok() }
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        self.name(move |shared| match shared.tree.open_file(ino.0) {
            Ok(file) => reply.opened(shared.files.add(file), FopenFlags::FOPEN_KEEP_CACHE),
            Err(failure) => reply.error(errno(failure)),
        });
    }

    fn read(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(file) = self.shared.files.get(fh) else { return reply.error(Errno::EBADF) };
        let tree = &self.shared.tree;
        let ahead = tree.plan_ahead(&file, offset, size);
        // Chunks that come from one request are asked for together, others by several threads.
        let together = if tree.repository().storage().is_remote() { TOGETHER } else { 1 };
        for chunks in ahead.chunks(together) {
            let (tree, chunks) = (Arc::clone(tree), chunks.to_vec());
            self.ahead.try_run(move || tree.read_ahead(&chunks));
        }
        let tree = Arc::clone(tree);
        self.contents.run(move || match tree.read(&file, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(failure) => reply.error(errno(failure)),
        });
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn release(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.shared.files.close(fh);
        reply.ok();
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.name(move |shared| match shared.tree.open_folder(ino.0) {
            Ok(listing) => reply.opened(shared.folders.add(listing), FopenFlags::empty()),
            Err(failure) => reply.error(errno(failure)),
        });
    }

    fn readdir(&self, _req: &Request, _ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.name(move |shared| {
            let Some(listing) = shared.folders.get(fh) else { return reply.error(Errno::EBADF) };
            for (at, name) in (0..).zip([".", ".."]).skip(usize::try_from(offset).unwrap_or(2)) {
                if reply.add(INodeNo(listing.numbers[at]), at as u64 + 1, FileType::Directory, name) {
                    return reply.ok();
                }
            }
            let listed = shared.tree.list(&listing, offset.saturating_sub(2), &mut |next, listed| {
                let (number, kind) = (INodeNo(listed.attributes.number), file_type(listed.attributes.kind));
                let full = reply.add(number, next + 2, kind, OsStr::from_bytes(&listed.name));
                if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(failure) => reply.error(errno(failure)),
            }
        });
    }

    fn readdirplus(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.name(move |shared| {
            let Some(listing) = shared.folders.get(fh) else { return reply.error(Errno::EBADF) };
            let dots = (0..).zip([".", ".."]).skip(usize::try_from(offset).unwrap_or(2));
            for (at, name) in dots {
                // The kernel takes only names and numbers of these two.
                let owner = (0, 0);
                let attributes =
                    Attributes::of_folder(listing.numbers[at], owner, crate::base::Timestamp::EPOCH);
                let attr = file_attr(&attributes);
                if reply.add(attr.ino, at as u64 + 1, name, &Duration::ZERO, &attr, Generation(0)) {
                    return reply.ok();
                }
            }
            let listed = shared.tree.list(&listing, offset.saturating_sub(2), &mut |next, listed| {
                let attr = file_attr(&listed.attributes);
                let lasts = shared.lasts(listed.attributes.number).min(shared.name_lasts(listing.numbers[0]));
                let name = OsStr::from_bytes(&listed.name);
                if reply.add(attr.ino, next + 2, name, &lasts, &attr, Generation(0)) {
                    return ControlFlow::Break(());
                }
                shared.tree.hold_listed(listed);
                ControlFlow::Continue(())
            });
            match listed {
                Ok(()) => reply.ok(),
                Err(failure) => reply.error(errno(failure)),
            }
        });
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.shared.folders.close(fh);
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.name(move |shared| {
            let (bytes, files) = shared.tree.totals();
            let longest = u32::try_from(LONGEST_NAME).expect("1024");
            reply.statfs(bytes.div_ceil(4096), 0, 0, files, 0, 4096, longest, 4096);
        });
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let name = name.as_bytes().to_vec();
        self.name(move |shared| match shared.tree.attribute(ino.0, &name) {
            Ok(value) => reply_sized(&value, size, reply),
            Err(failure) => reply.error(errno(failure)),
        });
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.name(move |shared| match shared.tree.attribute_names(ino.0) {
            Ok(names) => reply_sized(&names, size, reply),
            Err(failure) => reply.error(errno(failure)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_the_systems_numbers() {
        for (failure, number) in [
            (Failure::Missing, rustix::io::Errno::NOENT),
            (Failure::NotFolder, rustix::io::Errno::NOTDIR),
            (Failure::IsFolder, rustix::io::Errno::ISDIR),
            (Failure::NoAttribute, rustix::io::Errno::NODATA),
            (Failure::TooLong, rustix::io::Errno::TOOBIG),
            (Failure::Unsuitable, rustix::io::Errno::INVAL),
            (Failure::Store, rustix::io::Errno::IO),
        ] {
            assert_eq!(i32::from(errno(failure)), number.raw_os_error(), "{failure}");
        }
    }
}
