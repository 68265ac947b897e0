//! Comparing snapshots reads what differs, and little else.

use std::fs;
use std::sync::Arc;

use plakar::base::Cancel;
use plakar::connector::Storage;
use plakar::connectors::memory::{Counted, Faulty, MemoryStore};
use plakar::snapshot::{Difference, Part, Tally, diff, list};
use plakar::store::{Error, Repository};

use crate::cli::memory_dir;
use crate::engine::{Shared, back_up, create, kinds, reopen};

/// The paths that differ between two snapshots of a store, and how many reads it took to find them.
fn compared(store: &Arc<MemoryStore>, numbers: [usize; 2]) -> (Vec<String>, u64) {
    let counted = Arc::new(Faulty::new(Shared::new(store), Counted::Reads, u64::MAX));
    let repository: Arc<Repository> = reopen(Arc::clone(&counted) as Arc<dyn Storage>);
    let snapshots = list(&repository).0;
    let part = |number: usize| Part { snapshot: &snapshots[number], path: None };
    let before = counted.spent();
    let (mut found, tally) = (Vec::new(), Tally::default());
    let mut each = |difference: Difference| -> Result<(), Error> {
        found.push(difference.path().lossy().rsplit('/').next().unwrap().to_owned());
        Ok(())
    };
    diff(&repository, part(numbers[0]), part(numbers[1]), &Cancel::new(), &tally, &mut each).unwrap();
    assert_eq!(tally.problems(), []);
    (found, counted.spent() - before)
}

#[test]
fn folders_that_are_equal_with_all_below_them_are_not_read() {
    for (name, options) in kinds() {
        let store = Arc::new(MemoryStore::new());
        create(Arc::new(Shared::new(&store)), &options);
        let folder = memory_dir();
        let place = |a: usize, b: usize| folder.path().join(format!("{a}/{b}/deep"));
        for a in 0..20 {
            for b in 0..20 {
                fs::create_dir_all(place(a, b)).unwrap();
                fs::write(place(a, b).join("file"), format!("{a} {b}")).unwrap();
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        back_up(&reopen(Arc::new(Shared::new(&store))), folder.path());
        fs::write(place(7, 3).join("file"), "changed").unwrap();
        back_up(&reopen(Arc::new(Shared::new(&store))), folder.path());
        fs::remove_file(place(19, 19).join("file")).unwrap();
        fs::write(place(0, 0).join("more"), "new").unwrap();
        back_up(&reopen(Arc::new(Shared::new(&store))), folder.path());
        // There are 821 folders.
        let (found, reads) = compared(&store, [0, 1]);
        assert_eq!(found, ["file"], "{name}");
        assert!(reads < 150, "{name}: {reads} reads");
        let (mut found, reads) = compared(&store, [1, 2]);
        found.retain(|name| name != "deep");
        assert_eq!(found, ["more", "file"], "{name}");
        assert!(reads < 200, "{name}: {reads} reads");
        let (found, _) = compared(&store, [2, 0]);
        assert_eq!(found.iter().filter(|name| *name != "deep").count(), 3, "{name}: {found:?}");
    }
}
