//! Packfiles in cold storage classes.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::super::class::may_be_cold;
use super::layout::{name_of, parse_name};
use super::storage::S3Store;
use crate::base::Id;
use crate::connector::{Kind, Listed, Order, Readiness, Result, Retrieval};

/// From so many packfiles on, parts of the listing are asked for at once: five pages of it.
const MANY: usize = 5000;

impl S3Store {
    /// Lists the packfiles whose name begins with some digits and whose class may be cold.
    fn list_below(&self, digits: &str, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let folder = self.key(&format!("{}/", Kind::Packfile.folder()));
        let prefix = [folder.as_slice(), digits.as_bytes()].concat();
        self.client().list(&prefix, None, &mut |object| {
            if may_be_cold(&object.class)
                && let Some(id) = parse_name(Kind::Packfile, &object.key[folder.len()..])
            {
                let modified = object.time().map(SystemTime::from);
                each(Listed { id, size: object.size, modified, tag: None });
            }
            ControlFlow::Continue(())
        })?;
        Ok(())
    }
}

impl Retrieval for S3Store {
    fn list_archived(&self, expected: usize, each: &mut (dyn FnMut(Listed) + Send)) -> Result<()> {
        if expected < MANY {
            return self.list_below("", each);
        }
        // One listing goes page after page; the names are spread evenly over their first digit.
        let each = Mutex::new(each);
        std::thread::scope(|scope| {
            let parts: Vec<_> = (0..16)
                .map(|digit| {
                    let each = &each;
                    scope.spawn(move || {
                        self.list_below(&format!("{digit:x}"), &mut |listed| {
                            (each.lock().unwrap_or_else(PoisonError::into_inner))(listed);
                        })
                    })
                })
                .collect();
            parts.into_iter().try_for_each(|part| match part.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })
    }

    fn readiness(&self, id: Id) -> Result<Readiness> {
        Ok(self.client().readiness(&self.key(&name_of(Kind::Packfile, id)))?)
    }

    fn request(&self, id: Id, order: &Order) -> Result<Readiness> {
        Ok(self.client().retrieve(&self.key(&name_of(Kind::Packfile, id)), *order)?)
    }
}
