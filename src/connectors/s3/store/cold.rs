//! Packfiles in cold storage classes.

use std::ops::ControlFlow;
use std::time::SystemTime;

use super::super::class::may_be_cold;
use super::super::client::readiness;
use super::layout::{name_of, parse_name};
use super::storage::S3Store;
use crate::base::Id;
use crate::connector::{Kind, Listed, Order, Readiness, Result, Retrieval};

impl Retrieval for S3Store {
    fn list_archived(&self, each: &mut dyn FnMut(Listed)) -> Result<()> {
        let folder = self.key(&format!("{}/", Kind::Packfile.folder()));
        self.client().list(&folder, None, &mut |object| {
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

    fn readiness(&self, id: Id) -> Result<Readiness> {
        Ok(readiness(&self.client().head(&self.key(&name_of(Kind::Packfile, id)))?.headers))
    }

    fn request(&self, id: Id, order: &Order) -> Result<Readiness> {
        let key = self.key(&name_of(Kind::Packfile, id));
        let failure = match self.client().restore_object(&key, order, true) {
            Ok(state) => return Ok(state),
            Err(failure) => failure,
        };
        if failure.status != 400 && !failure.is("InvalidObjectState") {
            return Err(failure.into());
        }
        // Refused for what the object is: it need not be retrieved, or returns for good and so for no days.
        let state = self.readiness(id)?;
        if state == Readiness::Archived && failure.status == 400 {
            return self.client().restore_object(&key, order, false).map_err(|_| failure.into());
        }
        if state == Readiness::Archived { Err(failure.into()) } else { Ok(state) }
    }
}
