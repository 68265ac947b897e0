//! In what two entries differ.

use crate::format::blob::BlobType;
use crate::format::entry::{CustomMetadata, Entry, Mode};
use crate::format::object::Object;
use crate::store::blob::BlobSource;
use crate::store::{Error, Repository};

use super::super::vfs::read::Vfs;

/// Something in which two entries can differ.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Aspect {
    /// One is a file, the other a folder, for example.
    Kind,
    /// The bytes of a file.
    Content,
    /// The text of a symbolic link.
    Target,
    /// The permission bits.
    Mode,
    /// The owner or the group.
    Owner,
    /// Extended attributes.
    Xattrs,
    /// Custom metadata, such as the headers of an S3 object.
    Metadata,
    /// The time of the last modification.
    Time,
}

impl Aspect {
    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Target => "target",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Xattrs => "xattrs",
            Self::Metadata => "metadata",
            Self::Time => "time",
        }
    }
}

/// Metadata that says when or under which number something was stored, not what it is.
const PASSING: [&[u8]; 3] = [b"s3.last-modified", b"s3.version-id", b"s3.etag"];

/// Returns in what two entries at one place differ. `xattrs` says whether the values of attributes have to be looked
/// up: names are part of the entries, values are not.
pub(super) fn compare(
    repository: &Repository,
    (old_view, old): (&Vfs<'_, Repository>, &Entry),
    (new_view, new): (&Vfs<'_, Repository>, &Entry),
    xattrs: bool,
) -> Result<Vec<Aspect>, Error> {
    let mut aspects = Vec::new();
    let mut note = |differs: bool, aspect| {
        if differs {
            aspects.push(aspect);
        }
    };
    let (before, after) = (&old.info, &new.info);
    let kind = |mode: Mode| mode.0 & Mode::TYPE.0;
    if kind(before.mode) != kind(after.mode) {
        return Ok(vec![Aspect::Kind]);
    }
    let regular = after.mode.is_regular();
    note(regular && content_differs(repository, old, new)?, Aspect::Content);
    note(old.symlink_target != new.symlink_target, Aspect::Target);
    note(before.mode != after.mode, Aspect::Mode);
    let owner = |entry: &Entry| {
        let info = &entry.info;
        (info.uid, info.gid, info.user.clone(), info.group.clone())
    };
    note(owner(old) != owner(new), Aspect::Owner);
    let attributes = old.xattrs != new.xattrs || (xattrs && values_differ((old_view, old), (new_view, new))?);
    note(attributes, Aspect::Xattrs);
    note(lasting(old).ne(lasting(new)), Aspect::Metadata);
    note(before.modified != after.modified, Aspect::Time);
    Ok(aspects)
}

fn lasting(entry: &Entry) -> impl Iterator<Item = &CustomMetadata> {
    entry.metadata.iter().filter(|item| !PASSING.contains(&item.key.as_bytes()))
}

/// Returns whether two files hold different bytes.
fn content_differs(repository: &Repository, old: &Entry, new: &Entry) -> Result<bool, Error> {
    if old.object == new.object {
        return Ok(false);
    }
    if old.info.size != new.info.size || old.object.is_zero() || new.object.is_zero() {
        return Ok(true);
    }
    // The object's id covers its content type and entropy, too: other bytes need not be behind another id.
    let mac = |entry: &Entry| -> Result<_, Error> {
        Ok(Object::decode(&repository.get(BlobType::OBJECT, &entry.object)?)?.content_mac)
    };
    Ok(mac(old)? != mac(new)?)
}

/// Returns whether an attribute has another value; the names are the same.
fn values_differ(
    (old_view, old): (&Vfs<'_, Repository>, &Entry),
    (new_view, new): (&Vfs<'_, Repository>, &Entry),
) -> Result<bool, Error> {
    for (before, after) in old_view.xattrs(old)?.into_iter().zip(new_view.xattrs(new)?) {
        if before?.object != after?.object {
            return Ok(true);
        }
    }
    Ok(false)
}
