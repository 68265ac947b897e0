//! One type for both families of encryption.

use std::fmt;
use std::io;
use std::sync::Arc;

use zeroize::Zeroize;

use super::aes::{AesCipher, AesOperation, SubkeyAlgorithm};
use super::item::Item;
use super::xchacha::{XChaChaCipher, XChaChaOperation};
use crate::crypto::{Key, NativeKeys};

/// The longest plaintext of one call to [`Cipher::seal`]: what is sealed must fit 32 bits with its overhead.
const MAX_SEALED: u64 = u32::MAX as u64;

/// Sealing or opening failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A parameter from a configuration is out of bounds.
    #[error("encryption parameter {parameter} = {found} is out of bounds: {bound}")]
    Parameter {
        /// The parameter, as configurations name it.
        parameter: &'static str,
        /// Its value.
        found: u64,
        /// What would be accepted.
        bound: &'static str,
    },
    /// The sealed bytes are not what was sealed under this key and name: damage, exchange, or a wrong key.
    #[error("encrypted data does not authenticate")]
    Tampered,
    /// The sealed bytes end in the middle.
    #[error("encrypted data is truncated")]
    Truncated,
    /// More data than one operation may hold.
    #[error("too much data for one encryption operation")]
    TooLong,
}

impl SealError {
    /// Finds the cause in an error of a [`SealWriter`](super::SealWriter) or [`OpenReader`](super::OpenReader);
    /// `None` when it is a fault of the transport below.
    pub fn in_io(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<SealError> for io::Error {
    fn from(error: SealError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Seals and opens everything that a store encrypts. Cheap to clone, and free of state that calls would share.
#[derive(Clone)]
pub struct Cipher(Arc<Inner>);

enum Inner {
    Aes(AesCipher),
    XChaCha(XChaChaCipher),
}

impl Cipher {
    /// Creates the cipher of upstream's profile: AES-256-GCM-SIV segments of `segment_size` plaintext bytes
    /// under a subkey per operation, wrapped by the master key. Accepts segments of 1 byte to 16 MiB.
    pub fn aes(master: &Key, subkeys: SubkeyAlgorithm, segment_size: u64) -> Result<Self, SealError> {
        let bound = "1 to 16777216 bytes";
        let segment = segment_in(segment_size, (1..=16 << 20).contains(&segment_size), bound)?;
        Ok(Self(Arc::new(Inner::Aes(AesCipher::new(master, subkeys, segment)))))
    }

    /// Creates the cipher of the native profile: XChaCha20-Poly1305 in the STREAM construction. Accepts
    /// segments of a power of two from 4 KiB to 1 MiB.
    pub fn native(keys: &NativeKeys, segment_size: u64) -> Result<Self, SealError> {
        let holds = segment_size.is_power_of_two() && (4 << 10..=1 << 20).contains(&segment_size);
        let segment = segment_in(segment_size, holds, "a power of two from 4096 to 1048576")?;
        Ok(Self(Arc::new(Inner::XChaCha(XChaChaCipher::new(keys, segment)))))
    }

    /// Returns the sealed length of a plaintext of `len` bytes.
    pub fn sealed_len(&self, len: u64) -> u64 {
        let segments = len.div_ceil(self.segment_size() as u64);
        match &*self.0 {
            Inner::Aes(aes) => aes.start_len() as u64 + len + AesOperation::OVERHEAD as u64 * segments,
            Inner::XChaCha(_) => {
                XChaChaCipher::START_LEN as u64 + len + XChaChaOperation::OVERHEAD as u64 * segments.max(1)
            }
        }
    }

    /// Appends the sealed `plaintext` to `out`. A fresh subkey or nonce prefix every time: the same plaintext
    /// never gives the same bytes. On error `out` is as it was.
    pub fn seal(&self, item: Item, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        if self.sealed_len(plaintext.len() as u64) > MAX_SEALED {
            return Err(SealError::TooLong);
        }
        let operation = self.start_sealing(item, out);
        self.seal_segments(operation, plaintext, out)
    }

    /// Seals with given instead of fresh randomness, for vectors. Using the same `r32` twice for one item
    /// reveals what was sealed. Does nothing in upstream's profile but seal.
    #[doc(hidden)]
    pub fn seal_for_vectors(
        &self,
        r32: &[u8; 32],
        item: Item,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        match &*self.0 {
            Inner::Aes(_) => self.seal(item, plaintext, out),
            Inner::XChaCha(cipher) => {
                let operation = Operation::XChaCha(cipher.start_sealing_with(r32, item, out));
                self.seal_segments(operation, plaintext, out)
            }
        }
    }

    fn seal_segments(
        &self,
        mut operation: Operation,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let sealed = self.sealed_len(plaintext.len() as u64) - self.start_len() as u64;
        out.reserve(usize::try_from(sealed).map_err(|_| SealError::TooLong)?);
        if plaintext.is_empty() && operation.seals_empty() {
            return operation.seal(b"", true, out);
        }
        let mut segments = plaintext.chunks(self.segment_size()).peekable();
        while let Some(segment) = segments.next() {
            operation.seal(segment, segments.peek().is_none(), out)?;
        }
        Ok(())
    }

    /// Appends the plaintext of `sealed` to `out`. On error nothing of it is left in `out`.
    ///
    /// The plaintext is what was sealed under this name only in the native profile; in upstream's profile, and
    /// before anything else is done with it, its MAC has to be compared.
    pub fn open(&self, item: Item, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let before = out.len();
        let result = self.open_segments(item, sealed, out);
        if result.is_err() {
            out[before..].zeroize();
            out.truncate(before);
        }
        result
    }

    fn open_segments(&self, item: Item, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let (start, body) = sealed.split_at_checked(self.start_len()).ok_or(SealError::Truncated)?;
        let mut operation = self.start_opening(item, start)?;
        out.reserve(body.len());
        if body.is_empty() {
            return operation.open_nothing();
        }
        let mut segments = body.chunks(self.segment_size() + operation.overhead()).peekable();
        while let Some(segment) = segments.next() {
            operation.open(segment, segments.peek().is_none(), out)?;
        }
        Ok(())
    }

    /// Returns the number of plaintext bytes per segment.
    pub fn segment_size(&self) -> usize {
        match &*self.0 {
            Inner::Aes(aes) => aes.segment,
            Inner::XChaCha(cipher) => cipher.segment,
        }
    }

    /// Bytes in front of the first segment.
    pub(super) fn start_len(&self) -> usize {
        match &*self.0 {
            Inner::Aes(aes) => aes.start_len(),
            Inner::XChaCha(_) => XChaChaCipher::START_LEN,
        }
    }

    /// Appends what stands in front of the first segment.
    pub(super) fn start_sealing(&self, item: Item, out: &mut Vec<u8>) -> Operation {
        match &*self.0 {
            Inner::Aes(aes) => Operation::Aes(Box::new(aes.start_sealing(out))),
            Inner::XChaCha(cipher) => Operation::XChaCha(cipher.start_sealing(item, out)),
        }
    }

    /// Takes what stands in front of the first segment, [`start_len`](Self::start_len) bytes.
    pub(super) fn start_opening(&self, item: Item, start: &[u8]) -> Result<Operation, SealError> {
        match &*self.0 {
            Inner::Aes(aes) => Ok(Operation::Aes(Box::new(aes.start_opening(start)?))),
            Inner::XChaCha(cipher) => Ok(Operation::XChaCha(cipher.start_opening(item, start)?)),
        }
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match &*self.0 {
            Inner::Aes(_) => "AES256-GCM-SIV",
            Inner::XChaCha(_) => "XCHACHA20-POLY1305",
        };
        write!(f, "Cipher({family}, {} bytes, …)", self.segment_size())
    }
}

fn segment_in(found: u64, holds: bool, bound: &'static str) -> Result<usize, SealError> {
    let error = SealError::Parameter { parameter: "ChunkSize", found, bound };
    if holds { usize::try_from(found).map_err(|_| error) } else { Err(error) }
}

/// One run over the segments of one item.
pub(super) enum Operation {
    Aes(Box<AesOperation>),
    XChaCha(XChaChaOperation),
}

impl Operation {
    /// Bytes that a segment grows by.
    pub(super) fn overhead(&self) -> usize {
        match self {
            Self::Aes(_) => AesOperation::OVERHEAD,
            Self::XChaCha(_) => XChaChaOperation::OVERHEAD,
        }
    }

    /// Whether an empty plaintext has a segment.
    pub(super) fn seals_empty(&self) -> bool {
        matches!(self, Self::XChaCha(_))
    }

    /// Appends a sealed segment.
    pub(super) fn seal(&mut self, plaintext: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        match self {
            Self::Aes(operation) => operation.seal(plaintext, out),
            Self::XChaCha(operation) => operation.seal(plaintext, last, out),
        }
    }

    /// Appends an opened segment; on error `out` is as it was.
    pub(super) fn open(&mut self, sealed: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), SealError> {
        match self {
            Self::Aes(operation) => operation.open(sealed, out),
            Self::XChaCha(operation) => operation.open(sealed, last, out),
        }
    }

    /// Judges an item without any segment.
    pub(super) fn open_nothing(&self) -> Result<(), SealError> {
        if self.seals_empty() { Err(SealError::Truncated) } else { Ok(()) }
    }
}
