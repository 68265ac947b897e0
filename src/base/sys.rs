//! What the standard library says differently on every system, in one place.
//!
//! Linux is what this program is tested on. On other Unix systems the same calls are made where they exist. On Windows
//! files, folders, locks and renames work through the standard library; what has no counterpart there (owners, modes,
//! the synchronisation of a folder) is answered as its function says, and connectors report what they could not
//! keep.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

/// Reads and writes at an offset, wherever the file's cursor stands.
#[cfg(unix)]
pub use std::os::unix::fs::FileExt as FileAt;

/// Reads and writes at an offset. The file's cursor moves: nothing here relies on it between two calls.
#[cfg(windows)]
pub trait FileAt {
    /// Reads at most as much as the buffer takes, from an offset.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at most all of the buffer to an offset.
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize>;

    /// Fills the buffer, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buffer = &mut buffer[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes all of the buffer.
    fn write_all_at(&self, mut buffer: &[u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.write_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    buffer = &buffer[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(windows)]
impl FileAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(self, buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(self, buffer, offset)
    }
}

/// Returns the system's form of a name that is bytes in the format. `None` where the system cannot spell it: Windows
/// takes text only. The way back is [`OsStr::as_encoded_bytes`].
#[cfg(unix)]
pub fn os_str(bytes: &[u8]) -> Option<&OsStr> {
    Some(std::os::unix::ffi::OsStrExt::from_bytes(bytes))
}

/// Returns the system's form of a name that is bytes in the format. `None` where the system cannot spell it: Windows
/// takes text only. The way back is [`OsStr::as_encoded_bytes`].
#[cfg(not(unix))]
pub fn os_str(bytes: &[u8]) -> Option<&OsStr> {
    std::str::from_utf8(bytes).ok().map(OsStr::new)
}

/// Returns the system's form of a part of what the system gave, such as a command line, split at an ASCII character. On
/// Windows, halves of surrogate pairs in it are replaced: they are names of nothing.
#[cfg(unix)]
pub fn os_part(bytes: &[u8]) -> Cow<'_, OsStr> {
    Cow::Borrowed(std::os::unix::ffi::OsStrExt::from_bytes(bytes))
}

/// Returns the system's form of a part of what the system gave, such as a command line, split at an ASCII character. On
/// Windows, halves of surrogate pairs in it are replaced: they are names of nothing.
#[cfg(not(unix))]
pub fn os_part(bytes: &[u8]) -> Cow<'_, OsStr> {
    match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => Cow::Borrowed(OsStr::new(text)),
        Cow::Owned(text) => Cow::Owned(text.into()),
    }
}

/// Returns a builder of folders that only their owner can enter (on Windows: those who can enter the parent).
pub fn private_folder() -> DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "the mode is all there is to set"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Returns options that create files which only their owner can read (on Windows: those who can read the folder).
pub fn private_file() -> OpenOptions {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "the mode is all there is to set"))]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes opening a symbolic link fail (on Windows, where making one takes a privilege, it is followed).
#[cfg_attr(not(unix), expect(unused_variables, reason = "nothing to set there"))]
pub fn refuse_links(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        options,
        rustix::fs::OFlags::NOFOLLOW.bits().cast_signed(),
    );
}

/// Returns whether no name leads to a file any more (on Windows every file has one).
#[cfg_attr(not(unix), expect(unused_variables, reason = "nothing to see there"))]
pub fn is_unnamed(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(metadata) == 0;
    #[cfg(not(unix))]
    false
}

/// Takes a file away from everybody but its owner (on Windows: leaves it to the folder's rules).
#[cfg_attr(not(unix), expect(unused_variables, clippy::unnecessary_wraps, reason = "nothing to do there"))]
pub fn make_private(file: &File) -> io::Result<()> {
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(())
}

/// Returns whether a folder or file is the user's own and nobody else can enter or read it. Windows keeps the folders
/// of a user for that user by itself: there the answer is always yes.
#[cfg_attr(not(unix), expect(unused_variables, reason = "nothing to see there"))]
pub fn is_private(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        metadata.uid() == rustix::process::geteuid().as_raw() && !is_open_to_others(metadata)
    }
    #[cfg(not(unix))]
    true
}

/// Returns whether others may have a look at something (on Windows: no, as far as this program can see).
#[cfg_attr(not(unix), expect(unused_variables, reason = "nothing to see there"))]
pub fn is_open_to_others(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::mode(metadata) & 0o077 != 0;
    #[cfg(not(unix))]
    false
}

