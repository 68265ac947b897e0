//! FTP against real servers, plain and over TLS: what `tests/servers/vsftpd` (LIST) and `tests/servers/pure-ftpd`
//! (MLSD) print, such as `FTP_ENDPOINT` and `PURE_FTP_ENDPOINT`, says where they are; their folders are of this
//! machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cli::User;

/// A folder on a server.
pub(crate) struct Bed {
    /// The server's root, on this machine.
    root: PathBuf,
    folder: tempfile::TempDir,
    endpoint: String,
    options: String,
    /// Whether folders are listed by facts (MLSD): it is Pure-FTPd then.
    by_facts: bool,
}

impl Bed {
    /// Runs a test on every server there is.
    pub(crate) fn each(test: impl Fn(&Self)) {
        for (name, prefix) in [("vsftpd", "FTP"), ("Pure-FTPd", "PURE_FTP")] {
            let get =
                |name: &str| std::env::var(format!("{prefix}_{name}")).ok().filter(|value| !value.is_empty());
            let (Some(plain), Some(tls), Some(user), Some(password), Some(ca), Some(root)) = (
                get("ENDPOINT"),
                get("TLS_ENDPOINT"),
                get("USER"),
                get("PASSWORD"),
                get("CA_FILE"),
                get("FOLDER"),
            ) else {
                println!(
                    "not run: FTP tests against {name}, because {prefix}_ENDPOINT and its like are not set"
                );
                continue;
            };
            let login = format!("username={user} password={password}");
            let mut servers = vec![
                // Pure-FTPd offers TLS here, and refuses it: then it is done without.
                (
                    format!("ftp://{plain}"),
                    if prefix == "FTP" { format!("{login} tls=off") } else { login.clone() },
                ),
                (format!("ftps://{tls}"), format!("{login} tls_ca_file={ca}")),
            ];
            if let Some(implicit) = get("IMPLICIT_ENDPOINT") {
                let options = format!("{login} tls=implicit tls_ca_file={ca}");
                servers.push((format!("ftps://{implicit}"), options));
            }
            for (endpoint, options) in servers {
                let root = PathBuf::from(&root);
                let folder = tempfile::tempdir_in(&root).unwrap();
                fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
                test(&Self { root, folder, endpoint, options, by_facts: prefix == "PURE_FTP" });
            }
        }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn location(&self, below: &str) -> String {
        let path = self.path(below);
        format!("{}/{}", self.endpoint, path.strip_prefix(&self.root).unwrap().display())
    }

    pub(crate) fn configure(&self, user: &User, kind: &str, name: &str, below: &str) {
        user.ok(&format!("{kind} add {name} {} {}", self.location(below), self.options));
    }
}

fn plant(root: &Path) {
    fs::create_dir_all(root.join("sub/with space")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    let mut large = vec![7; 3_000_000];
    blake3::Hasher::new().update(b"large").finalize_xof().fill(&mut large[..2_000_000]);
    let old = SystemTime::UNIX_EPOCH + Duration::from_mins(25_000_000);
    for (path, content) in [
        ("a.txt", &b"hello\n"[..]),
        (".hidden", b"hidden"),
        ("zero", b""),
        ("sub/large.bin", &large),
        ("sub/with space/ünïcode ☃ [x]*?.txt", b"odd"),
    ] {
        fs::write(root.join(path), content).unwrap();
        fs::File::options().write(true).open(root.join(path)).unwrap().set_modified(old).unwrap();
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o644)).unwrap();
    }
}

pub(crate) fn same(one: &Path, two: &Path) {
    let told = std::process::Command::new("diff")
        .args(["-r", "--no-dereference"])
        .args([one, two])
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));
}

