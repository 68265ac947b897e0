//! Standard input and output, and tar archives: what pipes carry in and out.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::{Ran, User};

/// Runs a line with something on standard input.
fn fed(user: &User, line: &str, input: &[u8]) -> Ran {
    let mut command = user.command(line.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let ran = Ran::from(child.wait_with_output().unwrap());
    // A program that fails early leaves its input unread.
    let _ = writer.join().unwrap();
    ran
}

fn store() -> User {
    let user = User::new();
    user.ok("at store create -plaintext");
    user
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"streams").finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_pipe_becomes_a_file_and_a_file_goes_into_a_pipe() {
    let user = store();
    let dump = noise(6_000_003);
    let ran = fed(&user, "at store backup stdin:db/dump.sql", &dump);
    assert!(ran.code == 0 && ran.stdout.contains("1 file"), "{ran:?}");
    let mut restore = user.command(["at", "store", "restore", "-to", "stdout:", "latest:/db/dump.sql"]);
    let output = restore.output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == dump, "what comes out is what went in, and nothing else");
    assert!(String::from_utf8_lossy(&output.stderr).contains("to standard output"));
    user.ok("at store restore -to out latest");
    assert!(fs::read(user.home().join("out/db/dump.sql")).unwrap() == dump);
    for line in ["at store backup -stdin", "at store backup stdin:", "at store backup stdin://"] {
        assert_eq!(fed(&user, line, b"text").code, 0, "{line}");
        assert_eq!(user.ok("at store cat latest:/stdin"), "text");
    }
    assert_eq!(fed(&user, "at store backup -stdin -stdin-filename x.txt", b"named").code, 0);
    assert_eq!(user.ok("at store restore -to stdout: latest:x.txt"), "named");
    assert_eq!(fed(&user, "ptar -plaintext -o x.ptar stdin:y", b"packed").code, 0);
    assert_eq!(user.ok("at x.ptar cat latest:y"), "packed");
}

#[test]
fn what_a_stream_cannot_be_is_said() {
    let user = store();
    let refused = |line: &str, words: &str| {
        let ran = user.run(line);
        assert!(ran.code == 64 && ran.stderr.contains(words), "{line}: {ran:?}");
    };
    refused("at store backup stdin: tar:-", "only once");
    refused("at store backup stdin:../x", "is no name of a file");
    refused("at store backup -stdin src", "cannot be used with");
    refused("at store backup stdout:", "cannot be used as a source");
    refused("at store restore -to stdin:", "cannot be used as a destination");
    refused("at stdin: ls", "cannot be used as a store");
    assert_eq!(fed(&user, "at store backup stdin:x", b"x").code, 0);
    refused("at store restore -to stdout: latest", "one regular file");
    refused("at store restore -to stdout: latest:/", "-output -");
    refused("-json at store restore -to stdout: latest:/x", "cannot share standard output");
    // An empty pipe is kept, and wondered at.
    let ran = fed(&user, "at store backup stdin:nothing", b"");
    assert!(ran.code == 0 && ran.stderr.contains("it was empty"), "{ran:?}");
    // A folder on standard input cannot be read: there is no snapshot then.
    let mut command = user.command(["at", "store", "backup", "stdin:folder"]);
    let ran = Ran::from(command.stdin(File::open(user.home()).unwrap()).output().unwrap());
    assert!(ran.code == 1 && ran.stderr.contains("standard input"), "{ran:?}");
    assert_eq!(user.ok("at store ls").lines().count(), 2);
}

