//! `find`, `search` and `locate`.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use super::{User, json};
use crate::s3server::{ACCESS_KEY, Object, S3Server, SECRET_KEY};

/// A user with two snapshots; returns their short ids and the backed-up root.
fn user() -> (User, String, String, String) {
    let user = User::new();
    let src = user.home().join("src");
    fs::create_dir_all(src.join("photos/2024")).unwrap();
    fs::write(src.join("a.pdf"), "%PDF-1.4 x").unwrap();
    fs::write(src.join("photos/2024/B.PDF"), "%PDF-1.4 y").unwrap();
    fs::write(src.join("photos/page.html"), "<!DOCTYPE html><html></html>").unwrap();
    fs::write(src.join("big.txt"), vec![b'x'; 5000]).unwrap();
    std::os::unix::fs::symlink("a.pdf", src.join("photos/link")).unwrap();
    let old = SystemTime::now() - Duration::from_hours(20 * 24);
    File::options().write(true).open(src.join("big.txt")).unwrap().set_modified(old).unwrap();
    user.ok("at store create -plaintext");
    user.ok("at store backup -name first src");
    fs::remove_file(src.join("a.pdf")).unwrap();
    user.ok("at store backup -name second src");
    let ids: Vec<String> = json(&user.ok("-json at store ls"))
        .iter()
        .map(|line| line["id"].as_str().unwrap()[..8].to_owned())
        .collect();
    let root = src.canonicalize().unwrap().to_str().unwrap().to_owned();
    (user, ids[0].clone(), ids[1].clone(), root)
}

#[test]
fn locate_finds_names_in_all_snapshots() {
    let (user, first, second, root) = user();
    assert_eq!(user.ok("at store locate a.pdf"), format!("{first}:{root}/a.pdf\n"));
    assert_eq!(
        user.ok("at store locate page.html"),
        format!("{first}:{root}/photos/page.html\n{second}:{root}/photos/page.html\n")
    );
    assert_eq!(user.ok("at store locate *.pdf -snapshot latest"), "");
    let found = user.ok("at store locate -i *.pdf -snapshot latest:photos");
    assert_eq!(found, format!("{second}:{root}/photos/2024/B.PDF\n"));
    assert_eq!(user.ok("at store locate -name first a*.pdf"), format!("{first}:{root}/a.pdf\n"));
    assert_eq!(
        user.ok("at store locate photos/*.html -latest"),
        format!("{second}:{root}/photos/page.html\n")
    );
    assert!(user.ok("at store locate -l page.html -latest").contains("-rw"));
    assert_eq!(user.ok("at store locate nothing"), "");
    // What is printed can be typed.
    assert_eq!(user.ok(&format!("at store cat {}", found.trim())), "%PDF-1.4 y");
    assert_eq!(user.run("at store locate").code, 64);
    assert_eq!(user.run_args(["at", "store", "locate", "[a"]).code, 64);
}

#[test]
fn find_takes_names_sizes_times_types_and_kinds() {
    let (user, first, second, root) = user();
    let found = |flags: &str| -> Vec<String> {
        let printed = user.ok(&format!("at store find {flags} {second}"));
        let prefix = format!("{second}:{root}");
        printed.lines().map(|line| line.strip_prefix(&prefix).unwrap().to_owned()).collect()
    };
    assert_eq!(found("-iname *.pdf"), ["/photos/2024/B.PDF"]);
    assert_eq!(found("-name *.pdf -iname *.HTML"), ["/photos/page.html"]);
    assert_eq!(found("-size +4K"), ["/big.txt"]);
    assert_eq!(found("-size 5000"), ["/big.txt"]);
    assert_eq!(found("-size -11"), ["/photos/2024/B.PDF"]);
    assert_eq!(found("-size +10 -size -4K"), ["/photos/page.html"]);
    assert_eq!(found("-mtime +7d -type f"), ["/big.txt"]);
    assert_eq!(found("-mtime -7 -type f"), ["/photos/2024/B.PDF", "/photos/page.html"]);
    assert_eq!(found("-older 7d -type f"), ["/big.txt"]);
    assert_eq!(found("-newer 7d -type f -name b*"), [""; 0]);
    assert_eq!(found("-type l"), ["/photos/link"]);
    assert_eq!(found("-type d,l -path /**/photos/*"), ["/photos/2024", "/photos/link"]);
    assert_eq!(found("-content-type text/html"), ["/photos/page.html"]);
    assert_eq!(found("-mime application/* -type f"), ["/photos/2024/B.PDF"]);
    // The index of types has its own order.
    assert_eq!(found("-mime TEXT/*"), ["/photos/page.html", "/big.txt"]);
    assert_eq!(
        user.ok("at store search -name *.pdf"),
        format!("{first}:{root}/a.pdf\n"),
        "search is another name"
    );
    assert_eq!(user.ok("at store find -snapshot-name first -name a.*").lines().count(), 1);
    assert_eq!(user.ok(&format!("at store find {second}:photos/2024 -mime */pdf")).lines().count(), 1);
}

#[test]
fn json_lines_are_entries_and_nonsense_is_refused() {
    let (user, _, _, root) = user();
    let lines = json(&user.ok("-json at store find -name page.html -latest"));
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["type"], "entry");
    assert_eq!(lines[0]["path"], format!("{root}/photos/page.html"));
    assert_eq!((lines[0]["size"].as_u64(), lines[0]["kind"].as_str()), (Some(28), Some("file")));
    assert_eq!(lines[0]["snapshot"].as_str().unwrap().len(), 64);
    for (line, said) in [
        ("at store find -size big", "is not a size"),
        ("at store find -mtime 7d", "needs a sign"),
        ("at store find -newer soon", "is neither a date"),
        ("at store find -type x", "none of f, d, l and s"),
        ("at store find -meta =x", "has no key"),
        ("at store find -name [x", "is not a pattern"),
    ] {
        let ran = user.run(line);
        assert!(ran.code == 64 && ran.stderr.contains(said), "{line}: {ran:?}");
    }
    let ran = user.run("at store find *.pdf");
    assert!(ran.code == 1 && ran.stderr.contains("a pattern goes after -name"), "{ran:?}");
}

#[test]
fn objects_are_found_by_their_metadata() {
    let server = S3Server::new();
    server.make_bucket("source");
    server.insert("source", "a/blue", Object::new("1").header("x-amz-meta-colour", "blue"));
    server.insert("source", "a/red", Object::new("2").header("x-amz-meta-colour", "red"));
    server.insert("source", "cached", Object::new("3").header("cache-control", "no-cache").tag("team", "x"));
    let mut user = User::new();
    user.set("AWS_ACCESS_KEY_ID", ACCESS_KEY);
    user.set("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
    user.ok("at store create -plaintext");
    user.ok(&format!("at store backup -o use_tls=false s3://{}/source", server.authority()));
    let found = |flags: &str| -> Vec<String> {
        let lines = json(&user.ok(&format!("-json at store find {flags} latest")));
        lines.iter().map(|line| line["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(found("-meta colour=blue"), ["/a/blue"]);
    assert_eq!(found("-meta s3.meta.colour=*"), ["/a/blue", "/a/red"]);
    assert_eq!(found("-meta colour=r* -name r*"), ["/a/red"]);
    assert_eq!(found("-meta cache-control"), ["/cached"]);
    assert_eq!(found("-meta s3.tags=*team=x*"), ["/cached"]);
    assert_eq!(found("-meta colour=green"), [""; 0]);
}