#[test]
fn ftp_source_and_destination() {
    Bed::each(|bed| {
        let user = User::in_memory();
        plant(&bed.path("src"));
        bed.configure(&user, "source", "src", "src");
        bed.configure(&user, "destination", "dst", "new/dst");
        user.ok("at ./store create -plaintext");
        let told = user.ok("at ./store backup @src");
        assert!(told.contains("5 files"), "{told}");
        let again = user.ok("at ./store backup @src");
        assert!(again.contains("5 unchanged") && again.contains("read      0 B"), "{again}");
        user.ok("at ./store restore -to local");
        same(&user.home().join("local"), &bed.path("src"));
        // Names, modes and times go out again.
        user.ok("at ./store restore -to @dst");
        same(&bed.path("new/dst"), &bed.path("src"));
        let file = fs::metadata(bed.path("new/dst/a.txt")).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o644);
        user.ok("at ./store restore -to @dst");
        same(&bed.path("new/dst"), &bed.path("src"));
        // Size and time tell what changed.
        fs::write(bed.path("src/a.txt"), "changed\n").unwrap();
        let told = user.ok("at ./store backup @src");
        assert!(told.contains("4 unchanged") && told.contains("read      8 B"), "{told}");
    });
}

#[test]
fn ftp_destination_keeps_what_it_is_told_to_keep() {
    Bed::each(|bed| {
        let user = User::in_memory();
        plant(&user.home().join("src"));
        std::os::unix::fs::symlink("a.txt", user.home().join("src/link")).unwrap();
        bed.configure(&user, "destination", "dst", "dst");
        user.ok("at ./store create -plaintext");
        user.ok("at ./store backup src");
        fs::create_dir(bed.path("dst")).unwrap();
        fs::set_permissions(bed.path("dst"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::write(bed.path("dst/a.txt"), "mine").unwrap();
        let ran = user.run("at ./store restore -skip-existing -to @dst");
        assert!(ran.code == 1 && ran.stderr.contains("symbolic links cannot be made"), "{}", ran.stderr);
        assert_eq!(fs::read(bed.path("dst/a.txt")).unwrap(), b"mine");
        let ran = user.run("at ./store restore -no-overwrite -to @dst");
        assert!(ran.code == 1 && ran.stderr.contains("has this name already"), "{}", ran.stderr);
        assert_eq!(fs::read(bed.path("dst/a.txt")).unwrap(), b"mine");
        // A link that somebody planted is replaced, not followed.
        fs::create_dir(bed.path("outside")).unwrap();
        fs::set_permissions(bed.path("outside"), fs::Permissions::from_mode(0o777)).unwrap();
        fs::create_dir(bed.path("dst2")).unwrap();
        fs::set_permissions(bed.path("dst2"), fs::Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::symlink("../outside", bed.path("dst2/sub")).unwrap();
        bed.configure(&user, "destination", "dst2", "dst2");
        user.run("at ./store restore -to @dst2");
        assert_eq!(fs::read(bed.path("dst2/sub/with space/ünïcode ☃ [x]*?.txt")).unwrap(), b"odd");
        assert_eq!(fs::read_dir(bed.path("outside")).unwrap().count(), 0);
        let names: Vec<_> = fs::read_dir(bed.path("dst2")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{names:?}");
    });
}

#[test]
fn ftp_failures_say_why() {
    Bed::each(|bed| {
        let user = User::in_memory();
        user.ok("at ./store create -plaintext");
        // Who gives no name is anonymous, and unwelcome.
        if !bed.options.contains("implicit") {
            assert_ne!(user.run(&format!("at ./store backup {}", bed.location("none"))).code, 0);
        }
        let options = bed.options.replace("username=", "username=nobody-");
        user.ok(&format!("source add wrong {} {options}", bed.location("src")));
        let ran = user.run("at ./store backup @wrong");
        assert!(ran.code == 77 && ran.stderr.contains("530"), "{} {}", ran.code, ran.stderr);
        bed.configure(&user, "source", "none", "none");
        let ran = user.run("at ./store backup @none");
        assert!(ran.code != 0 && !ran.stderr.contains("secret"), "{}", ran.stderr);
        if bed.endpoint.starts_with("ftps") {
            user.ok("source unset none tls_ca_file");
            let ran = user.run("at ./store backup @none");
            assert!(ran.code == 77 && ran.stderr.contains("tls_ca_file"), "{} {}", ran.code, ran.stderr);
            user.ok("source set none tls_insecure_no_verify=true");
            assert!(user.run("at ./store backup @none").stderr.contains("nobody checks who"));
        }
        assert!(!user.ok("source show none").contains("tester-secret"));
    });
}

#[test]
fn ftp_names_and_links_as_odd_as_they_come() {
    use std::os::unix::ffi::OsStrExt as _;
    Bed::each(|bed| {
        let user = User::in_memory();
        let src = bed.path("src");
        fs::create_dir_all(src.join(" lead dir/sub ")).unwrap();
        let odd = |name: &[u8]| src.join(std::ffi::OsStr::from_bytes(name));
        for name in
            [&b" lead"[..], b"trail ", b"a -> b", b"\xfe\xe9", b"-a", b" lead dir/sub /.x", b"'\"*?[$(x)"]
        {
            fs::write(odd(name), name).unwrap();
        }
        for (target, link) in [("a -> b", "link"), ("../nowhere at all", "x -> y"), ("sub", "-l")] {
            std::os::unix::fs::symlink(target, src.join(link)).unwrap();
        }
        bed.configure(&user, "source", "src", "src");
        bed.configure(&user, "destination", "dst", "dst");
        user.ok("at ./store create -plaintext");
        let told = user.ok("at ./store backup @src");
        assert!(told.contains("7 files"), "{told}");
        user.ok("at ./store restore -to local");
        same(&user.home().join("local"), &src);
        for link in ["link", "x -> y", "-l"] {
            let (one, two) = (user.home().join("local").join(link), src.join(link));
            assert_eq!(fs::read_link(one).unwrap(), fs::read_link(two).unwrap());
        }
        // FTP makes no links; everything else goes out again.
        let ran = user.run("at ./store restore -to @dst");
        assert!(
            ran.code == 1 && ran.stderr.matches("symbolic links cannot be made").count() == 3,
            "{}",
            ran.stderr
        );
        for link in ["link", "x -> y", "-l"] {
            fs::remove_file(src.join(link)).unwrap();
        }
        if bed.by_facts {
            // Spaces at the end of names are made something else there, and that is told.
            assert!(ran.stderr.matches("does not keep spaces").count() == 2, "{}", ran.stderr);
            fs::remove_file(src.join("trail ")).unwrap();
            fs::remove_dir_all(src.join(" lead dir/sub ")).unwrap();
            fs::remove_file(bed.path("dst/trail_")).unwrap();
            fs::remove_dir_all(bed.path("dst/ lead dir/sub_")).unwrap();
        }
        same(&bed.path("dst"), &src);
        // A line break in a name cannot be said: it is an error or, where the server hides such names, not seen.
        fs::write(src.join("one\ntwo"), "x").unwrap();
        let ran = user.run("at ./store backup @src");
        assert_eq!(ran.code == 0, bed.by_facts, "{} {}", ran.stdout, ran.stderr);
        // A pipe is no file, and nobody waits for it.
        fs::remove_file(src.join("one\ntwo")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(src.join("pipe")).status().unwrap();
        assert!(made.success());
        let ran = user.run("at ./store backup @src");
        assert!(!ran.stderr.contains("not understood"), "{}", ran.stderr);
    });
}

#[test]
fn ftp_folders_of_many_files_are_whole_or_errors() {
    Bed::each(|bed| {
        let user = User::in_memory();
        let src = bed.path("src");
        fs::create_dir(&src).unwrap();
        for number in 0..10_050 {
            fs::write(src.join(format!("{number:05}")), "").unwrap();
        }
        bed.configure(&user, "source", "src", "src");
        user.ok("at ./store create -plaintext");
        let ran = user.run("at ./store backup @src");
        if bed.by_facts {
            // Its limit is 10,000, and it says so in its last word only.
            assert!(ran.code == 1 && ran.stderr.contains("only a part of it"), "{} {}", ran.code, ran.stderr);
        } else {
            assert!(ran.code == 0 && ran.stdout.contains("10,050 files"), "{} {}", ran.stdout, ran.stderr);
        }
    });
}