/// Makes an archive of empty files and folders in memory.
fn archive_of(names: &[&str]) -> Vec<u8> {
    let mut archive = Vec::new();
    for name in names {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(b"0000644");
        header[124..135].copy_from_slice(b"00000000000");
        header[136..147].copy_from_slice(b"14524770400");
        header[148..156].fill(b' ');
        header[156] = if name.ends_with('/') { b'5' } else { b'0' };
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        archive.extend_from_slice(&header);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

#[test]
fn pruning_takes_streams_of_two_names_for_two_sources() {
    let user = store();
    let roots = || {
        let listed = user.ok("at store ls -json");
        let lines = super::json(&listed);
        let sources = lines.iter().map(|line| &line["sources"][0]);
        let names = sources.map(|source| {
            let origin = source["origin"].as_str().unwrap();
            origin.split_once(':').unwrap().1.to_owned()
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    for name in ["photos.sql", "accounts.sql", "accounts.sql", "db/accounts.sql"] {
        assert_eq!(fed(&user, &format!("at store backup stdin:{name}"), b"a dump").code, 0);
    }
    assert_eq!(user.ok("at store ls -per-day 1").lines().count(), 3);
    assert_eq!(user.ok("at store ls -per-day 1 -group-by host").lines().count(), 1);
    user.ok("at store prune -days 7 -per-day 1 -apply");
    assert_eq!(roots(), ["accounts.sql", "db/accounts.sql", "photos.sql"]);
    assert!(user.ok("at store ls").contains(":photos.sql"));
    user.ok("at store rm -all -apply");
    // Archives have no names: what they hold tells them apart.
    let streams: [&[&str]; 9] = [
        &["photos/", "photos/a"],
        &["photos/", "photos/a", "photos/b"],
        &["var/lib/mysql/", "var/lib/mysql/a"],
        &["var/lib/mysql/", "var/lib/mysql/b"],
        &["var/lib/pgsql/", "var/lib/pgsql/a"],
        &["var/lib/mysql/", "var/lib/pgsql/"],
        &["./", "./a", "./b"],
        &["./", "./b", "./a"],
        &["./", "./c", "./d"],
    ];
    for stream in streams {
        assert_eq!(fed(&user, "at store backup tar:-", &archive_of(stream)).code, 0, "{stream:?}");
    }
    user.ok("at store prune -per-day 1 -apply");
    assert_eq!(roots().len(), 6);
    assert_eq!(user.ok("at store prune -per-day 1").matches("keep").count(), 6);
}

#[test]
fn a_program_that_writes_nothing_keeps_nobody_from_ending() {
    let user = store();
    let mut command = user.command(["at", "store", "backup", "stdin:x"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let begun = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    // Its input stays open meanwhile.
    let mut child = child;
    let stdin = child.stdin.take();
    let ran = Ran::from(child.wait_with_output().unwrap());
    drop(stdin);
    assert!(ran.code != 0 && begun.elapsed() < Duration::from_secs(30), "{ran:?}");
    assert_eq!(user.ok("at store ls"), "");
}

/// Makes a tree of what an archive can hold.
fn hard_tree(root: &Path) {
    fs::create_dir_all(root.join("folder/deep")).unwrap();
    fs::create_dir(root.join("empty folder")).unwrap();
    fs::write(root.join("hello"), "hello\n").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("folder/big"), noise(300_000)).unwrap();
    fs::write(root.join("folder/deep").join("n".repeat(230)), "long").unwrap();
    let deep = root.join("folder").join("d".repeat(120)).join("e".repeat(120));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("ünïcode"), "deep").unwrap();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"raw \xff\n")), "raw").unwrap();
    fs::hard_link(root.join("hello"), root.join("folder/second name")).unwrap();
    std::os::unix::fs::symlink("../hello", root.join("folder/symlink")).unwrap();
    std::os::unix::fs::symlink("x".repeat(180), root.join("long symlink")).unwrap();
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(4_000_000).unwrap();
    for at in [0, 900_000, 3_000_000] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"island", at).unwrap();
    }
    fs::set_permissions(root.join("hello"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(root.join("folder/deep"), fs::Permissions::from_mode(0o710)).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    File::options().write(true).open(root.join("empty")).unwrap().set_modified(time).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let _ = rustix::fs::setxattr(root.join("empty"), "user.colour", b"bl\0ue\n", flags);
}

/// Describes a tree.
fn tree(root: &Path, nanos: bool) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let (mut folders, mut numbers) = (vec![root.to_owned()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for path in files {
            let metadata = fs::symlink_metadata(&path).unwrap();
            let below = path.strip_prefix(root).unwrap().to_owned();
            let mut colour = [0; 100];
            let colour = rustix::fs::lgetxattr(&path, "user.colour", &mut colour)
                .map(|length| colour[..length].to_vec());
            let what = if metadata.is_dir() {
                folders.push(path.clone());
                "folder".to_owned()
            } else if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else {
                let content = blake3::hash(&fs::read(&path).unwrap()).to_hex();
                if metadata.nlink() > 1 {
                    let count = numbers.len();
                    let number = numbers.entry(metadata.ino()).or_insert(count);
                    format!("#{number} of {} {content}", metadata.nlink())
                } else {
                    content.to_string()
                }
            };
            // Times of links are not everywhere restored by tar itself.
            let time = if metadata.is_symlink() {
                0
            } else if nanos {
                metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec()
            } else {
                metadata.mtime()
            };
            let about = format!(
                "{what} {:o} {}:{} {time} {colour:?}",
                metadata.mode(),
                metadata.uid(),
                metadata.gid()
            );
            found.insert(below, about);
        }
    }
    found
}

fn system(program: &str, args: &[&str], folder: &Path) -> bool {
    let output = Command::new(program).args(args).current_dir(folder).output();
    match output {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("not run: {program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(error) => {
            println!("not run: {program}: {error}");
            false
        }
    }
}

#[test]
fn a_restored_archive_is_what_tar_extracts() {
    let user = store();
    hard_tree(&user.home().join("src"));
    let home = user.home();
    for (n, (format, pack, nanos)) in [
        (&["--format=pax", "--xattrs", "-S"][..], "", true),
        (&["--format=gnu", "-S"], "gzip", false),
        (&["--format=gnu"], "", false),
        (&["--format=posix", "--sparse", "--sparse-version=0.0"], "zstd", true),
        (&["--format=posix", "--sparse", "--sparse-version=0.1"], "", true),
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("{n}.tar");
        let args = [format, &["-cf", &file, "-C", "src", "."]].concat();
        if !system("tar", &args, home) {
            continue;
        }
        let (extracted, restored) = (home.join(format!("extracted{n}")), home.join(format!("restored{n}")));
        fs::create_dir(&extracted).unwrap();
        assert!(system("tar", &["--xattrs", "-xpf", &format!("../{file}")], &extracted));
        let packed = match pack {
            "gzip" => system("gzip", &[&file], home).then(|| format!("{file}.gz")),
            "zstd" => system("zstd", &["-q", "--rm", &file], home).then(|| format!("{file}.zst")),
            _ => Some(file),
        };
        let Some(packed) = packed else { continue };
        // From the file, and the same from a pipe.
        user.ok(&format!("at store backup tar:{packed}"));
        user.ok(&format!("at store restore -to restored{n} latest"));
        let wanted = tree(&extracted, nanos);
        assert!(wanted.len() > 14, "{wanted:#?}");
        let found = tree(&restored, nanos);
        for (path, what) in &wanted {
            assert_eq!(found.get(path), Some(what), "{format:?} {}", path.display());
        }
        assert_eq!(found.len(), wanted.len());
        let ran = fed(&user, "at store backup tar:-", &fs::read(home.join(&packed)).unwrap());
        assert_eq!(ran.code, 0, "{ran:?}");
        user.ok(&format!("at store restore -to piped{n} latest"));
        assert_eq!(tree(&home.join(format!("piped{n}")), nanos), wanted);
    }
}

#[test]
fn an_archive_by_python_and_one_of_ours_are_read() {
    let user = store();
    let home = user.home();
    hard_tree(&home.join("src"));
    let script = "import tarfile\nfor n, f in enumerate((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)):\n    t = tarfile.open('p%d.tar' % n, 'w', format=f)\n    t.add('src', '.')\n    t.close()\n";
    if system("python3", &["-c", script], home) {
        for n in 0..2 {
            user.ok(&format!("at store backup tar:p{n}.tar"));
            user.ok(&format!("at store restore -to p{n} latest"));
            let mut wanted = tree(&home.join("src"), false);
            let found = tree(&home.join(format!("p{n}")), false);
            // Python keeps neither attributes nor all of a second's fraction.
            let empty = wanted.get_mut(Path::new("empty")).unwrap();
            *empty = empty.split(" Ok(").next().unwrap().split(" Err(").next().unwrap().to_owned();
            for (path, what) in &wanted {
                assert!(found[path].starts_with(what.as_str()), "{}: {} {what}", path.display(), found[path]);
            }
        }
    }
    // What archive writes comes back, and an archive of an archive holds the same.
    user.ok("at store backup src");
    user.ok("at store archive -rebase -format tar -output ours.tar latest");
    user.ok("ptar -plaintext -o ours.ptar tar:ours.tar");
    user.ok("at ours.ptar restore -to ours latest");
    assert_eq!(tree(&home.join("ours"), true), tree(&home.join("src"), true));
}

#[test]
fn half_an_archive_makes_no_snapshot() {
    let user = store();
    let home = user.home();
    fs::create_dir(home.join("src")).unwrap();
    fs::write(home.join("src/a"), noise(500_000)).unwrap();
    if !system("tar", &["-cf", "x.tar", "src"], home) {
        return;
    }
    let whole = fs::read(home.join("x.tar")).unwrap();
    let ran = fed(&user, "at store backup tar:-", &whole[..300_000]);
    assert!(ran.code == 1 && ran.stderr.contains("it breaks off, at byte 300000"), "{ran:?}");
    fs::write(home.join("half.tar"), &whole[..300_000]).unwrap();
    let ran = user.run("at store backup tar:half.tar");
    assert!(ran.code == 1 && ran.stderr.contains("breaks off"), "{ran:?}");
    let ran = user.run("at store backup tar:nowhere.tar");
    assert!(ran.code == 1 && ran.stderr.contains("nowhere.tar"), "{ran:?}");
    assert_eq!(user.ok("at store ls"), "", "there is no snapshot");
    // Members that would leave the folder are reported, and the others kept.
    let script = "import tarfile, io\nt = tarfile.open('evil.tar', 'w')\nfor n in ('../out', '/etc/passwd', 'fine'):\n    i = tarfile.TarInfo(n)\n    i.size = 2\n    t.addfile(i, io.BytesIO(b'hi'))\nt.close()\n";
    if system("python3", &["-c", script], home) {
        let ran = user.run("at store backup tar:evil.tar");
        assert!(ran.code == 1 && ran.stderr.contains("leads out of the archive"), "{ran:?}");
        user.ok("at store restore -to evil latest");
        assert_eq!(fs::read(home.join("evil/etc/passwd")).unwrap(), b"hi");
        assert!(home.join("evil/fine").exists() && !home.join("out").exists());
    }
}
