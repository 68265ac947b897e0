//! A state in the making.

use std::io::Write;

use crate::base::Id;
use crate::base::spill::{SpillDir, SpillWriter};
use crate::format::state::{Coloured, Delete, Location, PackEntry, StateEntry};

use super::super::error::Error;

/// What one state will add and take away. Locations spill; the rest is by packfile.
#[derive(Debug)]
pub struct Changes {
    pub(super) deletes: Vec<Delete>,
    locations: SpillWriter,
    location_count: u64,
    colours: Vec<Coloured>,
    packs: Vec<(Id, i64)>,
}

impl Changes {
    /// Starts without any.
    pub fn new(spills: &SpillDir) -> Result<Self, Error> {
        Ok(Self {
            deletes: Vec::new(),
            locations: spills.create()?,
            location_count: 0,
            colours: Vec::new(),
            packs: Vec::new(),
        })
    }

    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.deletes.is_empty()
            && self.location_count == 0
            && self.colours.is_empty()
            && self.packs.is_empty()
    }

    /// Takes something out of the catalogue.
    pub fn delete(&mut self, delete: Delete) {
        self.deletes.push(delete);
    }

    /// Colours a packfile.
    pub fn colour_packfile(&mut self, id: Id, when: i64) {
        self.colours.push(Coloured::packfile(id, when));
    }

    /// Adds a packfile made at `when`, in Unix nanoseconds.
    pub fn add_packfile(&mut self, id: Id, when: i64) {
        self.packs.push((id, when));
    }

    /// Adds a location.
    pub fn add_location(&mut self, location: Location) -> Result<(), Error> {
        let mut bytes = Vec::with_capacity(90);
        StateEntry::Location(location).encode(&mut bytes);
        self.locations.push(&[&bytes])?;
        self.location_count += 1;
        Ok(())
    }

    /// Returns how many locations were added.
    pub fn location_count(&self) -> u64 {
        self.location_count
    }

    /// Returns how to write the entries of the state `id`: deletes, locations, colours, packfiles.
    pub(super) fn entries(self, id: Id) -> Result<impl FnMut(&mut dyn Write) -> std::io::Result<()>, Error> {
        let Self { deletes, locations, colours, packs, .. } = self;
        let locations = locations.finish()?;
        Ok(move |out: &mut dyn Write| {
            let mut bytes = Vec::new();
            for delete in &deletes {
                StateEntry::Delete(*delete).encode(&mut bytes);
            }
            out.write_all(&bytes)?;
            let mut records = locations.forward();
            while let Some(record) = records.next().map_err(std::io::Error::other)? {
                out.write_all(record)?;
            }
            bytes.clear();
            for coloured in &colours {
                StateEntry::Coloured(*coloured).encode(&mut bytes);
            }
            for (packfile, when) in &packs {
                let entry = PackEntry { packfile: *packfile, state: id, when: *when };
                StateEntry::Packfile(entry).encode(&mut bytes);
            }
            out.write_all(&bytes)
        })
    }
}
