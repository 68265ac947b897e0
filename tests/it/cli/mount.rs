//! `mount`, by the kernel: what programs see of a snapshot without restoring it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::{Ran, User, json, packfiles};
use crate::s3server::{ACCESS_KEY, Object, S3Server, SECRET_KEY};

/// A running `plakar mount`; what is left of it at the end is taken away.
struct Mount {
    child: Child,
    target: PathBuf,
    /// The first line it printed.
    first: String,
    stderr: Option<ChildStderr>,
}

impl Mount {
    /// Mounts at `mnt` below the user's home, which is made; nothing where the system does not allow mounts.
    fn start(user: &User, line: &str) -> Option<Self> {
        let target = user.home().join("mnt");
        fs::create_dir_all(&target).unwrap();
        let mut command = user.command(line.split_whitespace());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        let mut stderr = child.stderr.take().unwrap();
        if first.is_empty() {
            let mut said = String::new();
            stderr.read_to_string(&mut said).unwrap();
            child.wait().unwrap();
            assert!(said.contains("(FUSE)") || said.contains("Operation not permitted"), "{said}");
            println!("not run: {}", said.lines().next().unwrap_or_default());
            return None;
        }
        child.stdout = Some(stdout.into_inner());
        Some(Self { child, target, first, stderr: Some(stderr) })
    }

    fn path(&self, below: &str) -> PathBuf {
        self.target.join(below)
    }

    /// Sends a signal and returns how the program ended.
    fn end(mut self, signal: Option<Signal>) -> Ran {
        if let Some(signal) = signal {
            kill_process(Pid::from_child(&self.child), signal).unwrap();
        }
        let mut stderr = String::new();
        self.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        Ran { code: self.child.wait().unwrap().code().unwrap_or(-1), stdout, stderr }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        take_away(&self.target);
    }
}

fn take_away(target: &Path) {
    let _ = Command::new("umount").arg("-l").arg(target).stderr(Stdio::null()).status();
}

/// Waits until something is so; fails after a long time.
fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_mins(1), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Bytes that no compression shortens.
fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// A user with a tree of everything that a file system can hold, backed up.
fn user() -> User {
    let user = User::new();
    let src = user.home().join("src");
    fs::create_dir_all(src.join("folder/deep")).unwrap();
    fs::create_dir(src.join("empty folder")).unwrap();
    fs::create_dir(src.join("many")).unwrap();
    for n in 0..1500 {
        fs::write(src.join(format!("many/{n:04}")), n.to_string()).unwrap();
    }
    fs::write(src.join("hello"), "hello\n").unwrap();
    fs::write(src.join("empty"), "").unwrap();
    fs::write(src.join("folder/big"), noise(9_000_001, 1)).unwrap();
    fs::write(src.join("folder/deep").join("n".repeat(250)), "long").unwrap();
    fs::write(src.join(std::ffi::OsStr::from_bytes(b"raw \xff\xfe\n")), "raw").unwrap();
    fs::hard_link(src.join("hello"), src.join("folder/second name")).unwrap();
    std::os::unix::fs::symlink("../hello", src.join("folder/symlink")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, src.join("pipe"), rustix::fs::Mode::RUSR).unwrap();
    fs::set_permissions(src.join("hello"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(src.join("folder/deep"), fs::Permissions::from_mode(0o1710)).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    File::options().write(true).open(src.join("empty")).unwrap().set_modified(time).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let _ = rustix::fs::setxattr(src.join("empty"), "user.colour", b"blue\0ish", flags);
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    user
}

fn attribute(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 1000];
    let length = rustix::fs::getxattr(path, name, &mut value)?;
    value.truncate(length);
    Ok(value)
}

fn attribute_names(path: &Path) -> Vec<u8> {
    let mut names = vec![0; 1000];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    names.truncate(length);
    names
}

/// Describes a tree: everything that `lstat` tells, contents, links, attributes.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let (mut folders, mut numbers) = (vec![root.to_owned()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            let (path, metadata) = (file.path(), fs::symlink_metadata(file.path()).unwrap());
            assert_eq!(file.file_type().unwrap(), metadata.file_type());
            let kind = metadata.file_type();
            let below = path.strip_prefix(root).unwrap().to_owned();
            let what = if kind.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else if kind.is_symlink() {
                format!("-> {} {}", fs::read_link(&path).unwrap().display(), metadata.len())
            } else if kind.is_fifo() {
                "pipe".to_owned()
            } else {
                let first = numbers.entry(metadata.ino()).or_insert_with(|| below.clone()).clone();
                let link = if metadata.nlink() > 1 {
                    format!("{} names", metadata.nlink())
                } else {
                    first.display().to_string()
                };
                let content = fs::read(&path).unwrap();
                assert_eq!(content.len() as u64, metadata.len());
                format!("{link} {}", blake3::hash(&content).to_hex())
            };
            let xattrs = attribute_names(&path).escape_ascii().to_string();
            let about = format!(
                "{:o} {}:{} {}.{:09} {xattrs}",
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.mtime(),
                metadata.mtime_nsec()
            );
            found.insert(below, format!("{what} {about}"));
        }
    }
    found
}

