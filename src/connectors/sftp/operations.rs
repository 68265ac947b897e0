//! The operations of the protocol, one request each.

use super::connection::{Connection, Ticket};
use super::wire::{Attrs, Fields, Named, Packet, Reply, kind, status};
use crate::base::Printable;
use crate::connector::{Error, ErrorKind, Result};
use crate::connectors::tree::MOST_BYTES;

/// An opened file or folder. Its connection goes with it: nobody else knows it.
pub(super) type Handle = Vec<u8>;

/// Names, each as the server sends it.
type Names = Vec<Vec<u8>>;

/// The size and the free space of a file system in bytes, as an ordinary user has them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    /// What is free.
    pub(super) free: u64,
    /// Free inodes; all bits set where there is no such limit.
    pub(super) free_inodes: u64,
}

fn shown(path: &[u8]) -> String {
    Printable::new(path).to_string()
}

/// Makes the error of an answer that is not the one to this request.
pub(super) fn senseless(op: &'static str, target: String) -> Error {
    Error::new(ErrorKind::Protocol, op, target).detail("the server's answer is not one to this request")
}

/// Makes the error of a status.
pub(super) fn failure(op: &'static str, target: String, code: u32, message: &str) -> Error {
    let kind = match code {
        status::NO_SUCH_FILE | status::NO_SUCH_PATH => ErrorKind::NotFound,
        status::PERMISSION_DENIED => ErrorKind::Denied,
        status::BAD_MESSAGE => ErrorKind::Protocol,
        status::NO_CONNECTION | status::CONNECTION_LOST => ErrorKind::Transport,
        status::UNSUPPORTED => ErrorKind::Unsupported,
        status::ALREADY_EXISTS => ErrorKind::Exists,
        status::WRITE_PROTECT => ErrorKind::ReadOnly,
        status::NO_SPACE | status::QUOTA => ErrorKind::Full,
        _ => ErrorKind::Io,
    };
    let words = match message {
        "" => format!("the server answers with code {code}"),
        words => Printable::message(words).to_string(),
    };
    Error::new(kind, op, target).detail(words)
}

/// Waits for a status that says that it went well.
pub(super) fn done(ticket: Ticket, op: &'static str, target: &dyn Fn() -> String) -> Result<()> {
    match ticket.wait(op, target)? {
        Reply::Status { code: status::OK, .. } => Ok(()),
        Reply::Status { code, message } => Err(failure(op, target(), code, &message)),
        _ => Err(senseless(op, target())),
    }
}

/// Waits for bytes of a file; `None` at its end.
pub(super) fn data(
    ticket: Ticket,
    most: usize,
    target: &dyn Fn() -> String,
) -> Result<Option<(Vec<u8>, usize)>> {
    match ticket.wait("read", target)? {
        Reply::Data { packet, from } if (1..=most).contains(&(packet.len() - from)) => {
            Ok(Some((packet, from)))
        }
        Reply::Status { code: status::EOF, .. } => Ok(None),
        Reply::Status { code, message } => Err(failure("read", target(), code, &message)),
        _ => Err(senseless("read", target())),
    }
}

impl Connection {
    fn status(&self, packet: Packet, op: &'static str, path: &[u8]) -> Result<()> {
        let target = || shown(path);
        done(self.send(packet, op, &target)?, op, &target)
    }

    fn handle(&self, packet: Packet, op: &'static str, path: &[u8]) -> Result<Handle> {
        let target = || shown(path);
        match self.send(packet, op, &target)?.wait(op, &target)? {
            Reply::Handle(handle) => Ok(handle),
            Reply::Status { code, message } if code != status::OK => {
                Err(failure(op, target(), code, &message))
            }
            _ => Err(senseless(op, target())),
        }
    }

    fn attrs(&self, packet: Packet, path: &[u8]) -> Result<Attrs> {
        let target = || shown(path);
        match self.send(packet, "look at", &target)?.wait("look at", &target)? {
            Reply::Attrs(attrs) => Ok(attrs),
            Reply::Status { code, message } if code != status::OK => {
                Err(failure("look at", target(), code, &message))
            }
            _ => Err(senseless("look at", target())),
        }
    }

    /// Waits for a listing of exactly one name.
    fn name(&self, packet: Packet, op: &'static str, path: &[u8]) -> Result<Vec<u8>> {
        let target = || shown(path);
        match self.send(packet, op, &target)?.wait(op, &target)? {
            Reply::Names(mut names) if names.len() == 1 => Ok(names.remove(0).name),
            Reply::Status { code, message } if code != status::OK => {
                Err(failure(op, target(), code, &message))
            }
            _ => Err(senseless(op, target())),
        }
    }

    /// Asks for the attributes of a path; a link's are its own.
    pub(super) fn lstat(&self, path: &[u8]) -> Result<Attrs> {
        self.attrs(Packet::new(kind::LSTAT).string(path), path)
    }

    /// Asks for the attributes of what a path leads to.
    pub(super) fn stat(&self, path: &[u8]) -> Result<Attrs> {
        self.attrs(Packet::new(kind::STAT).string(path), path)
    }

