//! SFTP: stores that are the same from both sides, sources, destinations, archives, and connections that break.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use plakar::base::{Id, RawString};
use plakar::connector::{Body, ErrorKind, Exporter as _, Item, Kind, Outcome, Storage as _};
use plakar::connectors::fs::{Existing, FsStore};
use plakar::connectors::sftp::{SftpStore, open_exporter};
use plakar::format::entry::{Entry, FileInfo, Mode};

use crate::cli::User;
use crate::conformance;
use crate::sftp_bed::Bed;

fn user() -> User {
    let mut user = User::in_memory();
    user.set("PLAKAR_PASSPHRASE", "correct horse battery staple");
    user
}

/// Makes a tree with what a tree may hold, all of it modified long ago.
fn plant(root: &Path) {
    fs::create_dir_all(root.join("sub/deep")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::write(root.join("a.txt"), "hello\n").unwrap();
    fs::write(root.join("zero"), "").unwrap();
    let mut large = vec![0; 3_000_000];
    blake3::Hasher::new().update(b"large").finalize_xof().fill(&mut large[..2_000_000]);
    fs::write(root.join("sub/large.bin"), &large).unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"sub/deep/\xff odd\n'\"*[x] ")), "odd").unwrap();
    symlink("../a.txt", root.join("sub/link")).unwrap();
    symlink("/nowhere/at all", root.join("dangling")).unwrap();
    fs::hard_link(root.join("a.txt"), root.join("sub/hard")).unwrap();
    fs::set_permissions(root.join("a.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(root.join("empty"), fs::Permissions::from_mode(0o1777)).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_mins(25_000_000);
    for file in ["a.txt", "zero", "sub/large.bin"] {
        fs::File::options().write(true).open(root.join(file)).unwrap().set_modified(old).unwrap();
    }
    let odd = root.join(std::ffi::OsStr::from_bytes(b"sub/deep/\xff odd\n'\"*[x] "));
    fs::File::options().write(true).open(odd).unwrap().set_modified(old).unwrap();
}

/// What is compared of a tree: type and mode, whole seconds of files, content or target.
fn look(root: &Path) -> BTreeMap<Vec<u8>, (u32, i64, Vec<u8>)> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<Vec<u8>, (u32, i64, Vec<u8>)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
            } else if metadata.is_file() {
                blake3::hash(&fs::read(&path).unwrap()).as_bytes().to_vec()
            } else {
                walk(&path, root, found);
                Vec::new()
            };
            let time = if metadata.is_file() { metadata.mtime() } else { 0 };
            let mode = if metadata.is_symlink() { 0 } else { metadata.mode() };
            found.insert(
                path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(),
                (mode, time, content),
            );
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

#[test]
fn sftp_conformance() {
    Bed::each(|bed| {
        let count = Cell::new(0);
        conformance::writable(&|| {
            count.set(count.get() + 1);
            Box::new(SftpStore::new(bed.options(&format!("store{}", count.get()))))
        });
    });
}

#[test]
fn sftp_store_is_the_same_from_both_sides() {
    Bed::each(|bed| {
        let (far, near) = (SftpStore::new(bed.options("a/b/store")), FsStore::new(bed.path("a/b/store")));
        far.create(b"config").unwrap();
        assert_eq!(near.config().unwrap(), b"config");
        assert_eq!(near.create(b"other").unwrap_err().kind, ErrorKind::Exists);
        for (number, kind) in [Kind::Packfile, Kind::State, Kind::Lock].into_iter().enumerate() {
            let (one, two) = (Id([number as u8; 32]), Id([0xf0 + number as u8; 32]));
            far.put(kind, one, Body::Bytes(b"by sftp")).unwrap();
            near.put(kind, two, Body::Bytes(b"by hand")).unwrap();
            assert_eq!(near.get(kind, one).unwrap(), b"by sftp");
            assert_eq!(far.get(kind, two).unwrap(), b"by hand");
            let list = |store: &dyn plakar::connector::Storage| {
                let mut found = Vec::new();
                store.list(kind, &mut |l| found.push((l.id, l.size))).unwrap();
                found.sort_unstable();
                found
            };
            assert_eq!(list(&far), list(&near));
            assert_eq!(list(&far).len(), 2);
        }
        near.replace_config(b"config", b"config two").unwrap();
        far.replace_config(b"config two", b"config three").unwrap();
        assert_eq!(near.config().unwrap(), b"config three");
        let names: Vec<_> = fs::read_dir(near.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.as_bytes().starts_with(b"tmp.")), "{names:?}");
        for kind in ["packfiles", "states"] {
            let folder = near.root().join(kind);
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 256);
            assert_eq!(fs::metadata(folder.join("0f")).unwrap().mode() & 0o777, 0o700);
        }
        assert_eq!(fs::metadata(near.root().join("CONFIG")).unwrap().mode() & 0o777, 0o600);
        let state = near.root().join("states/01").join(Id([1; 32]).to_hex());
        assert_eq!(fs::metadata(state).unwrap().mode() & 0o777, 0o600);
    });
}