fn backed_up(user: &User) -> String {
    format!("latest{}", user.home().join("src").canonicalize().unwrap().display())
}

#[test]
fn a_mount_shows_what_was_backed_up() {
    let user = user();
    let Some(mount) = Mount::start(&user, "at store mount -to mnt") else { return };
    assert!(mount.first.starts_with("mounted 1 snapshot of store at "), "{}", mount.first);
    let (src, root) = (user.home().join("src"), mount.path(&backed_up(&user)));
    let (wanted, found) = (tree(&src), tree(&root));
    assert!(wanted.len() > 1500);
    for (path, what) in &wanted {
        assert_eq!(found.get(path), Some(what), "{}", path.display());
    }
    assert_eq!(found.len(), wanted.len());
    let ino = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(ino(&root.join("hello")), ino(&root.join("folder/second name")));
    assert_ne!(ino(&root.join("hello")), ino(&root.join("empty")));
    assert_eq!(attribute(&root.join("empty"), "user.colour"), attribute(&src.join("empty"), "user.colour"));
    assert_eq!(attribute(&root.join("empty"), "user.none"), Err(Errno::NODATA));
    // A rewound listing is the same once more.
    let twice =
        || fs::read_dir(root.join("many")).unwrap().map(|file| file.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!((twice().len(), twice()), (1500, twice()));
    programs(&src, &root);
    reads(&src.join("folder/big"), &root.join("folder/big"));
    nothing_is_written(&root);
    let ran = mount.end(Some(Signal::INT));
    assert_eq!((ran.code, ran.stderr.lines().count()), (0, 1), "{ran:?}");
    assert!(ran.stdout.starts_with("unmounted "), "{ran:?}");
    assert_eq!(fs::read_dir(user.home().join("mnt")).unwrap().count(), 0);
}

/// What people use, memory maps among it.
fn programs(src: &Path, root: &Path) {
    let run = |program: &str, args: &[&str], path: &Path| {
        let output = Command::new(program).args(args).arg(path).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).replace(path.to_str().unwrap(), "")
    };
    let big = |root: &Path| root.join("folder/big");
    assert_eq!(run("sha256sum", &[], &big(src)), run("sha256sum", &[], &big(root)));
    assert!(run("grep", &["-rl", "hello"], &root.join("hello")).ends_with('\n'));
    assert_eq!(run("du", &["-s", "--apparent-size"], &root.join("folder")).split('\t').nth(1), Some("\n"));
    let copy = tempfile::tempdir().unwrap();
    run("cp", &["-a", "-t", copy.path().to_str().unwrap()], &root.join("folder"));
    assert_eq!(fs::read(copy.path().join("folder/big")).unwrap(), fs::read(big(src)).unwrap());
    let listed = run("ls", &["-f"], root);
    assert!(listed.contains(".\n") && listed.contains("..\n") && listed.contains("hello"), "{listed}");
}

/// Reads at odd places, by two readers at a time.
fn reads(src: &Path, mounted: &Path) {
    let wanted = fs::read(src).unwrap();
    std::thread::scope(|scope| {
        for reader in 0..2_u64 {
            let wanted = &wanted;
            scope.spawn(move || {
                let file = File::open(mounted).unwrap();
                let mut at = 7 + reader * 1_000_003;
                for round in 0..60_u64 {
                    at = (at * 48_271 + 11) % wanted.len() as u64;
                    let mut buffer = vec![0; usize::try_from(1 + (at * round) % 300_000).unwrap()];
                    let read = file.read_at(&mut buffer, at).unwrap();
                    assert!(read > 0);
                    let start = usize::try_from(at).unwrap();
                    assert_eq!(buffer[..read], wanted[start..start + read]);
                }
                assert_eq!(file.read_at(&mut [0; 10], wanted.len() as u64).unwrap(), 0);
                assert_eq!(file.read_at(&mut [0; 10], u64::MAX >> 2).unwrap(), 0);
            });
        }
    });
}

