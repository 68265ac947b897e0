//! An open folder: a page of its children at a time.

use std::sync::Mutex;

use super::attributes::Attributes;
use super::numbers::Place;
use crate::base::RawString;
use crate::snapshot::vfs::read::Bookmark;

/// Children in a page.
pub(super) const PAGE: usize = 512;
/// The longest name that the kernel takes, in bytes; a listing with a longer one would fail as a whole.
pub(super) const LONGEST_NAME: usize = 1024;

/// One name of a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The name.
    pub name: RawString,
    /// What `stat` tells of it.
    pub attributes: Attributes,
    pub(super) place: Place,
}

/// A folder that is open for listing. Places in it are numbers from 0 on; whoever goes on where it stopped reads
/// nothing twice.
#[derive(Debug)]
pub struct Listing {
    pub(super) place: Place,
    /// The numbers of the folder itself and of its parent.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "what the kernel asks about later"))]
    pub(super) numbers: [u64; 2],
    pub(super) pages: Mutex<Pages>,
}

/// The page at hand.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) children: Vec<Listed>,
    /// The place of the first child of the page.
    pub(super) first: u64,
    /// Where the next page begins.
    pub(super) next: Option<Bookmark>,
    pub(super) started: bool,
    /// Whether the rest of the list could not be read.
    pub(super) broken: bool,
}

impl Pages {
    /// Returns the child at a place, if it is in this page.
    pub(super) fn get(&self, at: u64) -> Option<&Listed> {
        self.children.get(usize::try_from(at.checked_sub(self.first)?).ok()?)
    }

    /// Returns whether the page holds the end of the list.
    pub(super) fn is_last(&self) -> bool {
        self.started && self.next.is_none()
    }
}

impl Listing {
    pub(super) fn new(place: Place, numbers: [u64; 2]) -> Self {
        Self { place, numbers, pages: Mutex::default() }
    }
}