/// Returns whether others may change something (on Windows: no, as far as this program can see).
#[cfg_attr(not(unix), expect(unused_variables, reason = "nothing to see there"))]
pub fn is_writable_by_others(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::mode(metadata) & 0o022 != 0;
    #[cfg(not(unix))]
    false
}

/// Makes the names in a folder durable. Windows has no such call: its file system keeps a journal of names.
#[cfg_attr(not(unix), expect(unused_variables, clippy::unnecessary_wraps, reason = "nothing to do there"))]
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Opens a folder to set its times.
pub fn open_folder_for_times(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt as _;
        /// `FILE_WRITE_ATTRIBUTES` and `FILE_FLAG_BACKUP_SEMANTICS`, without which no folder can be opened.
        const WRITE_ATTRIBUTES: u32 = 0x100;
        const BACKUP_SEMANTICS: u32 = 0x0200_0000;
        options.access_mode(WRITE_ATTRIBUTES).custom_flags(BACKUP_SEMANTICS);
    }
    options.open(folder)
}

/// Opens what stands for a folder when it is locked: the folder itself, on Windows a file `.lock` in it.
pub fn lock_file(folder: &Path) -> io::Result<File> {
    #[cfg(unix)]
    return File::open(folder);
    #[cfg(not(unix))]
    OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(".lock"))
}

/// Returns the numbers of the user and of the group that this process acts as; root's where there are none.
pub fn process_owner() -> (u64, u64) {
    #[cfg(unix)]
    return (rustix::process::geteuid().as_raw().into(), rustix::process::getegid().as_raw().into());
    #[cfg(not(unix))]
    return (0, 0);
}

/// Returns the name of this machine; empty where the system does not tell.
pub fn host_name() -> Vec<u8> {
    #[cfg(unix)]
    return rustix::system::uname().nodename().to_bytes().to_vec();
    #[cfg(not(unix))]
    std::env::var_os("COMPUTERNAME").unwrap_or_default().as_encoded_bytes().to_vec()
}

/// Returns the name of the user that this process runs for.
pub fn user_name() -> Option<String> {
    #[cfg(unix)]
    let name = uzers::get_current_username();
    #[cfg(not(unix))]
    let name = std::env::var_os("USERNAME");
    name.map(|name| name.to_string_lossy().into_owned())
}

/// Creates a file that lies in memory: for what is small, where no folder takes it.
pub fn memory_file() -> io::Result<File> {
    #[cfg(target_os = "linux")]
    return Ok(File::from(rustix::fs::memfd_create("plakar", rustix::fs::MemfdFlags::CLOEXEC)?));
    #[cfg(not(target_os = "linux"))]
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns how many bytes may still be written to the disk of a folder, `None` where that is not known.
#[cfg_attr(not(unix), expect(unused_variables, reason = "nobody is asked there"))]
pub fn free_space(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(folder).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    #[cfg(not(unix))]
    None
}

/// Waits until somebody connects to a listener that does not block, or some time has passed, or a signal came. Returns
/// whether it is worth asking.
pub fn wait_for_visitor(listener: &TcpListener, most: Duration) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let most = Timespec::try_from(most).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&most)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(false),
            Ok(_) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
    #[cfg(not(unix))]
    {
        // There is nothing to wait on: asking again soon is the best there is.
        let _ = listener;
        std::thread::sleep(most.min(Duration::from_millis(20)));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_things_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        private_folder().recursive(true).create(&folder).unwrap();
        let file = private_file().write(true).create(true).truncate(true).open(folder.join("f")).unwrap();
        for metadata in [folder.metadata().unwrap(), file.metadata().unwrap()] {
            assert!(
                is_private(&metadata) && !is_open_to_others(&metadata) && !is_writable_by_others(&metadata)
            );
        }
        make_private(&file).unwrap();
        sync_folder(&folder).unwrap();
        let lock = lock_file(&folder).unwrap();
        lock.lock().unwrap();
        assert!(lock_file(&folder).unwrap().try_lock().is_err());
    }

    #[test]
    fn names_and_places_are_known() {
        assert_eq!(os_str(b"a/b"), Some(OsStr::new("a/b")));
        assert!(!host_name().is_empty());
        assert!(free_space(&std::env::temp_dir()).is_none_or(|free| free > 0));
    }
}