fn nothing_is_written(root: &Path) {
    let number = |result: std::io::Result<()>| result.unwrap_err().raw_os_error();
    let read_only = Some(Errno::ROFS.raw_os_error());
    assert_eq!(number(File::options().write(true).open(root.join("hello")).map(drop)), read_only);
    assert_eq!(number(File::create(root.join("new")).map(drop)), read_only);
    assert_eq!(number(fs::create_dir(root.join("new"))), read_only);
    assert_eq!(number(fs::remove_file(root.join("hello"))), read_only);
    assert_eq!(number(fs::remove_dir(root.join("empty folder"))), read_only);
    assert_eq!(number(fs::rename(root.join("hello"), root.join("moved"))), read_only);
    assert_eq!(number(std::os::unix::fs::symlink("a", root.join("b"))), read_only);
    assert_eq!(number(fs::set_permissions(root.join("hello"), fs::Permissions::from_mode(0o600))), read_only);
    assert_eq!(number(File::open(root.join("no such file")).map(drop)), Some(Errno::NOENT.raw_os_error()));
    assert_eq!(number(File::open(root.join("hello/below")).map(drop)), Some(Errno::NOTDIR.raw_os_error()));
}

#[test]
fn new_snapshots_appear_and_old_ones_stay() {
    let user = User::new();
    fs::create_dir(user.home().join("src")).unwrap();
    user.ok("at store create -plaintext");
    let Some(mount) = Mount::start(&user, "-json at store mount -to mnt -tag day") else { return };
    let told = json(&mount.first).remove(0);
    assert_eq!((told["type"].as_str(), told["snapshots"].as_u64()), (Some("mounted"), Some(0)));
    assert_eq!(fs::read_dir(mount.path("")).unwrap().count(), 0);
    fs::write(user.home().join("src/file"), "first").unwrap();
    user.ok("at store backup -tag day src");
    eventually("the first snapshot appears", || mount.path("latest").exists());
    let first = fs::read_link(mount.path("latest")).unwrap();
    let file = user.home().join("src/file").canonicalize().unwrap();
    let below = |name: &str| mount.path(&format!("{name}{}", file.display()));
    std::thread::sleep(Duration::from_millis(100));
    fs::write(user.home().join("src/file"), "second").unwrap();
    user.ok("at store backup -tag day src");
    user.ok("at store backup -tag other src");
    eventually("latest moves on", || fs::read_to_string(below("latest")).is_ok_and(|text| text == "second"));
    let first = first.to_str().unwrap();
    assert_eq!(first.len(), 8);
    assert_eq!(fs::read_to_string(below(first)).unwrap(), "first");
    assert_eq!(fs::read_to_string(below(&first[..6])).unwrap(), "first", "a prefix does");
    assert!(!mount.path("0").exists() && !mount.path(".git").exists());
    let mut names: Vec<_> =
        fs::read_dir(mount.path("")).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 3, "two snapshots of that tag, and latest: {names:?}");
    user.ok(&format!("at store rm -apply {first}"));
    eventually("a removed snapshot goes", || fs::read_dir(mount.path("")).unwrap().count() == 2);
    let ran = mount.end(Some(Signal::TERM));
    let summary = json(&ran.stdout).pop().unwrap();
    assert_eq!(
        (ran.code, summary["type"].as_str(), summary["ended"].as_str()),
        (0, Some("summary"), Some("cancelled"))
    );
}