#[test]
fn sftp_store_refuses_what_is_no_place_for_one() {
    Bed::each(|bed| {
        fs::create_dir(bed.path("full")).unwrap();
        fs::write(bed.path("full/thesis.tex"), "…").unwrap();
        let error = SftpStore::new(bed.options("full")).create(b"c").unwrap_err();
        assert!(error.kind == ErrorKind::Exists && error.to_string().contains("thesis.tex"), "{error}");
        let file = SftpStore::new(bed.options("full/thesis.tex"));
        assert_eq!(file.create(b"c").unwrap_err().kind, ErrorKind::Exists);
        assert_eq!(file.config().unwrap_err().kind, ErrorKind::NotFound);
        // A missing shard is made good; a missing kind is no empty store.
        let store = SftpStore::new(bed.options("store"));
        store.create(b"c").unwrap();
        fs::remove_dir(bed.path("store/states/00")).unwrap();
        store.put(Kind::State, Id::ZERO, Body::Bytes(b"y")).unwrap();
        assert_eq!(store.get(Kind::State, Id::ZERO).unwrap(), b"y");
        fs::remove_dir_all(bed.path("store/states")).unwrap();
        assert_eq!(store.list(Kind::State, &mut |_| {}).unwrap_err().kind, ErrorKind::NotFound);
    });
}

#[test]
fn sftp_source_and_destination() {
    Bed::each(|bed| {
        let user = user();
        plant(&bed.path("src"));
        bed.configure(&user, "source", "src", "src");
        bed.configure(&user, "destination", "dst", "new/dst");
        user.ok("at ./store create -plaintext");
        let told = user.ok("at ./store backup @src");
        assert!(told.contains("5 files"), "{told}");
        let again = user.ok("at ./store backup @src");
        assert!(again.contains("5 unchanged") && again.contains("read      0 B"), "{again}");
        user.ok("at ./store restore -to @dst");
        assert_eq!(look(&bed.path("new/dst")), look(&bed.path("src")));
        // Once more over what is there, and into a local folder.
        user.ok("at ./store restore -to @dst");
        user.ok("at ./store restore -to local");
        assert_eq!(look(&bed.path("new/dst")), look(&bed.path("src")));
        assert_eq!(look(&user.home().join("local")), look(&bed.path("src")));
        // What changed is read again, and nothing else.
        fs::write(bed.path("src/a.txt"), "changed\n").unwrap();
        let told = user.ok("at ./store backup -ignore deep @src");
        assert!(told.contains("2 unchanged") && told.contains("read      16 B"), "{told}");
        let listed = user.ok("at ./store ls -recursive latest");
        assert!(listed.contains("large.bin") && !listed.contains("deep"), "{listed}");
        // One file alone.
        bed.configure(&user, "source", "one", "src/a.txt");
        assert!(user.ok("at ./store backup @one").contains("1 file"));
    });
}

