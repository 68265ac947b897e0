//! `archive`, read by the system's tar and by Python's zipfile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use super::{Ran, User, json, packfiles};
use crate::s3server::{ACCESS_KEY, S3Server, SECRET_KEY};

/// A user with a backed-up tree of everything that an archive can hold.
fn user() -> User {
    let user = User::new();
    let src = user.home().join("src");
    fs::create_dir_all(src.join("folder/deep")).unwrap();
    fs::create_dir(src.join("empty folder")).unwrap();
    fs::write(src.join("hello"), "hello\n").unwrap();
    fs::write(src.join("empty"), "").unwrap();
    fs::write(src.join("folder/big"), (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
        .unwrap();
    fs::write(src.join("folder/deep").join("n".repeat(200)), "long").unwrap();
    fs::write(src.join("ünïcode"), "u").unwrap();
    fs::hard_link(src.join("folder/big"), src.join("zz link")).unwrap();
    std::os::unix::fs::symlink("hello", src.join("symlink")).unwrap();
    std::os::unix::fs::symlink("x".repeat(150), src.join("long symlink")).unwrap();
    fs::set_permissions(src.join("hello"), fs::Permissions::from_mode(0o4750)).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
    File::options().write(true).open(src.join("empty")).unwrap().set_modified(time).unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    user
}

/// Describes a tree: what lies at each path.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let mode = metadata.permissions().mode();
            let what = if metadata.is_dir() {
                folders.push(path.clone());
                format!("folder {mode:o}")
            } else if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else {
                let content = blake3::hash(&fs::read(&path).unwrap()).to_hex();
                format!("{mode:o} {} {content}", metadata.mtime())
            };
            found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), what);
        }
    }
    found
}

fn run(program: &str, args: &[&str], folder: &Path) -> Ran {
    Command::new(program).args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap().into()
}

#[test]
fn tar_reads_what_was_written() {
    let user = user();
    let home = user.home();
    let told = user.ok("at store archive -output out.tar -rebase latest");
    assert!(told.starts_with("wrote 6 files, 4 folders to out.tar"), "{told}");
    fs::create_dir(home.join("x")).unwrap();
    let ran = run("tar", &["-xpf", "../out.tar"], &home.join("x"));
    assert!(ran.code == 0 && ran.stderr.is_empty(), "{ran:?}");
    assert_eq!(tree(&home.join("x")), tree(&home.join("src")));
    let inode = |name: &str| fs::metadata(home.join("x").join(name)).unwrap().ino();
    assert_eq!(inode("folder/big"), inode("zz link"), "hard links stay links");
    assert_eq!(fs::metadata(home.join("x/empty")).unwrap().mtime_nsec(), 123_456_789);

    // The format follows the name; without -rebase names are whole paths.
    user.ok("at store archive -output part.tar.gz latest:folder/deep");
    let listed = run("tar", &["-tzf", "part.tar.gz"], home);
    let root = home.canonicalize().unwrap();
    let root = root.to_str().unwrap().strip_prefix('/').unwrap();
    let long = "n".repeat(200);
    assert_eq!(listed.stdout, format!("{root}/src/folder/deep/\n{root}/src/folder/deep/{long}\n"));
    user.ok("at store archive -format tar -output one -rebase latest:hello");
    assert_eq!(run("tar", &["-tf", "one"], home).stdout, "hello\n");
    // A name of its own.
    user.ok("at store archive latest");
    let named = fs::read_dir(home).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    assert_eq!(named.filter(|name| name.starts_with("plakar-") && name.ends_with(".tar.gz")).count(), 1);
}

#[test]
fn extended_attributes_go_along_where_the_system_has_them() {
    let user = User::new();
    let src = user.home().join("src");
    fs::create_dir(&src).unwrap();
    fs::write(src.join("file"), "x").unwrap();
    let set =
        rustix::fs::setxattr(src.join("file"), "user.colour", b"b\0lue", rustix::fs::XattrFlags::empty());
    if set.is_err() {
        return;
    }
    user.ok("at store create -plaintext");
    user.ok("at store backup src");
    user.ok("at store archive -output x.tar latest");
    let bytes = fs::read(user.home().join("x.tar")).unwrap();
    let record = b"SCHILY.xattr.user.colour=b\0lue\n";
    assert!(bytes.windows(record.len()).any(|window| window == record));
}