#[test]
fn a_damaged_file_cannot_be_read_and_the_others_can() {
    let user = User::new();
    let src = user.home().join("src");
    fs::create_dir(&src).unwrap();
    let victim = noise(3_000_000, 7);
    fs::write(src.join("victim"), &victim).unwrap();
    fs::write(src.join("sound"), noise(3_000_000, 8)).unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    let needle = &victim[2_000_000..2_000_032];
    let mut hit = 0;
    for path in packfiles(user.home().join("store")) {
        let mut bytes = fs::read(&path).unwrap();
        let Some(at) = bytes.windows(32).position(|window| window == needle) else { continue };
        bytes[at] ^= 1;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, bytes).unwrap();
        hit += 1;
    }
    assert_eq!(hit, 1, "noise is stored as it is");
    let Some(mount) = Mount::start(&user, &format!("at store mount -to mnt latest:{}", src.display())) else {
        return;
    };
    let error = fs::read(mount.path("victim")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()), "{error}");
    let mut head = vec![0; 1000];
    File::open(mount.path("victim")).unwrap().read_exact(&mut head).unwrap();
    assert_eq!(head, victim[..1000], "what is not damaged can be read");
    assert_eq!(fs::read(mount.path("sound")).unwrap(), fs::read(src.join("sound")).unwrap());
    let ran = mount.end(Some(Signal::INT));
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert!(lines.len() == 1 && lines[0].contains("/src/victim"), "{ran:?}");
    assert!(ran.code == 1 && ran.stdout.contains("1 error: not all"), "{ran:?}");
    // Who asks for nothing that is damaged is told of nothing.
    let line = format!("-json at store mount -to mnt latest:{}", src.display());
    for (name, code) in [("sound", 0), ("victim", 1)] {
        let Some(mount) = Mount::start(&user, &line) else { return };
        assert_eq!(fs::read(mount.path(name)).is_err(), code == 1);
        let ran = mount.end(Some(Signal::INT));
        let summary = json(&ran.stdout).pop().unwrap();
        assert_eq!((ran.code, summary["errors"].as_i64()), (code, Some(code.into())), "{ran:?}");
    }
}

#[test]
fn an_archive_and_a_bucket_are_mounted_too() {
    let server = S3Server::new();
    for bucket in ["source", "kloset"] {
        server.make_bucket(bucket);
    }
    let body = noise(5_000_000, 3);
    server.insert("source", "a/b c", Object::new(body.clone()).header("x-amz-meta-colour", "blue"));
    server.insert("source", "a", Object::new("beside"));
    let mut user = User::new();
    user.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
    user.set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    for name in ["kloset", "source"] {
        let kind = if name == "source" { "source" } else { "store" };
        user.ok(&format!("{kind} add {name} s3://{}/{name} use_tls=false", server.authority()));
    }
    user.ok("at @kloset create -plaintext");
    user.ok("at @kloset backup @source");
    user.ok("ptar -plaintext -o x.ptar -k @kloset");
    for store in ["@kloset", "./x.ptar"] {
        let Some(mount) = Mount::start(&user, &format!("at {store} mount -to mnt latest")) else { return };
        assert_eq!(fs::read(mount.path("a/b c")).unwrap(), body, "{store}");
        assert_eq!(attribute(&mount.path("a/b c"), "user.s3.meta.colour").as_deref(), Ok(&b"blue"[..]));
        assert_eq!(fs::read(mount.path("%~a")).unwrap(), b"beside", "names are those of the tree");
        assert_eq!(fs::read_dir(mount.path("")).unwrap().count(), 2);
        let umount = Command::new("umount").arg(mount.path("")).status().unwrap();
        assert!(umount.success());
        let ran = mount.end(None);
        assert!(ran.code == 0 && ran.stdout.starts_with("unmounted "), "{ran:?}");
    }
}

#[test]
fn what_cannot_be_mounted_over_is_told_apart() {
    let user = User::new();
    fs::create_dir_all(user.home().join("src")).unwrap();
    fs::write(user.home().join("src/file"), "x").unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    let refused = |line: &str, code: i32, words: &[&str]| {
        let ran = user.run(line);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(words.iter().all(|word| ran.stderr.contains(word)), "{ran:?}");
    };
    refused("at store mount -to nowhere", 64, &["cannot mount at nowhere", "mkdir"]);
    refused("at store mount -to src", 64, &["not empty"]);
    refused("at store mount -to src/file", 64, &["cannot mount at src/file"]);
    refused("at store mount", 64, &["-to"]);
    fs::create_dir(user.home().join("mnt")).unwrap();
    refused("at store mount -to mnt abcdef", 1, &["no snapshot matches"]);
    let file = user.home().join("src/file");
    refused(&format!("at store mount -to mnt latest:{}", file.display()), 64, &["not a folder"]);
    refused("at store mount -to mnt latest:/none", 1, &["no such path"]);
    refused("at store mount -to mnt -since soon", 64, &["since"]);
    let Some(mut mount) = Mount::start(&user, "at store mount -to mnt") else { return };
    mount.child.kill().unwrap();
    mount.child.wait().unwrap();
    refused("at store mount -to mnt", 1, &["whose process is gone", "fusermount3 -u"]);
    take_away(&user.home().join("mnt"));
    // What is in use is unmounted all the same, and that is said.
    let Some(mount) = Mount::start(&user, "at store mount -to mnt") else { return };
    let open = File::open(mount.path(&format!("latest{}", file.canonicalize().unwrap().display()))).unwrap();
    let ran = mount.end(Some(Signal::INT));
    assert!(ran.code == 0 && ran.stderr.contains("was in use"), "{ran:?}");
    drop(open);
    assert_eq!(fs::read_dir(user.home().join("mnt")).unwrap().count(), 0);
}