    /// Asks for the attributes of an opened file; `path` is for errors.
    pub(super) fn fstat(&self, handle: &Handle, path: &[u8]) -> Result<Attrs> {
        self.attrs(Packet::new(kind::FSTAT).string(handle), path)
    }

    /// Opens a file. With `CREATE` it gets the attributes.
    pub(super) fn open_file(&self, path: &[u8], flags: u32, attrs: &Attrs) -> Result<Handle> {
        let op = if flags & super::wire::open::CREATE == 0 { "open" } else { "create" };
        self.handle(Packet::new(kind::OPEN).string(path).u32(flags).attrs(attrs), op, path)
    }

    /// Opens a folder to list it.
    pub(super) fn open_folder(&self, path: &[u8]) -> Result<Handle> {
        self.handle(Packet::new(kind::OPENDIR).string(path), "list", path)
    }

    /// Closes a handle, and waits to hear whether that went well.
    pub(super) fn close(&self, handle: &Handle, path: &[u8]) -> Result<()> {
        self.status(Packet::new(kind::CLOSE).string(handle), "close", path)
    }

    /// Closes a handle of which nothing is expected any more.
    pub(super) fn let_go(&self, handle: &Handle) {
        // On a connection that is gone the handle is gone, too.
        let _ = self.send(Packet::new(kind::CLOSE).string(handle), "close", &String::new);
    }

    /// Asks for the next names of an opened folder.
    pub(super) fn ask_names(&self, handle: &Handle, path: &[u8]) -> Result<Ticket> {
        self.send(Packet::new(kind::READDIR).string(handle), "list", &|| shown(path))
    }

    /// Asks for bytes of an opened file.
    pub(super) fn ask_data(
        &self,
        handle: &Handle,
        path: &[u8],
        offset: u64,
        length: usize,
    ) -> Result<Ticket> {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.send(Packet::new(kind::READ).string(handle).u64(offset).u32(length), "read", &|| shown(path))
    }

    /// Sends bytes for an opened file.
    pub(super) fn send_data(
        &self,
        handle: &Handle,
        path: &[u8],
        offset: u64,
        bytes: &[u8],
    ) -> Result<Ticket> {
        self.send(Packet::new(kind::WRITE).string(handle).u64(offset).string(bytes), "write", &|| shown(path))
    }

    /// Sets attributes of a path; links are followed.
    pub(super) fn set(&self, path: &[u8], attrs: &Attrs) -> Result<()> {
        self.status(Packet::new(kind::SETSTAT).string(path).attrs(attrs), "set the metadata of", path)
    }

    /// Sets attributes of an opened file.
    pub(super) fn set_open(&self, handle: &Handle, path: &[u8], attrs: &Attrs) -> Result<()> {
        self.status(Packet::new(kind::FSETSTAT).string(handle).attrs(attrs), "set the metadata of", path)
    }

    /// Sets attributes of a link itself, where the server can.
    pub(super) fn set_link(&self, path: &[u8], attrs: &Attrs) -> Result<()> {
        let packet = Packet::extended("lsetstat@openssh.com").string(path).attrs(attrs);
        self.status(packet, "set the metadata of", path)
    }

    /// Removes a file or a link.
    pub(super) fn remove(&self, path: &[u8]) -> Result<()> {
        self.status(Packet::new(kind::REMOVE).string(path), "delete", path)
    }

    /// Asks for a folder to be made.
    pub(super) fn ask_folder(&self, path: &[u8], mode: u32) -> Result<Ticket> {
        let packet = Packet::new(kind::MKDIR).string(path).attrs(&Attrs::permissions(mode));
        self.send(packet, "create", &|| shown(path))
    }

    /// Makes a folder.
    pub(super) fn make_folder(&self, path: &[u8], mode: u32) -> Result<()> {
        done(self.ask_folder(path, mode)?, "create", &|| shown(path))
    }

    /// Makes a path absolute.
    pub(super) fn real_path(&self, path: &[u8]) -> Result<Vec<u8>> {
        let real = self.name(Packet::new(kind::REALPATH).string(path), "find", path)?;
        if !real.starts_with(b"/") || real.contains(&0) {
            return Err(senseless("find", shown(path)));
        }
        Ok(real)
    }

    /// Reads where a link leads.
    pub(super) fn read_link(&self, path: &[u8]) -> Result<Vec<u8>> {
        self.name(Packet::new(kind::READLINK).string(path), "read the link", path)
    }

    /// Makes a symbolic link. OpenSSH has the two paths in the other order than the draft, and everybody follows it.
    pub(super) fn make_link(&self, target: &[u8], path: &[u8]) -> Result<()> {
        self.status(Packet::new(kind::SYMLINK).string(target).string(path), "create", path)
    }

    /// Makes a second name of a file.
    pub(super) fn hard_link(&self, first: &[u8], path: &[u8]) -> Result<()> {
        let packet = Packet::extended("hardlink@openssh.com").string(first).string(path);
        self.status(packet, "link", path)
    }

