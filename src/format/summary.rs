//! Summaries of folders (blob type 21), and how they add up.
//!
//! A summary counts the direct children of a folder and, apart from them, all deeper levels. It is informative: 0
//! means "unset", so minima depend on the order of visits. The rules below are upstream's, kept to the letter so
//! that summaries of equal folders are equal blobs.

use super::entry::{Entry, Mode};
use super::error::Result;
use super::msgpack::{MapWriter, Reader, Writer};

/// What is counted of one folder: its direct children and everything below them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Summary {
    /// The direct children.
    pub directory: Counts,
    /// All deeper levels. `avg_size`, `sum_entropy` and `avg_entropy` are not kept here and stay 0.
    pub below: Counts,
}

macro_rules! counts {
    ($( $(#[doc = $doc:literal])+ $field:ident $key:literal $kind:ident $scope:ident; )+) => {
        /// The members of a summary, in the order of the serialization. 0 is "unset".
        #[derive(Clone, PartialEq, Debug, Default)]
        pub struct Counts {
            $( $(#[doc = $doc])+ pub $field: $kind, )+
        }

        impl Counts {
            #[expect(clippy::float_cmp, reason = "exactly 0 is what is left out")]
            fn write(&self, m: &mut MapWriter<'_>, scope: Scope) {
                $(
                    let wanted = self.$field != <$kind>::default() || scope.always($key);
                    if wanted && Scope::$scope.covers(scope) {
                        m.key($key).$kind(self.$field);
                    }
                )+
            }

            fn read(r: &mut Reader<'_>, scope: Scope) -> Result<Self> {
                let mut counts = Self::default();
                r.map(|key, r| {
                    $(
                        if key == $key.as_bytes() && Scope::$scope.covers(scope) {
                            counts.$field = r.$kind()?;
                            return Ok(());
                        }
                    )+
                    r.skip()
                })?;
                Ok(counts)
            }
        }
    };
}

/// Which of the two halves has a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Both,
    Directory,
    Below,
}

impl Scope {
    fn covers(self, half: Self) -> bool {
        self == Self::Both || self == half
    }

    /// Returns whether a half has this member even when it is 0.
    fn always(self, key: &str) -> bool {
        self == Self::Below && key == "errors"
    }
}

counts! {
    /// Folders.
    directories "directories" u64 Both;
    /// Regular files.
    files "files" u64 Both;
    /// Symbolic links.
    symlinks "symlinks" u64 Both;
    /// Devices.
    devices "devices" u64 Both;
    /// Named pipes.
    pipes "pipes" u64 Both;
    /// Sockets.
    sockets "sockets" u64 Both;
    /// All of the above.
    children "children" u64 Both;
    /// Entries with the set-user-id bit, folders excepted.
    setuid "setuid" u64 Both;
    /// Entries with the set-group-id bit, folders excepted.
    setgid "setgid" u64 Both;
    /// Entries with the sticky bit, folders excepted.
    sticky "sticky" u64 Both;
    /// Entries with an object.
    objects "objects" u64 Both;
    /// Chunks of those objects.
    chunks "chunks" u64 Both;
    /// The smallest size in bytes.
    min_size "min_size" u64 Both;
    /// The largest size in bytes.
    max_size "max_size" u64 Both;
    /// The mean size of a regular file in bytes.
    avg_size "avg_size" u64 Directory;
    /// The sum of the sizes in bytes.
    size "size" u64 Both;
    /// The earliest modification, Unix seconds.
    min_mod_time "min_mod_time" i64 Both;
    /// The latest modification, Unix seconds.
    max_mod_time "max_mod_time" i64 Both;
    /// The smallest entropy, bits per byte.
    min_entropy "min_entropy" f64 Both;
    /// The largest entropy, bits per byte.
    max_entropy "max_entropy" f64 Both;
    /// The sum of the entropies.
    sum_entropy "sum_entropy" f64 Directory;
    /// The mean entropy of a regular file.
    avg_entropy "avg_entropy" f64 Directory;
    /// Entries of an entropy of 7 and more.
    hi_entropy "hi_entropy" u64 Both;
    /// Entries of an entropy of 2 and less.
    lo_entropy "lo_entropy" u64 Both;
    /// Contents of type `audio/…`.
    mime_audio "MIME_audio" u64 Both;
    /// Contents of type `video/…`.
    mime_video "MIME_video" u64 Both;
    /// Contents of type `image/…`.
    mime_image "MIME_image" u64 Both;
    /// Contents of type `text/…`.
    mime_text "MIME_text" u64 Both;
    /// Contents of type `application/…`.
    mime_application "MIME_application" u64 Both;
    /// Contents of other types.
    mime_other "MIME_other" u64 Both;
    /// Errors. Those of the folder's direct children are counted in `below`, where the key is never left out.
    errors "errors" u64 Both;
}

/// Lowers `own` to `value`; 0 counts as unset.
fn lower<T: PartialOrd + Default + Copy>(own: &mut T, value: T) {
    if *own == T::default() || value < *own {
        *own = value;
    }
}

/// Raises `own` to `value`; 0 counts as unset.
fn raise<T: PartialOrd + Default + Copy>(own: &mut T, value: T) {
    if *own == T::default() || value > *own {
        *own = value;
    }
}

fn add(own: &mut u64, value: u64) {
    *own = own.wrapping_add(value);
}

impl Counts {
    /// Adds the counters of `other`.
    fn add_counters(&mut self, other: &Self) {
        add(&mut self.directories, other.directories);
        add(&mut self.files, other.files);
        add(&mut self.symlinks, other.symlinks);
        add(&mut self.devices, other.devices);
        add(&mut self.pipes, other.pipes);
        add(&mut self.sockets, other.sockets);
        add(&mut self.children, other.children);
        add(&mut self.setuid, other.setuid);
        add(&mut self.setgid, other.setgid);
        add(&mut self.sticky, other.sticky);
        add(&mut self.objects, other.objects);
        add(&mut self.chunks, other.chunks);
        add(&mut self.size, other.size);
        add(&mut self.hi_entropy, other.hi_entropy);
        add(&mut self.lo_entropy, other.lo_entropy);
        add(&mut self.mime_audio, other.mime_audio);
        add(&mut self.mime_video, other.mime_video);
        add(&mut self.mime_image, other.mime_image);
        add(&mut self.mime_text, other.mime_text);
        add(&mut self.mime_application, other.mime_application);
        add(&mut self.mime_other, other.mime_other);
        add(&mut self.errors, other.errors);
    }

    /// Widens the ranges to those of `other`.
    fn widen(&mut self, other: &Self) {
        lower(&mut self.min_size, other.min_size);
        raise(&mut self.max_size, other.max_size);
        lower(&mut self.min_mod_time, other.min_mod_time);
        raise(&mut self.max_mod_time, other.max_mod_time);
        lower(&mut self.min_entropy, other.min_entropy);
        raise(&mut self.max_entropy, other.max_entropy);
    }

    fn count_type(&mut self, mode: Mode) {
        let counter = if mode.is_dir() {
            &mut self.directories
        } else if mode.is_symlink() {
            &mut self.symlinks
        } else if mode.is_device() {
            &mut self.devices
        } else if mode.is_pipe() {
            &mut self.pipes
        } else if mode.is_socket() {
            &mut self.sockets
        } else if mode.is_regular() {
            &mut self.files
        } else {
            return;
        };
        add(counter, 1);
    }

    fn count_mime(&mut self, content_type: &[u8]) {
        let counter = if content_type.is_empty() {
            return;
        } else if content_type.starts_with(b"audio/") {
            &mut self.mime_audio
        } else if content_type.starts_with(b"video/") {
            &mut self.mime_video
        } else if content_type.starts_with(b"image/") {
            &mut self.mime_image
        } else if content_type.starts_with(b"text/") {
            &mut self.mime_text
        } else if content_type.starts_with(b"application/") {
            &mut self.mime_application
        } else {
            &mut self.mime_other
        };
        add(counter, 1);
    }
}

impl Summary {
    /// Counts a direct child. For a folder, [`Summary::merge_child`] has to follow.
    ///
    /// Children come in byte order of their paths.
    pub fn add_child_entry(&mut self, entry: &Entry) {
        let own = &mut self.directory;
        let mode = entry.info.mode;
        add(&mut own.children, 1);
        own.count_type(mode);
        if mode.is_dir() {
            return;
        }
        for (bit, counter) in [
            (Mode::SETUID, &mut own.setuid),
            (Mode::SETGID, &mut own.setgid),
            (Mode::STICKY, &mut own.sticky),
        ] {
            add(counter, u64::from(mode.has(bit)));
        }
        if !entry.object.is_zero() {
            add(&mut own.objects, 1);
            add(&mut own.chunks, entry.chunks);
        }
        let size = if mode.is_regular() { u64::try_from(entry.info.size).unwrap_or(0) } else { 0 };
        let seconds = entry.info.modified.secs;
        lower(&mut own.min_mod_time, seconds);
        raise(&mut own.max_mod_time, seconds);
        lower(&mut own.min_size, size);
        raise(&mut own.max_size, size);
        lower(&mut own.min_entropy, entry.entropy);
        raise(&mut own.max_entropy, entry.entropy);
        if entry.entropy <= 2.0 {
            add(&mut own.lo_entropy, 1);
        } else if entry.entropy >= 7.0 {
            add(&mut own.hi_entropy, 1);
        }
        own.count_mime(&entry.content_type);
        add(&mut own.size, size);
        own.sum_entropy += entry.entropy;
    }

    /// Merges the finished summary of a child folder into the levels below.
    pub fn merge_child(&mut self, child: &Self) {
        let own = &mut self.below;
        for half in [&child.below, &child.directory] {
            own.add_counters(half);
            own.widen(half);
        }
    }

    /// Ends the counting of a folder, after all its children: `errors` is the number of error items of its direct
    /// children.
    pub fn finish(&mut self, errors: u64) {
        // Upstream counts a folder's own errors below it; equal blobs are worth more than the right half.
        add(&mut self.below.errors, errors);
        let own = &mut self.directory;
        if let Some(average) = own.size.checked_div(own.files) {
            own.avg_size = average;
            own.avg_entropy = own.sum_entropy / own.files as f64;
        }
    }

    /// Returns the bytes of all contents in the folder and below.
    pub fn total_size(&self) -> u64 {
        self.directory.size.saturating_add(self.below.size)
    }

    /// Returns the number of regular files in the folder and below.
    pub fn total_files(&self) -> u64 {
        self.directory.files.saturating_add(self.below.files)
    }

    /// Returns the number of folders in the folder and below.
    pub fn total_directories(&self) -> u64 {
        self.directory.directories.saturating_add(self.below.directories)
    }

    /// Returns the number of errors in the folder and below.
    pub fn total_errors(&self) -> u64 {
        self.directory.errors.saturating_add(self.below.errors)
    }

    pub(crate) fn write(&self, w: &mut Writer<'_>) {
        w.map(|m| {
            if self.directory != Counts::default() {
                m.key("directory").map(|m| self.directory.write(m, Scope::Directory));
            }
            m.key("below").map(|m| self.below.write(m, Scope::Below));
        });
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self> {
        let mut summary = Self::default();
        r.map(|key, r| {
            match key {
                b"directory" => summary.directory = Counts::read(r, Scope::Directory)?,
                b"below" => summary.below = Counts::read(r, Scope::Below)?,
                _ => r.skip()?,
            }
            Ok(())
        })?;
        Ok(summary)
    }

    /// Encodes the canonical serialization.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut Writer::new(&mut out));
        out
    }

    /// Decodes a serialization.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = Reader::new("summary", bytes);
        let summary = Self::read(&mut r)?;
        r.finish()?;
        Ok(summary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Id, Timestamp};
    use crate::format::entry::FileInfo;

    fn file(name: &str, size: i64, secs: i64, entropy: f64) -> Entry {
        let mut entry = Entry::new("/", FileInfo::new(name, Mode::regular(0o644)));
        entry.info.size = size;
        entry.info.modified = Timestamp::from_secs(secs);
        entry.object = Id([1; 32]);
        entry.chunks = 2;
        entry.entropy = entropy;
        entry.content_type = "text/plain".into();
        entry
    }

    #[test]
    fn zero_means_unset() {
        let mut summary = Summary::default();
        summary.add_child_entry(&file("a", 10, 100, 1.0));
        summary.add_child_entry(&file("b", 20, 50, 8.0));
        let mut link = Entry::new("/", FileInfo::new("c", Mode::SYMLINK.with(Mode::PERMISSIONS)));
        link.info.size = 9;
        link.info.modified = Timestamp::from_secs(70);
        link.content_type = "application/x-not-regular-file".into();
        summary.add_child_entry(&link);
        summary.finish(1);
        let own = &summary.directory;
        assert_eq!((own.children, own.files, own.symlinks, own.objects, own.chunks), (3, 2, 1, 2, 4));
        // The link's size of 0 is below 10, so it becomes the minimum, which reads as unset.
        assert_eq!((own.min_size, own.max_size, own.size, own.avg_size), (0, 20, 30, 15));
        assert_eq!((own.min_mod_time, own.max_mod_time), (50, 100));
        assert_eq!((own.lo_entropy, own.hi_entropy, own.mime_text, own.mime_application), (2, 1, 2, 1));
        assert_eq!(summary.below.errors, 1);
        let mut parent = Summary::default();
        parent.add_child_entry(&Entry::new("/", FileInfo::new("d", Mode::dir(0o755))));
        parent.merge_child(&summary);
        parent.finish(0);
        assert_eq!((parent.directory.children, parent.directory.directories), (1, 1));
        assert_eq!((parent.below.children, parent.below.size, parent.below.errors), (3, 30, 1));
        for summary in [summary, parent] {
            assert_eq!(Summary::decode(&summary.encode()).unwrap(), summary);
        }
    }
}
