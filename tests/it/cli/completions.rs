//! `completions`.

use std::fs;
use std::process::{Command, Stdio};

use super::User;

/// Asks bash what it would offer for the last word of a line.
fn offered(script: &str, line: &str) -> Vec<String> {
    // bash itself splits at '=', too.
    let words: Vec<String> = line
        .split(' ')
        .flat_map(|word| match word.split_once('=') {
            Some((name, value)) => vec![name.to_owned(), "=".into(), value.into()],
            None => vec![word.to_owned()],
        })
        .collect();
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let program = format!(
        "{script}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n_plakar\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        quoted.join(" "),
        words.len() - 1
    );
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file.txt"), "").unwrap();
    let out = Command::new("bash")
        .args(["--norc", "-c", &program])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let errors = String::from_utf8(out.stderr).unwrap();
    assert_eq!(errors, "", "{line}");
    let out = String::from_utf8(out.stdout).unwrap();
    out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_and_flags_of_one_dash_and_two() {
    let script = User::new().ok("completions bash");
    let found = |line: &str| offered(&script, line);
    assert_eq!(found("plakar rest"), ["restore"]);
    assert_eq!(found("plakar at /x ver"), ["verify", "version"]);
    assert_eq!(found("plakar -keyfile backup che"), ["check"], "the value of a flag is no command");
    assert_eq!(found("plakar ls -recu"), ["-recursive"]);
    assert_eq!(found("plakar at /x ls --recu"), ["--recursive"]);
    assert_eq!(found("plakar verify -fa"), ["-fast"], "other names have the same flags");
    assert!(
        found("plakar -").contains(&"-json".to_owned()) && !found("plakar -").contains(&"-fast".to_owned())
    );
    assert!(found("plakar backup -").contains(&"-quiet".to_owned()));
    assert_eq!(found("plakar archive -format t"), ["tar", "tarball"]);
    assert_eq!(found("plakar archive --format=z"), ["zip"]);
    assert_eq!(found("plakar restore -to "), ["file.txt"]);
    assert_eq!(found("plakar at fi"), ["file.txt"]);
    assert_eq!(found("plakar help rest"), ["restore"]);
    assert_eq!(found("plakar completions fi"), ["fish"]);
    assert_eq!(found("plakar store show x fi"), ["file.txt"]);
}

#[test]
fn zsh_and_fish_scripts_name_everything() {
    let user = User::new();
    let zsh = user.ok("completions zsh");
    assert!(zsh.starts_with("#compdef plakar\n") && zsh.contains("'-recursive:List folders below folders'"));
    assert!(zsh.contains("    check|verify)\n"));
    let fish = user.ok("completions fish");
    let wanted =
        "complete -c plakar -n '__plakar_is ls' -o recursive -l recursive -d 'List folders below folders'\n";
    assert!(fish.contains(wanted), "{fish}");
    assert!(fish.contains("-o format -l format -x -a 'tar tarball zip'"));
    // Where these shells are installed, they read what is written for them.
    for (shell, script) in [("zsh", &zsh), ("fish", &fish)] {
        let file = user.home().join(shell);
        fs::write(&file, script).unwrap();
        if let Ok(out) = Command::new(shell).arg("-n").arg(&file).output() {
            assert!(out.status.success(), "{shell}: {out:?}");
        }
    }
}

#[test]
fn manual_pages_are_written_and_well_formed() {
    let user = User::new();
    let ran = user.run("completions man pages");
    assert!(ran.code == 0 && ran.stdout.is_empty(), "{ran:?}");
    let folder = user.home().join("pages");
    let restore = fs::read_to_string(folder.join("plakar-restore.1")).unwrap();
    assert!(
        restore.starts_with(".TH PLAKAR\\-RESTORE 1 ") && restore.contains("\\fB\\-to DIR\\fR"),
        "{restore}"
    );
    for page in fs::read_dir(&folder).unwrap() {
        let page = page.unwrap().path();
        if let Ok(out) = Command::new("groff").args(["-man", "-ww", "-Tutf8", "-z"]).arg(&page).output() {
            let warnings = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(out.status.success() && warnings.is_empty(), "{}: {warnings}", page.display());
        }
    }
    assert_eq!(user.run("completions man").code, 64);
    assert_eq!(user.run("completions csh").code, 64);
    assert_eq!(user.run("completions bash there").code, 64);
}