    /// Renames to a name that is not in use.
    pub(super) fn rename_new(&self, from: &[u8], to: &[u8]) -> Result<()> {
        self.status(Packet::new(kind::RENAME).string(from).string(to), "rename to", to)
    }

    /// Returns whether a name can be replaced in one step.
    pub(super) fn can_replace(&self) -> bool {
        self.has("posix-rename@openssh.com")
    }

    /// Renames, replacing what has the name.
    pub(super) fn rename_over(&self, from: &[u8], to: &[u8]) -> Result<()> {
        let packet = Packet::extended("posix-rename@openssh.com").string(from).string(to);
        self.status(packet, "rename to", to)
    }

    /// Returns whether files can be synchronised.
    pub(super) fn can_synchronise(&self) -> bool {
        self.has("fsync@openssh.com")
    }

    /// Waits until an opened file, or folder, is on the server's disk.
    pub(super) fn synchronise(&self, handle: &Handle, path: &[u8]) -> Result<()> {
        self.status(Packet::extended("fsync@openssh.com").string(handle), "synchronise", path)
    }

    /// Asks for the free space where a path lies; `None` where the server does not tell.
    pub(super) fn space(&self, path: &[u8]) -> Option<Space> {
        if !self.has("statvfs@openssh.com") {
            return None;
        }
        let target = || shown(path);
        let packet = Packet::extended("statvfs@openssh.com").string(path);
        let Ok(Reply::Extended(bytes)) = self.send(packet, "look at", &target).ok()?.wait("look at", &target)
        else {
            return None;
        };
        let mut fields = Fields(&bytes);
        let _block = fields.u64()?;
        let unit = fields.u64()?;
        let (_blocks, _free, available) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (inodes, _free_inodes, available_inodes) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let free_inodes = if inodes == 0 { u64::MAX } else { available_inodes };
        Some(Space { free: unit.saturating_mul(available), free_inodes })
    }

    /// Asks for the names of users and groups by their numbers; empty where the server does not know one. `None`
    /// where it has no such thing.
    pub(super) fn owner_names(&self, users: &[u32], groups: &[u32]) -> Option<(Names, Names)> {
        if !self.has("users-groups-by-id@openssh.com") {
            return None;
        }
        let numbers =
            |ids: &[u32]| -> Vec<u8> { ids.iter().flat_map(|id| super::wire::bytes_of(*id)).collect() };
        let packet =
            Packet::extended("users-groups-by-id@openssh.com").string(numbers(users)).string(numbers(groups));
        let target = || "the owners' names".to_owned();
        let Ok(Reply::Extended(bytes)) = self.send(packet, "ask for", &target).ok()?.wait("ask for", &target)
        else {
            return None;
        };
        let mut fields = Fields(&bytes);
        let mut names = |count: usize| -> Option<Vec<Vec<u8>>> {
            let mut list = Fields(fields.string()?);
            (0..count).map(|_| list.string().map(<[u8]>::to_vec)).collect()
        };
        Some((names(users.len())?, names(groups.len())?))
    }

    /// Lists a folder, passing on what the server sends, in its order. Two requests are under way at a time.
    ///
    /// Fails with `Protocol` after `most` names, or [`MOST_BYTES`] of them: a listing that does not end must end here.
    pub(super) fn each_name(
        &self,
        path: &[u8],
        most: usize,
        each: &mut dyn FnMut(Named) -> Result<()>,
    ) -> Result<()> {
        let handle = self.open_folder(path)?;
        let listed = self.read_names(&handle, path, most, each);
        self.let_go(&handle);
        listed
    }

    fn read_names(
        &self,
        handle: &Handle,
        path: &[u8],
        most: usize,
        each: &mut dyn FnMut(Named) -> Result<()>,
    ) -> Result<()> {
        let target = || shown(path);
        let (mut count, mut bytes) = (0_usize, 0_usize);
        let mut next = self.ask_names(handle, path)?;
        loop {
            let after = self.ask_names(handle, path)?;
            match std::mem::replace(&mut next, after).wait("list", &target)? {
                Reply::Names(names) if !names.is_empty() => {
                    count += names.len();
                    if count > most {
                        return Err(Error::new(ErrorKind::Protocol, "list", target())
                            .detail(format!("the server lists more than {most} names")));
                    }
                    bytes += names.iter().map(|named| named.name.len()).sum::<usize>();
                    if bytes > MOST_BYTES {
                        return Err(Error::new(ErrorKind::Protocol, "list", target())
                            .detail(format!("the server lists names of more than {MOST_BYTES} bytes")));
                    }
                    for name in names.into_iter().filter(|named| !matches!(&named.name[..], b"." | b"..")) {
                        each(name)?;
                    }
                }
                Reply::Status { code: status::EOF, .. } => return Ok(()),
                Reply::Status { code, message } if code != status::OK => {
                    return Err(failure("list", target(), code, &message));
                }
                _ => return Err(senseless("list", target())),
            }
        }
    }
}
