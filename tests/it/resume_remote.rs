//! Restores to a server that were killed go on where they were: what is sent again is counted, by the files that are
//! not the same any more on the server's disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::cli::User;
use crate::resume_restore::{count, kill_once, look_names, make_files, start};
use crate::{ftp, sftp_bed};

/// Files in the source.
const COUNT: usize = 900;
/// How many of those that stood there may be sent again: the journal's last batch, and what was in flight.
const AGAIN: usize = 64;

/// Kills a restore to `@dst`, which is the folder `out` of this machine, and goes on with it.
fn kill_and_go_on(user: &User, out: &Path, files: &Path) {
    user.ok("at ./store create -plaintext");
    make_files(&files.join("src"), COUNT);
    // Servers tell times in whole seconds: what is changed below is changed in another one.
    let old = SystemTime::UNIX_EPOCH + Duration::from_mins(25_000_000);
    for name in look_names(&files.join("src")) {
        let file = fs::File::open(files.join("src").join(name)).unwrap();
        file.set_modified(old).unwrap();
    }
    user.ok(&format!("at ./store backup {}", files.join("src").display()));
    let standing = || -> BTreeMap<String, u64> {
        let names = look_names(out).into_iter().filter(|name| !name.contains(".plakar-"));
        let files = names.filter(|name| out.join(name).is_file());
        files.map(|name| (name.clone(), fs::symlink_metadata(out.join(name)).unwrap().ino())).collect()
    };
    let journals = user.home().join(".cache/plakar/restores");
    let mut before = BTreeMap::new();
    // A run that was faster than whoever watches it is begun again.
    for _ in 0..10 {
        let _ = fs::remove_dir_all(out);
        let _ = fs::remove_dir_all(&journals);
        let mut child = start(user, "at ./store restore -to @dst latest");
        kill_once(&mut child, || out.is_dir() && count(out) > 300);
        // What was sent already may still arrive.
        std::thread::sleep(Duration::from_millis(500));
        before = standing();
        if before.len() < COUNT {
            break;
        }
    }
    assert!(before.len() > 200 && before.len() < COUNT, "{} were there", before.len());
    // Meanwhile one is changed in place, one is cut short and one is deleted.
    let names: Vec<&String> = before.keys().collect();
    fs::write(out.join(names[0]), vec![1; 4000]).unwrap();
    fs::File::options().write(true).open(out.join(names[1])).unwrap().set_len(17).unwrap();
    fs::remove_file(out.join(names[2])).unwrap();
    let ran = user.run("at ./store restore -to @dst latest");
    assert!(ran.code == 0 || !ran.stderr.contains("error"), "{} {}", ran.stdout, ran.stderr);
    ftp::same(out, &files.join("src"));
    let after = standing();
    let kept = before.iter().filter(|(name, inode)| after.get(*name) == Some(inode)).count();
    println!("{} of {COUNT} were there, three of them changed; {kept} were left alone", before.len());
    assert!(kept + 3 + AGAIN >= before.len() && kept + 3 <= before.len(), "{kept} of {}", before.len());
    assert_eq!(fs::read_dir(journals).map_or(0, Iterator::count), 0, "a journal that is not needed any more");
    // Once it is complete nothing is known of it: everything is sent again.
    user.run("at ./store restore -to @dst latest");
    let last = standing();
    assert_eq!(after.iter().filter(|(name, inode)| last.get(*name) == Some(inode)).count(), 0);
}

#[test]
fn sftp_resume_remote() {
    sftp_bed::Bed::each(|bed| {
        let user = User::in_memory();
        bed.configure(&user, "destination", "dst", "new/dst");
        kill_and_go_on(&user, &bed.path("new/dst"), user.home());
    });
}

#[test]
fn ftp_resume_remote() {
    ftp::Bed::each(|bed| {
        let user = User::in_memory();
        bed.configure(&user, "destination", "dst", "new/dst");
        kill_and_go_on(&user, &bed.path("new/dst"), user.home());
    });
}