#[test]
fn python_reads_the_zip() {
    let user = user();
    let home = user.home();
    user.ok("at store archive -output out.zip -rebase latest");
    let script = "
import zipfile, stat, sys
z = zipfile.ZipFile('out.zip')
assert z.testzip() is None
for i in z.infolist():
    mode = i.external_attr >> 16
    kind = 'link' if stat.S_ISLNK(mode) else 'dir' if i.is_dir() else 'file'
    print(i.filename, kind, oct(mode & 0o7777), i.file_size)
assert z.read('symlink') == b'hello'
assert z.read('folder/big') == open('src/folder/big','rb').read()
assert z.read('hello') == b'hello\\n'
";
    let ran = run("python3", &["-c", script], home);
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<&str> = ran.stdout.lines().collect();
    for wanted in ["hello file 0o4750 6", "ünïcode file", "empty folder/ dir", "zz link file", "symlink link"]
    {
        assert!(lines.iter().any(|line| line.starts_with(wanted)), "{wanted}: {lines:?}");
    }
}

#[test]
fn standard_output_holds_the_archive_and_nothing_else() {
    let user = user();
    let out =
        user.command("at store archive -format tar -rebase -output - latest".split(' ')).output().unwrap();
    assert!(out.status.success() && out.stdout.len().is_multiple_of(512));
    assert!(String::from_utf8(out.stderr).unwrap().starts_with("wrote 6 files"));
    let mut tar =
        Command::new("tar").args(["-t"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut tar.stdin.take().unwrap(), &out.stdout).unwrap();
    let listed = tar.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(listed.stdout).unwrap().lines().count(), 12);
    assert_eq!(user.run("-json at store archive -output - latest").code, 64);
    // A reader that leaves ends the run quietly; half an archive is no success.
    let mut child = user
        .command("at store archive -format tar -output - latest".split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), String::from_utf8(done.stderr).unwrap().as_str()), (Some(1), ""));
}

#[test]
fn a_file_is_replaced_on_request_and_stays_when_the_run_fails() {
    let user = user();
    let file = user.home().join("out.tar");
    fs::write(&file, "mine").unwrap();
    let ran = user.run("at store archive -output out.tar latest");
    assert!(ran.code == 1 && ran.stderr.contains("-overwrite"), "{ran:?}");
    assert_eq!(user.run("at store archive -overwrite -output out.tar latest:nothing").code, 1);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let summary = json(&user.ok("-json at store archive -overwrite -output out.tar latest")).pop().unwrap();
    assert_eq!((summary["type"].as_str(), summary["command"].as_str()), (Some("summary"), Some("archive")));
    assert_eq!(summary["files"], 6);
    assert_eq!(summary["written_bytes"].as_u64(), Some(fs::metadata(&file).unwrap().len()));

    // A content that cannot be read is zeros of its length, and the run says so.
    for pack in packfiles(user.home().join("store")) {
        let mut bytes = fs::read(&pack).unwrap();
        if bytes.len() > 1 << 20 {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&pack, bytes).unwrap();
        }
    }
    let ran = user.run("at store archive -overwrite -rebase -output out.tar latest");
    assert!(ran.code == 1 && ran.stderr.contains("/folder/big") && ran.stdout.contains("1 error"), "{ran:?}");
    let listed = run("tar", &["-xOf", "out.tar", "hello"], user.home());
    assert_eq!((listed.code, listed.stdout.as_str()), (0, "hello\n"));
    assert_eq!(user.run("at store archive -format rar latest").code, 64);
}

#[test]
fn an_archive_can_go_into_a_bucket() {
    let server = S3Server::new();
    server.make_bucket("target");
    let mut user = user();
    user.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
    user.set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    user.ok(&format!("destination add dst s3://{}/target use_tls=false", server.authority()));
    user.ok("at store archive -rebase -output @dst:out.tar latest");
    let object = server.object("target", b"out.tar").unwrap();
    fs::write(user.home().join("got.tar"), object.body.as_slice()).unwrap();
    let listed = run("tar", &["-xOf", "got.tar", "hello"], user.home());
    assert_eq!((listed.code, listed.stdout.as_str()), (0, "hello\n"));
}
