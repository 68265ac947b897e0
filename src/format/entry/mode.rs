//! Mode bits: those of the format are Go's, not Unix's.

/// A Go file mode (FORMAT.md, "Mode bits").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mode(pub u32);

impl Mode {
    /// A folder.
    pub const DIR: Self = Self(1 << 31);
    /// A symbolic link.
    pub const SYMLINK: Self = Self(1 << 27);
    /// A device: a block device unless [`Mode::CHAR_DEVICE`] is set too.
    pub const DEVICE: Self = Self(1 << 26);
    /// A named pipe.
    pub const PIPE: Self = Self(1 << 25);
    /// A socket.
    pub const SOCKET: Self = Self(1 << 24);
    /// Set user id.
    pub const SETUID: Self = Self(1 << 23);
    /// Set group id.
    pub const SETGID: Self = Self(1 << 22);
    /// A character device, beside [`Mode::DEVICE`].
    pub const CHAR_DEVICE: Self = Self(1 << 21);
    /// Sticky.
    pub const STICKY: Self = Self(1 << 20);
    /// Something that is none of the other types.
    pub const IRREGULAR: Self = Self(1 << 19);
    /// The permission bits, as on Unix.
    pub const PERMISSIONS: Self = Self(0o777);
    /// All bits that tell a type; a regular file has none of them.
    pub const TYPE: Self = Self(
        Self::DIR.0
            | Self::SYMLINK.0
            | Self::DEVICE.0
            | Self::PIPE.0
            | Self::SOCKET.0
            | Self::CHAR_DEVICE.0
            | Self::IRREGULAR.0,
    );

    /// Returns whether any bit of `bits` is set.
    pub const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }

    /// Returns the mode with the bits of `bits` added.
    #[must_use]
    pub const fn with(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// Returns the mode of a folder with these Unix permissions (`0o755`).
    pub const fn dir(permissions: u32) -> Self {
        Self(Self::DIR.0 | permissions & 0o777)
    }

    /// Returns the mode of a regular file with these Unix permissions (`0o644`).
    pub const fn regular(permissions: u32) -> Self {
        Self(permissions & 0o777)
    }

    /// Returns whether this is a folder.
    pub const fn is_dir(self) -> bool {
        self.has(Self::DIR)
    }

    /// Returns whether this is a regular file.
    pub const fn is_regular(self) -> bool {
        !self.has(Self::TYPE)
    }

    /// Returns whether this is a symbolic link.
    pub const fn is_symlink(self) -> bool {
        self.has(Self::SYMLINK)
    }

    /// Returns whether this is a device of either kind.
    pub const fn is_device(self) -> bool {
        self.has(Self::DEVICE)
    }

    /// Returns whether this is a character device.
    pub const fn is_char_device(self) -> bool {
        self.has(Self::DEVICE) && self.has(Self::CHAR_DEVICE)
    }

    /// Returns whether this is a block device.
    pub const fn is_block_device(self) -> bool {
        self.has(Self::DEVICE) && !self.has(Self::CHAR_DEVICE)
    }

    /// Returns whether this is a named pipe.
    pub const fn is_pipe(self) -> bool {
        self.has(Self::PIPE)
    }

    /// Returns whether this is a socket.
    pub const fn is_socket(self) -> bool {
        self.has(Self::SOCKET)
    }

    /// Returns the permission bits, set-id and sticky bits left out.
    pub const fn permissions(self) -> u32 {
        self.0 & Self::PERMISSIONS.0
    }

    /// Translates a Unix `st_mode`.
    pub const fn from_unix(st_mode: u32) -> Self {
        let kind = match st_mode & 0o170_000 {
            0o040_000 => Self::DIR,
            0o120_000 => Self::SYMLINK,
            0o060_000 => Self::DEVICE,
            0o020_000 => Self::DEVICE.with(Self::CHAR_DEVICE),
            0o010_000 => Self::PIPE,
            0o140_000 => Self::SOCKET,
            0o100_000 => Self(0),
            _ => Self::IRREGULAR,
        };
        let mut mode = kind.with(Self(st_mode & 0o777));
        if st_mode & 0o4000 != 0 {
            mode = mode.with(Self::SETUID);
        }
        if st_mode & 0o2000 != 0 {
            mode = mode.with(Self::SETGID);
        }
        if st_mode & 0o1000 != 0 {
            mode = mode.with(Self::STICKY);
        }
        mode
    }

    /// Translates to a Unix `st_mode`; bits without a counterpart (append-only, exclusive, temporary) are dropped,
    /// and an irregular file has no type bits at all.
    pub const fn to_unix(self) -> u32 {
        let kind = if self.is_dir() {
            0o040_000
        } else if self.is_symlink() {
            0o120_000
        } else if self.is_char_device() {
            0o020_000
        } else if self.is_device() {
            0o060_000
        } else if self.is_pipe() {
            0o010_000
        } else if self.is_socket() {
            0o140_000
        } else if self.is_regular() {
            0o100_000
        } else {
            0
        };
        let mut mode = kind | self.permissions();
        if self.has(Self::SETUID) {
            mode |= 0o4000;
        }
        if self.has(Self::SETGID) {
            mode |= 0o2000;
        }
        if self.has(Self::STICKY) {
            mode |= 0o1000;
        }
        mode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_modes_translate_both_ways() {
        for (unix, go) in [
            (0o100_644, 0x0000_01a4),
            (0o040_755, 0x8000_01ed),
            (0o041_777, 0x8010_01ff),
            (0o120_777, 0x0800_01ff),
            (0o104_755, 0x0080_01ed),
            (0o020_644, 0x0420_01a4),
            (0o060_644, 0x0400_01a4),
            (0o010_600, 0x0200_0180),
            (0o140_600, 0x0100_0180),
            (0o102_755, 0x0040_01ed),
        ] {
            assert_eq!(Mode::from_unix(unix), Mode(go), "{unix:o}");
            assert_eq!(Mode(go).to_unix(), unix, "{go:x}");
        }
        assert!(Mode::regular(0o644).is_regular() && Mode::dir(0o755).is_dir());
        assert!(!Mode(0x0008_0000).is_regular());
        assert!(Mode(0x0420_01a4).is_char_device() && !Mode(0x0420_01a4).is_block_device());
    }
}