/// Stops a process where it is, and has it go on.
fn halted(child: &Child, meanwhile: impl FnOnce()) {
    let pid = Pid::from_child(child);
    kill_process(pid, Signal::STOP).unwrap();
    meanwhile();
    kill_process(pid, Signal::CONT).unwrap();
}

#[test]
fn who_was_unmounted_leaves_the_next_mount_alone() {
    let user = User::new();
    fs::create_dir_all(user.home().join("src")).unwrap();
    fs::write(user.home().join("src/file"), "x").unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    if !rustix::process::geteuid().is_root() {
        println!("not run: another mount at the place of the first: it takes root");
        return;
    }
    let Some(mut first) = Mount::start(&user, "at store mount -to mnt") else { return };
    let mut second = None;
    halted(&first.child, || {
        // The program of this name would ask the file system first, which does not answer now.
        rustix::mount::unmount(&first.target, rustix::mount::UnmountFlags::empty()).unwrap();
        second = Mount::start(&user, "at store mount -to mnt");
    });
    let (second, target) = (second.expect("it worked before"), first.target.clone());
    // What this test takes away at the end is the second mount's.
    first.target = user.home().join("nothing");
    let ran = first.end(None);
    assert!(ran.code == 0 && ran.stdout.starts_with("unmounted "), "{ran:?}");
    assert!(target.join("latest").exists(), "the second mount stands");
    let ran = second.end(Some(Signal::INT));
    assert!(ran.code == 0 && !target.join("latest").exists(), "{ran:?}");
}

