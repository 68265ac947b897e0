//! `completions`: what shells offer, asked of the shells themselves.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::User;

/// What a line gets: in full, or at least, or not.
enum Offer {
    All(&'static [&'static str]),
    With(&'static str),
    Without(&'static str),
}

use Offer::{All, With, Without};

/// Lines, and what is offered for their last word, in every shell. The folder holds `file.txt` and `two words`.
const LINES: &[(&str, Offer)] = &[
    ("plakar rest", All(&["restore"])),
    ("plakar at /x ver", All(&["verify", "version"])),
    ("plakar -keyfile backup che", All(&["check"])),
    ("plakar -quiet che", All(&["check"])),
    ("plakar ls -recu", All(&["-recursive"])),
    ("plakar at /x ls --recu", All(&["--recursive"])),
    ("plakar verify -fa", All(&["-fast"])),
    ("plakar -jso", All(&["-json"])),
    ("plakar -js", Without("-fast")),
    ("plakar backup -qui", All(&["-quiet"])),
    ("plakar archive -format t", All(&["tar", "tarball"])),
    ("plakar archive -format tar -output x --format z", All(&["zip"])),
    ("plakar archive --format=z", All(&["zip"])),
    ("plakar restore -to ", With("file.txt")),
    ("plakar restore -to ", Without("restore")),
    ("plakar at fi", All(&["file.txt"])),
    ("plakar backup tw", All(&["two words"])),
    ("plakar help rest", All(&["restore"])),
    ("plakar completions fi", All(&["fish"])),
    ("plakar store sh", All(&["show"])),
    ("plakar store -keyfile file.txt sh", All(&["show"])),
    ("plakar store show x fi", All(&["file.txt"])),
    ("plakar sync to fi", All(&["file.txt"])),
    ("plakar backup -- fi", All(&["file.txt"])),
    ("plakar nonsense fi", All(&["file.txt"])),
];

/// Asks a shell about all lines, or says that it is not installed.
fn compare(shell: &str, ask: impl Fn(&Path, &str) -> String) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["file.txt", "two words"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    if Command::new(shell).args(["-c", "true"]).status().is_err() {
        println!("not run: completions in {shell}, which is not installed");
        return;
    }
    for (line, wanted) in LINES {
        let answer = ask(folder.path(), line);
        // Some quote what they offer for the command line.
        let answer = answer.replace("\\ ", " ");
        let mut found: Vec<&str> = answer.lines().filter(|line| !line.is_empty()).collect();
        found.sort_unstable();
        found.dedup();
        match wanted {
            All(all) => assert_eq!(found, *all, "{shell}: {line}"),
            With(one) => assert!(found.contains(one), "{shell}: {line}: {found:?}"),
            Without(one) => assert!(!found.contains(one), "{shell}: {line}: {found:?}"),
        }
    }
}

fn run(shell: &str, folder: &Path, args: &[&str]) -> String {
    let mut command = Command::new(shell);
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder.join("nowhere")).env("TERM", "dumb");
    let out = command.output().unwrap();
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && errors.is_empty(), "{shell}: {errors}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn bash_completes() {
    let script = User::new().ok("completions bash");
    compare("bash", |folder, line| {
        // bash itself splits at '=', too.
        let split = |word: &str| match word.split_once('=') {
            Some((name, value)) => vec![name.to_owned(), "=".into(), value.into()],
            None => vec![word.to_owned()],
        };
        let words: Vec<String> = line.split(' ').flat_map(split).map(|word| format!("'{word}'")).collect();
        let program = format!(
            "{script}\nCOMP_WORDS=({})\nCOMP_CWORD={}\n_plakar\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            words.join(" "),
            words.len() - 1
        );
        run("bash", folder, &["--norc", "-uc", &program])
    });
}

/// A zsh that types a line and Tab at another, and prints what that one was about to offer.
const TYPIST: &str = r#"
zmodload zsh/zpty
zpty shell zsh -f -i
send() { zpty -w shell "$1" }
send "PROMPT= ; autoload -Uz compinit; compinit -u -D; source $SCRIPT"
send 'zstyle ":completion:*" list-separator ""'
send 'compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return $?; fi
  local -a hits; builtin compadd -O hits "$@"; print -rl -- $hits >> $OUT; builtin compadd "$@"
}'
send 'ended() { print -r -- "" > $OUT.ended }'
send 'comppostfuncs=(ended)'
send 'print -r -- "" > $OUT.ready'
n=0; until [[ -e $OUT.ready ]]; do sleep 0.05; (( ++n < 1200 )) || exit 1; done
zpty -w -n shell "$LINE"$'\t'
n=0; until [[ -e $OUT.ended ]]; do sleep 0.05; (( ++n < 1200 )) || exit 2; done
[[ ! -e $OUT ]] || cat $OUT
zpty -d shell
"#;

#[test]
fn zsh_completes() {
    let home = User::new();
    let script = home.home().join("script");
    fs::write(&script, home.ok("completions zsh")).unwrap();
    compare("zsh", |folder, line| {
        let out = tempfile::tempdir().unwrap();
        let set = |name: &str, value: &str| format!("export {name}='{value}'\n");
        let program = [
            set("SCRIPT", script.to_str().unwrap()),
            set("OUT", out.path().join("out").to_str().unwrap()),
            set("LINE", line),
            TYPIST.to_owned(),
        ];
        run("zsh", folder, &["-fc", &program.concat()])
    });
}

#[test]
fn fish_completes() {
    let script = User::new().ok("completions fish");
    compare("fish", |folder, line| {
        let program = format!("{script}\ncomplete -C '{line}'\n");
        let answer = run("fish", folder, &["--no-config", "-c", &program]);
        // A description follows a tab; what stands before a value is repeated.
        let plain = |line: &str| {
            let word = line.split('\t').next().unwrap_or_default();
            word.strip_prefix("--format=").unwrap_or(word).to_owned() + "\n"
        };
        answer.lines().map(plain).collect()
    });
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
        let Ok(out) = Command::new("groff").args(["-man", "-ww", "-Tutf8", "-z"]).arg(&page).output() else {
            println!("not run: manual pages by groff, which is not installed");
            break;
        };
        let warnings = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() && warnings.is_empty(), "{}: {warnings}", page.display());
    }
    assert_eq!(user.run("completions man").code, 64);
    assert_eq!(user.run("completions csh").code, 64);
    assert_eq!(user.run("completions bash there").code, 64);
}
