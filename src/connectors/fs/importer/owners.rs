//! Names of users and groups, asked for once each.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;

use crate::base::RawString;

/// A cache of the system's answers: one may cost a request to a directory server.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: HashMap<u32, RawString>,
    groups: HashMap<u32, RawString>,
}

impl Owners {
    /// Returns a user's name, or an empty one.
    pub(super) fn user(&mut self, uid: u32) -> RawString {
        let ask = || uzers::get_user_by_uid(uid).map(|user| user.name().as_bytes().into());
        self.users.entry(uid).or_insert_with(|| ask().unwrap_or_default()).clone()
    }

    /// Returns a group's name, or an empty one.
    pub(super) fn group(&mut self, gid: u32) -> RawString {
        let ask = || uzers::get_group_by_gid(gid).map(|group| group.name().as_bytes().into());
        self.groups.entry(gid).or_insert_with(|| ask().unwrap_or_default()).clone()
    }
}
