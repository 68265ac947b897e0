//! Reading where nothing can be written: a full disk, a rescue system, a home that is not one's own.

use std::path::{Path, PathBuf};

use super::{Ran, User};

/// A user with a store `s` that holds one snapshot of `src`, and an archive of that.
fn user() -> User {
    let user = User::in_memory();
    std::fs::create_dir(user.home().join("src")).unwrap();
    std::fs::write(user.home().join("src/a"), "content\n").unwrap();
    user.ok("at ./s create -plaintext");
    user.ok("at ./s backup src");
    user
}

/// The pin of the only store.
fn pin(user: &User) -> PathBuf {
    fn find(folder: &Path) -> Option<PathBuf> {
        std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).find_map(|path| {
            let pin = path.extension().is_some_and(|extension| extension == "json")
                && path.parent().is_some_and(|parent| parent.ends_with("pins"));
            if pin { Some(path) } else { find(&path) }
        })
    }
    find(user.home()).expect("the store was seen")
}

/// Runs a line while no file can grow.
fn run_full(user: &User, line: &str) -> Ran {
    let program = user.command(line.split_whitespace());
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]).arg(program.get_program());
    command.args(program.get_args()).current_dir(user.home()).env_clear();
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Ran::from(command.output().unwrap())
}

#[test]
fn what_cannot_be_remembered_is_read_all_the_same() {
    let mut user = user();
    std::fs::write(user.home().join("no"), "a file where a folder should be").unwrap();
    user.set("TMPDIR", "/nonexistent");
    let nowhere = "-datadir ./no -cachedir ./no";
    for line in ["ls", "cat latest:a", "check", "restore -to out latest"] {
        let ran = user.run(&format!("at ./s {line} {nowhere}"));
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        assert!(
            ran.stderr.contains("cannot be remembered") && ran.stderr.contains("-datadir"),
            "{line}: {ran:?}"
        );
    }
    assert_eq!(std::fs::read_to_string(user.home().join("out/a")).unwrap(), "content\n");
}

#[test]
fn a_full_disk_leaves_what_was_remembered_to_compare_with() {
    let user = user();
    let pin = pin(&user);
    let text = std::fs::read_to_string(&pin).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    // As if another machine had added the state since.
    record["states"] = serde_json::json!([]);
    std::fs::write(&pin, record.to_string()).unwrap();
    for line in ["at ./s ls", "at ./s cat latest:a"] {
        let ran = run_full(&user, line);
        assert!(ran.code == 0 && ran.stderr.contains("cannot be remembered"), "{line}: {ran:?}");
    }
    record["repository_id"] = serde_json::json!("00");
    std::fs::write(&pin, record.to_string()).unwrap();
    let ran = run_full(&user, "at ./s ls");
    assert!(ran.code == 77 && ran.stderr.contains("not the one seen before"), "{ran:?}");
}

#[test]
fn a_broken_pin_says_what_to_do() {
    let user = user();
    let pin = pin(&user);
    for broken in ["", "{", "[]"] {
        std::fs::write(&pin, broken).unwrap();
        let ran = user.run("at ./s ls");
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(
            ran.stderr.contains(pin.to_str().unwrap()) && ran.stderr.contains("move that file away"),
            "{ran:?}"
        );
    }
    std::fs::remove_file(&pin).unwrap();
    user.ok("at ./s ls");
    assert!(pin.exists());
}