#[test]
fn sftp_destination_keeps_what_it_is_told_to_keep() {
    Bed::each(|bed| {
        let user = user();
        plant(&user.home().join("src"));
        bed.configure(&user, "destination", "dst", "dst");
        user.ok("at ./store create -plaintext");
        user.ok("at ./store backup src");
        fs::create_dir(bed.path("dst")).unwrap();
        fs::write(bed.path("dst/a.txt"), "mine").unwrap();
        user.ok("at ./store restore -skip-existing -to @dst");
        assert_eq!(fs::read(bed.path("dst/a.txt")).unwrap(), b"mine");
        assert_eq!(look(&bed.path("dst"))[&b"zero"[..]], look(&user.home().join("src"))[&b"zero"[..]]);
        let ran = user.run("at ./store restore -no-overwrite -to @dst");
        assert!(ran.code == 1 && ran.stderr.contains("has this name already"), "{}", ran.stderr);
        assert_eq!(fs::read(bed.path("dst/a.txt")).unwrap(), b"mine");
        user.ok("at ./store restore -to @dst");
        assert_eq!(fs::read(bed.path("dst/a.txt")).unwrap(), b"hello\n");
    });
}

#[test]
fn sftp_destination_follows_no_planted_link() {
    Bed::each(|bed| {
        let user = user();
        plant(&user.home().join("src"));
        bed.configure(&user, "destination", "dst", "dst");
        user.ok("at ./store create -plaintext");
        user.ok("at ./store backup src");
        fs::create_dir_all(bed.path("outside/deep")).unwrap();
        fs::create_dir(bed.path("dst")).unwrap();
        fs::write(bed.path("outside/target"), "kept").unwrap();
        symlink(bed.path("outside"), bed.path("dst/sub")).unwrap();
        symlink(bed.path("outside/target"), bed.path("dst/a.txt")).unwrap();
        user.ok("at ./store restore -to @dst");
        assert_eq!(look(&bed.path("dst")), look(&user.home().join("src")));
        assert_eq!(fs::read(bed.path("outside/target")).unwrap(), b"kept");
        assert_eq!(fs::read_dir(bed.path("outside/deep")).unwrap().count(), 0);
        // A link that comes while the restore runs.
        let exporter = open_exporter(bed.options("late"), Existing::Replace, false).unwrap();
        let path: RawString = "folder".into();
        let entry = Entry::new("/", FileInfo::new("folder", Mode::dir(0o755)));
        let item = Item { path: &path, entry: &entry, xattrs: &[] };
        assert_eq!(exporter.folder(&item).unwrap(), Outcome::Restored);
        fs::remove_dir(bed.path("late/folder")).unwrap();
        symlink(bed.path("outside"), bed.path("late/folder")).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
        let path: RawString = "folder/below".into();
        let entry = Entry::new("/folder", FileInfo::new("below", Mode::dir(0o755)));
        let error = exporter.folder(&Item { path: &path, entry: &entry, xattrs: &[] }).unwrap_err();
        assert!(error.kind == ErrorKind::Exists && error.to_string().contains("symbolic link"), "{error}");
        assert!(!bed.path("outside/below").exists());
    });
}

#[test]
fn sftp_main_job() {
    Bed::each(|bed| {
        let user = user();
        plant(&user.home().join("src"));
        bed.configure(&user, "store", "s", "kloset");
        let ping = || {
            let ran = user.run("store ping s");
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            ran.stdout + &ran.stderr
        };
        assert!(ping().contains("holds no store yet"), "{}", ping());
        user.ok("at @s create");
        user.ok("at @s backup src");
        assert!(ping().contains("holds a store"), "{}", ping());
        assert_eq!(user.ok("at @s ls").lines().count(), 1);
        user.ok("at @s check");
        user.ok("at @s backup src");
        // By hand it is the same store.
        user.ok(&format!("at {} check", bed.path("kloset").display()));
        user.ok("ptar -o export.ptar -k @s");
        user.ok("at ./export.ptar restore -to from-archive");
        user.ok("at @s restore -to from-store");
        assert_eq!(look(&user.home().join("from-archive")), look(&user.home().join("src")));
        assert_eq!(look(&user.home().join("from-store")), look(&user.home().join("src")));
        user.ok("at @s maintenance -apply");
        user.ok("at @s check");
    });
}