/// Names of a folder, each with the place from which the next one is read.
fn names_from(folder: &OwnedFd, room: usize, most: usize) -> Vec<(Vec<u8>, u64)> {
    let mut buffer = Vec::with_capacity(room);
    let mut entries = rustix::fs::RawDir::new(folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while names.len() < most {
        let Some(entry) = entries.next() else { break };
        let entry = entry.unwrap();
        names.push((entry.file_name().to_bytes().to_vec(), entry.next_entry_cookie()));
    }
    names
}

#[test]
fn a_folder_of_a_hundred_thousand_files_is_read_in_pieces() {
    const FILES: usize = 100_000;
    let user = User::in_memory();
    let many = user.home().join("src/many");
    fs::create_dir_all(&many).unwrap();
    for number in 0..FILES {
        File::create(many.join(format!("{number:06}"))).unwrap();
    }
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    let place = user.home().join("src").canonicalize().unwrap();
    let line = format!("-memory 32MiB at store mount -to mnt latest:{}", place.display());
    let Some(mount) = Mount::start(&user, &line) else { return };
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let open = || rustix::fs::open(mount.path("many"), flags, rustix::fs::Mode::empty()).unwrap();
    let folder = open();
    let all = names_from(&folder, 32 << 10, usize::MAX);
    let names: Vec<String> = all.iter().map(|(name, _)| String::from_utf8(name.clone()).unwrap()).collect();
    assert_eq!(&names[..2], [".", ".."]);
    assert!(names[2..].iter().eq((0..FILES).map(|number| format!("{number:06}")).collect::<Vec<_>>().iter()));
    let held = anonymous(&mount.child);
    // Places hold in any order, with room for few names and for many, and in another opening of the folder.
    let again = open();
    for (step, at) in [0, 99_999, 50_000, 1, 511, 512, 513, 70_001, 514, 100_001].into_iter().enumerate() {
        let folder = if step % 2 == 0 { &folder } else { &again };
        rustix::fs::seek(folder, rustix::fs::SeekFrom::Start(all[at].1)).unwrap();
        let room = [300, 4096, 65_536][step % 3];
        let found = names_from(folder, room, 1200);
        let wanted = &all[at + 1..all.len().min(at + 1 + found.len())];
        assert!(found == wanted && (found.len() == 1200 || at + 1 + found.len() == all.len()), "from {at}");
    }
    rustix::fs::seek(&folder, rustix::fs::SeekFrom::Start(0)).unwrap();
    assert_eq!(names_from(&folder, 32 << 10, usize::MAX), all);
    let later = anonymous(&mount.child);
    assert!(held.max(later) < 256 << 20, "{held} bytes became {later}");
    assert_eq!(fs::metadata(mount.path("many/099999")).unwrap().len(), 0);
    drop((folder, again));
    assert_eq!(mount.end(Some(Signal::INT)).code, 0);
}

/// Returns the memory that a process has for itself, in bytes.
fn anonymous(child: &Child) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What a user without rights does, with `$plakar` being the program: mount, read, unmount; lose a mount, be told, and
/// take it away.
const UNPRIVILEGED: &str = r#"
set -eu
cd "$HOME"
mkdir src mnt
echo content > src/file
"$plakar" at store create -plaintext
"$plakar" at store backup -quiet src
eventually() { n=0; until "$@" > seen 2>&1; do n=$((n+1)); [ $n -lt 600 ]; sleep 0.1; done; }
"$plakar" at store mount -to mnt "latest:$HOME/src" > out 2> err &
pid=$!
until [ -e mnt/file ]; do
  if ! kill -0 $pid 2> seen; then echo "not run: $(head -n 2 err | tr '
' ' ')"; exit 0; fi
  sleep 0.1
done
echo "content: $(cat mnt/file)"
kill -INT $pid
wait $pid
echo "left: $(ls mnt | wc -l), $(cat out)"
"$plakar" at store mount -to mnt "latest:$HOME/src" > out 2> err &
pid=$!
eventually test -e mnt/file
kill -KILL $pid
wait $pid || echo "killed: $?"
code=0
"$plakar" at store mount -to mnt 2> err || code=$?
echo "refused: $code, $(cat err)"
eval "$(sed -n 's/.*hint: \(fusermount3 -u [^ ]*\).*/\1/p' err)"
"$plakar" at store mount -to mnt "latest:$HOME/src" > out 2> err &
pid=$!
eventually test -e mnt/file
fusermount3 -u mnt
wait $pid
echo "over: $(ls mnt | wc -l)"
"#;

#[test]
fn a_user_without_rights_mounts_too() {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let theirs = home.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    // The program may lie where that user cannot go.
    let program = home.path().join("plakar");
    fs::copy(env!("CARGO_BIN_EXE_plakar"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&theirs, Some(65534), Some(65534)).unwrap();
        // Where only root may use the device, it is another one in a world of mounts of this test's own.
        let device = home.path().join("fuse");
        let prepare = format!(
            "if [ ! -r /dev/fuse ] || [ $(stat -c %a /dev/fuse) != 666 ]; then              mknod -m 666 {0} c 10 229 && mount --bind {0} /dev/fuse || exit 3; fi;              exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c \"$0\"",
            device.display()
        );
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", &prepare, UNPRIVILEGED]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", UNPRIVILEGED]);
        command
    };
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", &theirs)
        .env("plakar", &program);
    let ran = Ran::from(command.stdin(Stdio::null()).output().unwrap());
    if ran.code == 3 || ran.stdout.contains("not run: ") || ran.stderr.contains("unshare: ") {
        println!("not run: mounts by users other than root: {} {}", ran.stdout.trim(), ran.stderr.trim());
        return;
    }
    assert_eq!(ran.code, 0, "{ran:?}");
    for said in [
        "content: content\n",
        "left: 0, mounted 1 snapshot of store at ",
        "killed: 137\n",
        "refused: 1, plakar: cannot mount at mnt: a mount stands there whose process is gone\n",
        "fusermount3 -u mnt takes it away",
        "over: 0\n",
    ] {
        assert!(ran.stdout.contains(said), "{said}: {ran:?}");
    }
}
