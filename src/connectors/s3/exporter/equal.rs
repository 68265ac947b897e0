//! Whether what stands at the destination is what would be put there.
//!
//! The content is told by size and ETag ([`super::super::standing`]), the rest by a HEAD, and tags by a request of their
//! own. A receipt says of an object that an interrupted restore put it, with all that belongs to it; it has to be seen
//! all the same, unless nobody may look.

use ureq::http::{HeaderMap, HeaderValue};

use super::super::metadata::{self, Headers};
use super::super::standing::{Stands, Survey, md5_of};
use super::{ExistingObject, S3Exporter};
use crate::connector::{ContentSource, Item, Receipt, Result};

/// The class that objects are in where none is named.
const STANDARD: &[u8] = b"STANDARD";

impl S3Exporter {
    /// Returns whether an item stands under its key, as far as that can be told without its content.
    pub(super) fn stands_equal(&self, key: &[u8], item: &Item<'_>, receipt: Option<Receipt>) -> Result<bool> {
        let there = match (self.survey.get(), receipt) {
            (Some(Survey::Listed(standing)), _) => standing.get(key)?,
            (Some(Survey::Unlisted), Some(receipt)) => return Ok(self.is_put(key, item, receipt)),
            // Nobody may look: what was put is taken to be there still.
            (Some(Survey::Refused), receipt) => return Ok(receipt.is_some()),
            (Some(Survey::Unlisted), None) | (None, _) => None,
        };
        let Some(there) = there.filter(|there| has_size(item, there)) else { return Ok(false) };
        // Whoever wants to be told of what is there already is told.
        let etag =
            item.entry.metadata(metadata::ETAG).filter(|_| self.options.existing == ExistingObject::Replace);
        let source = etag.and_then(|etag| std::str::from_utf8(etag).ok()).and_then(md5_of);
        let own = receipt == Some(there.receipt);
        Ok(own || source == Some(there.md5) && self.wears(key, item))
    }

    /// Returns whether the content that stands under a key is an item's, and all else is, too.
    pub(super) fn holds_equal(
        &self,
        key: &[u8],
        item: &Item<'_>,
        content: &dyn ContentSource,
    ) -> Result<bool> {
        let Some(Survey::Listed(standing)) = self.survey.get() else { return Ok(false) };
        let Some(there) = standing.get(key)? else { return Ok(false) };
        Ok(there.holds(content)? && self.wears(key, item))
    }

    /// Returns whether the object that a PUT must not replace is an item's all the same: an earlier attempt may have
    /// put it, and its answer was lost.
    pub(super) fn is_ours(&self, key: &[u8], item: &Item<'_>, content: &dyn ContentSource) -> Result<bool> {
        let Ok(head) = self.client.head(key) else { return Ok(false) };
        let (mut wanted, mut found) = (self.headers_of(item), of_answer(&head.headers));
        if !are_same(&mut wanted.plain, &mut found.plain) || !Stands::of(&head).holds(content)? {
            return Ok(false);
        }
        self.remember(key, &head.etag());
        Ok(true)
    }

    /// Asks for an object that an interrupted restore put, where there is no list. What cannot be seen is put again.
    fn is_put(&self, key: &[u8], item: &Item<'_>, receipt: Receipt) -> bool {
        let Ok(head) = self.client.head(key) else { return false };
        let there = Stands::of(&head);
        there.receipt == receipt && has_size(item, &there) && self.is_dressed(key, item, &head.headers)
    }

    /// Returns whether an object of the right content is all else that it should be, too. What may not be looked at
    /// is put again, and so is what has aspects of its own to be set.
    fn wears(&self, key: &[u8], item: &Item<'_>) -> bool {
        let options = self.client.options();
        if options.acl || options.retention {
            return false;
        }
        self.client.head_version(key, None).is_ok_and(|there| self.is_dressed(key, item, &there))
    }

    /// Returns whether an object has the headers, class, encryption and tags that an item's should have.
    fn is_dressed(&self, key: &[u8], item: &Item<'_>, there: &HeaderMap) -> bool {
        let options = self.client.options();
        let (mut wanted, mut found) = (self.headers_of(item), of_answer(there));
        // Of encryption, more than is asked for is the bucket's own doing.
        let encrypted = wanted.encryption.iter().all(|header| found.encryption.contains(header));
        if !are_same(&mut wanted.plain, &mut found.plain)
            || !self.is_of_class(item, wanted.class.as_deref(), there)
            || !encrypted && options.customer_key.is_none()
        {
            return false;
        }
        let counted = there.get("x-amz-tagging-count").is_some_and(|count| count.as_bytes() != b"0");
        let (tagged, wanted) = (wanted.tags.is_some() || counted, wanted.tags.unwrap_or_default());
        !tagged || self.client.tags(key, None).is_ok_and(|tags| tags.as_bytes() == wanted)
    }

    /// Returns whether an object is of the class that it would be put in, `recorded` being the one that comes along
    /// unasked. What still lies in the cold class that it was recorded in is as it was, too.
    fn is_of_class(&self, item: &Item<'_>, recorded: Option<&[u8]>, there: &HeaderMap) -> bool {
        let chosen = self.client.options().storage_class.as_ref().map(String::as_bytes);
        // Servers leave out the header of what is STANDARD.
        let found = there.get("x-amz-storage-class").map_or(STANDARD, HeaderValue::as_bytes);
        found == chosen.or(recorded).unwrap_or(STANDARD)
            || chosen.is_none() && item.entry.metadata(metadata::STORAGE_CLASS) == Some(found)
    }
}

/// Reads the headers that an object has, as it would get them.
fn of_answer(there: &HeaderMap) -> Headers {
    Headers::of_object(&metadata::from_headers(there))
}

/// Returns whether headers are the same in whatever order.
fn are_same(wanted: &mut [(String, Vec<u8>)], found: &mut [(String, Vec<u8>)]) -> bool {
    wanted.sort_unstable();
    found.sort_unstable();
    wanted == found
}

/// Returns whether an object has the size of an item.
fn has_size(item: &Item<'_>, there: &Stands) -> bool {
    u64::try_from(item.entry.info.size).is_ok_and(|size| size == there.size)
}