#[test]
fn sftp_archives() {
    Bed::each(|bed| {
        let user = user();
        plant(&user.home().join("src"));
        fs::create_dir(bed.path("folder")).unwrap();
        bed.configure(&user, "store", "s", "folder");
        user.ok("ptar -o @s:x.ptar src");
        assert_eq!(fs::metadata(bed.path("folder/x.ptar")).unwrap().mode() & 0o777, 0o600);
        user.ok("at @s:x.ptar check");
        user.ok("at @s:x.ptar restore -to out");
        assert_eq!(look(&user.home().join("out")), look(&user.home().join("src")));
        let ran = user.run("ptar -o @s:x.ptar src");
        assert!(ran.code == 1 && ran.stderr.contains("-overwrite"), "{}", ran.stderr);
        user.ok("ptar -overwrite -o @s:x.ptar src");
        user.ok(&format!("at {} check", bed.path("folder/x.ptar").display()));
        let ran = user.run("ptar -o @s:none/x.ptar src");
        assert_ne!(ran.code, 0);
        assert_eq!(fs::read_dir(bed.path("folder")).unwrap().count(), 1, "nothing temporary is left");
    });
}

#[test]
fn sftp_connections_that_break_are_made_anew() {
    // The first three connections end after some reads of requests, each somewhere else.
    let script = "n=$(ls $HERE | wc -l); [ $n -lt 4 ] || exec $SERVER\n\
                  : > $HERE/run$n; dd bs=65536 count=$((n * 20)) 2> /dev/null | $SERVER";
    let Some(bed) = Bed::own(script) else { return };
    let user = user();
    plant(&user.home().join("src"));
    // Made by hand: only puts are tried again here.
    FsStore::new(bed.path("store")).create(b"config").unwrap();
    let store = SftpStore::new(bed.options("store"));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    for number in 0..4 {
        let id = Id([number; 32]);
        // What one break leaves undone the next attempt of the caller does.
        let put = || store.put(Kind::Packfile, id, Body::Bytes(&bytes));
        put().or_else(|_| put()).unwrap();
        assert_eq!(store.get(Kind::Packfile, id).unwrap(), bytes);
    }
    assert!(fs::read_dir(bed.path("here")).unwrap().count() >= 4, "connections did break");
}

#[test]
fn sftp_failures_say_why() {
    for (script, words) in [
        ("echo 'somebody@nowhere: Permission denied (publickey).' >&2; exit 255", "identity=FILE"),
        ("echo 'Host key verification failed.' >&2; exit 255", "fingerprint"),
        ("echo 'ssh: Could not resolve hostname nowhere' >&2; exit 255", "Could not resolve"),
        ("echo 'Welcome!'; exec $SERVER", "start-up files"),
        ("exit 3", "exit status: 3"),
    ] {
        let Some(bed) = Bed::own(script) else { return };
        let user = user();
        bed.configure(&user, "store", "s", "store");
        let ran = user.run("at @s ls");
        assert!(ran.code != 0 && ran.stderr.contains(words), "{script}: {}", ran.stderr);
    }
    let user = user();
    let ran = user.run("at sftp://u:hunter2@localhost/x ls");
    assert!(ran.code == 64 || ran.code == 1, "{}", ran.code);
    assert!(ran.stderr.contains("SSH_ASKPASS") && !ran.stderr.contains("hunter2"), "{}", ran.stderr);
    let ran = user.run("at sftp://-oProxyCommand=id/x ls");
    assert!(ran.code != 0 && ran.stderr.contains("host's name"), "{}", ran.stderr);
}

#[test]
fn sftp_keys_and_hosts_that_are_not_known() {
    let Some(bed) = Bed::real() else { return };
    let user = user();
    let [(_, identity), (_, config)] = &bed.options[..] else { panic!("two options") };
    let wrong = identity.replace("user_key", "wrong_key");
    user.ok(&format!("store add wrong {} identity={wrong} ssh_config={config}", bed.location("store")));
    let ran = user.run("at @wrong ls");
    assert!(ran.code == 77 && ran.stderr.contains("Permission denied"), "{} {}", ran.code, ran.stderr);
    user.ok(&format!("store add unknown {} identity={identity} ssh_config=/dev/null", bed.location("store")));
    let ran = user.run("at @unknown ls");
    assert!(ran.code == 77 && ran.stderr.contains("fingerprint"), "{} {}", ran.code, ran.stderr);
    user.ok("store set unknown insecure_ignore_host_key=true");
    let ran = user.run("at @unknown create");
    assert!(ran.code == 0 && ran.stderr.contains("nobody checks who"), "{}", ran.stderr);
}
