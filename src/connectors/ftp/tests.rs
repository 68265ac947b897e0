//! The connector against servers that misbehave, played inside this process.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::{FtpImporter, Options, open_exporter};
use crate::base::{RawString, Timestamp};
use crate::connector::{Error, ErrorKind, Exporter as _, Importer as _, Item, Outcome, Result};
use crate::connectors::existing::Existing;
use crate::format::entry::{Entry, FileInfo, Mode};

const FOLDER: &str = "type=dir;";
const TIME: &str = "20200913122640";

/// A server: its files, and what it does not do as it should.
#[derive(Default)]
struct Play {
    files: BTreeMap<String, (Vec<u8>, &'static str)>,
    /// What was asked of it.
    log: Vec<String>,
    system: &'static str,
    never_renames: bool,
    never_replaces: bool,
    /// The connection ends right after a rename, this often.
    lose_renames: usize,
    /// The connection ends in the middle of the first download; then the file gets this time.
    cut_download: Option<&'static str>,
    offset: usize,
    /// It says that it has TLS, and has none.
    boasts: bool,
    /// How the server says that a file was written, if not well.
    store_answer: Option<&'static str>,
}

impl Play {
    fn with(files: &[(&str, &str)]) -> Arc<Mutex<Self>> {
        let files = files.iter().map(|(name, content)| ((*name).into(), (content.as_bytes().to_vec(), TIME)));
        Arc::new(Mutex::new(Self { files: files.collect(), system: "UNIX Type: L8", ..Self::default() }))
    }

    fn facts(&self, path: &str) -> Option<String> {
        if path == "/root" {
            return Some(FOLDER.into());
        }
        let (content, time) = self.files.get(path)?;
        Some(format!("type=file;size={};modify={time};", content.len()))
    }

    /// Answers a command that takes no data connection. `None` ends the connection.
    fn answer(&mut self, command: &str, path: &str, from: &mut String) -> Option<String> {
        let missing = || "550 No such file".to_owned();
        Some(match command {
            "USER" => "331 ?".into(),
            "PASS" => "230 in".into(),
            "FEAT" if self.boasts => {
                "211-has\r\n AUTH TLS\r\n MLST type*;size*;modify*;\r\n MFMT\r\n211 end".into()
            }
            "FEAT" => "211-has\r\n MLST type*;size*;modify*;\r\n MDTM\r\n MFMT\r\n211 end".into(),
            "AUTH" => "500 This security scheme is not implemented".into(),
            "SYST" => format!("215 {}", self.system),
            "CWD" if path == "/root" => "250 there".into(),
            "MLST" => self.facts(path).map_or_else(missing, |f| format!("250-is\r\n {f} {path}\r\n250 end")),
            "SIZE" => {
                self.files.get(path).map_or_else(missing, |(content, _)| format!("213 {}", content.len()))
            }
            "MDTM" => self.files.get(path).map_or_else(missing, |(_, time)| format!("213 {time}")),
            "RNFR" if self.files.contains_key(path) => {
                path.clone_into(from);
                "350 go on".into()
            }
            "CWD" | "RNFR" => missing(),
            "RNTO" if self.never_renames => "550 Permission denied".into(),
            "RNTO" if self.never_replaces && self.files.contains_key(path) => "550 File exists".into(),
            "RNTO" => {
                let file = self.files.remove(from)?;
                self.files.insert(path.into(), file);
                if self.lose_renames > 0 {
                    self.lose_renames -= 1;
                    return None;
                }
                "250 renamed".into()
            }
            "DELE" => self.files.remove(path).map_or_else(missing, |_| "250 gone".into()),
            "MFMT" => "213 so it is".into(),
            _ => "200 as you wish".into(),
        })
    }

    fn contents(play: &Mutex<Self>) -> Vec<(String, String)> {
        let play = play.lock().unwrap();
        let shown = |content: &Vec<u8>| String::from_utf8_lossy(content).into_owned();
        play.files.iter().map(|(name, (content, _))| (name.clone(), shown(content))).collect()
    }
}

/// Plays one session.
fn session(play: &Mutex<Play>, stream: &TcpStream) -> Option<()> {
    let mut data = None;
    let mut from = String::new();
    let say = |words: &str| (&mut &*stream).write_all(format!("{words}\r\n").as_bytes()).ok();
    say("220 hello")?;
    for line in BufReader::new(stream).lines() {
        let line = line.ok()?;
        let (command, path) = line.split_once(' ').unwrap_or((&line, ""));
        play.lock().unwrap().log.push(line.clone());
        match command {
            "EPSV" => {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                say(&format!("229 come (|||{}|)", listener.local_addr().unwrap().port()))?;
                data = Some(listener);
            }
            "REST" => {
                play.lock().unwrap().offset = path.parse().ok()?;
                say("350 go on")?;
            }
            "RETR" => {
                let (mut stream, _) = data.take()?.accept().ok()?;
                say("150 go on")?;
                let mut play = play.lock().unwrap();
                let from = std::mem::take(&mut play.offset);
                let cut = play.cut_download.take();
                let file = play.files.get_mut(path)?;
                let end = if cut.is_some() { file.0.len() / 2 } else { file.0.len() };
                stream.write_all(&file.0[from..end]).ok()?;
                drop(stream);
                if let Some(time) = cut {
                    file.1 = time;
                    return None;
                }
                say("226 done")?;
            }
            "STOR" | "MLSD" => {
                let (mut stream, _) = data.take()?.accept().ok()?;
                say("150 go on")?;
                if command == "STOR" {
                    let mut content = Vec::new();
                    stream.read_to_end(&mut content).ok()?;
                    let mut play = play.lock().unwrap();
                    play.files.insert(path.into(), (content, TIME));
                    if let Some(answer) = play.store_answer {
                        drop(stream);
                        say(answer)?;
                        continue;
                    }
                } else {
                    let play = play.lock().unwrap();
                    for name in play.files.keys() {
                        let facts = play.facts(name)?;
                        let name = name.rsplit('/').next()?;
                        stream.write_all(format!("{facts} {name}\r\n").as_bytes()).ok()?;
                    }
                }
                drop(stream);
                say("226 done")?;
            }
            _ => {
                let answer = play.lock().unwrap().answer(command, path, &mut from)?;
                say(&answer)?;
            }
        }
    }
    Some(())
}

/// Starts a server; returns the location of its folder.
fn serve(play: &Arc<Mutex<Play>>) -> Options {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let play = Arc::clone(play);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, play) = (stream.unwrap(), Arc::clone(&play));
            std::thread::spawn(move || {
                session(&play, &stream);
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
    let options = [("tls".to_owned(), "off".to_owned())].into();
    Options::parse(&format!("ftp://{address}/root"), &options).unwrap()
}

/// Restores a file over what has its name.
fn restore(play: &Arc<Mutex<Play>>, name: &str, existing: Existing) -> Result<Outcome> {
    let exporter = open_exporter(serve(play), existing, false)?;
    let mut info = FileInfo::new("x", Mode::regular(0o644));
    info.modified = Timestamp::from_secs(1_600_000_000);
    let item = Item { path: &RawString::from(name), entry: &Entry::new("/", info), xattrs: &[] };
    exporter.file(&item, &b"new".to_vec())
}

fn pairs(contents: &[(String, String)]) -> Vec<(&str, &str)> {
    contents.iter().map(|(name, content)| (name.as_str(), content.as_str())).collect()
}

#[test]
fn a_rename_whose_answer_is_lost_costs_no_file() {
    for (existing, old, never_replaces) in [
        (Existing::Replace, true, false),
        (Existing::Replace, true, true),
        (Existing::Replace, false, false),
        (Existing::Skip, false, false),
    ] {
        let play = Play::with(if old { &[("/root/a", "old one")] } else { &[] });
        play.lock().unwrap().lose_renames = 1;
        play.lock().unwrap().never_replaces = never_replaces;
        assert_eq!(restore(&play, "a", existing).unwrap(), Outcome::Restored);
        assert_eq!(pairs(&Play::contents(&play)), [("/root/a", "new")], "{:?}", play.lock().unwrap().log);
    }
}

/// Content that ends everything when its second part is read.
#[derive(Debug)]
struct Interrupted(crate::base::Cancel);

impl crate::connector::ContentSource for Interrupted {
    fn size(&self) -> u64 {
        5 << 20
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(7);
        if offset > 0 {
            self.0.cancel();
        }
        Ok(())
    }

    fn boundaries(&self) -> Vec<u64> {
        vec![0]
    }
}

#[test]
fn an_upload_that_is_interrupted_leaves_nothing_behind() {
    let play = Play::with(&[("/root/a", "old one")]);
    let options = serve(&play);
    let cancel = options.cancel.clone();
    let exporter = open_exporter(options, Existing::Replace, false).unwrap();
    let entry = Entry::new("/", FileInfo::new("a", Mode::regular(0o644)));
    let item = Item { path: &RawString::from("a"), entry: &entry, xattrs: &[] };
    let error = exporter.file(&item, &Interrupted(cancel)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert_eq!(pairs(&Play::contents(&play)), [("/root/a", "old one")], "{:?}", play.lock().unwrap().log);
}

#[test]
fn a_server_whose_disk_is_full_is_not_asked_again() {
    for answer in
        ["426 Failure writing to local file.", "451-Error during write to file\r\n451 Aborted", "552 Quota"]
    {
        let play = Play::with(&[("/root/a", "old one")]);
        play.lock().unwrap().store_answer = Some(answer);
        let error = restore(&play, "a", Existing::Replace).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Full, "{error}");
        let play_log = play.lock().unwrap().log.clone();
        assert_eq!(play_log.iter().filter(|line| line.starts_with("STOR")).count(), 1, "{play_log:?}");
        assert_eq!(pairs(&Play::contents(&play)), [("/root/a", "old one")]);
    }
}

#[test]
fn a_server_that_offers_tls_and_has_none_is_spoken_to_without_unless_that_is_not_allowed() {
    for (tls, works) in [("auto", true), ("explicit", false)] {
        let play = Play::with(&[]);
        play.lock().unwrap().boasts = true;
        let options = serve(&play);
        let map = [("tls".to_owned(), tls.to_owned())].into();
        let options = Options::parse(&options.describe(), &map).unwrap();
        let opened = open_exporter(options, Existing::Replace, false);
        assert_eq!(opened.is_ok_and(|exporter| exporter.is_plain()), works);
        let asked = |word: &str| play.lock().unwrap().log.iter().any(|line| line.starts_with(word));
        assert!(asked("AUTH"));
        assert_eq!(asked("PASS"), works, "no password goes out in the clear");
    }
}

#[test]
fn a_server_that_renames_nothing_keeps_what_it_has() {
    let play = Play::with(&[("/root/a", "old one")]);
    play.lock().unwrap().never_renames = true;
    assert_eq!(restore(&play, "a", Existing::Replace).unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(pairs(&Play::contents(&play)), [("/root/a", "old one")]);
    assert!(!play.lock().unwrap().log.iter().any(|line| line == "DELE /root/a"));
}

#[test]
fn a_download_goes_on_only_in_the_same_file() {
    for (time, is_same) in [(TIME, true), ("20200913122641", false)] {
        let play = Play::with(&[("/root/a", "first and second half")]);
        play.lock().unwrap().cut_download = Some(time);
        let importer = FtpImporter::open(serve(&play), &[], &[]).unwrap();
        let mut record = None;
        importer
            .scan(&mut |found| {
                record = Some(found);
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        let mut content = importer.open(&record.unwrap()).unwrap();
        let mut all = String::new();
        let read = content.read_to_string(&mut all);
        if is_same {
            read.unwrap();
            content.finish().unwrap();
            assert_eq!(all, "first and second half");
        } else {
            let error = read.unwrap_err().downcast::<Error>().unwrap();
            assert_eq!(error.kind, ErrorKind::Changed);
        }
    }
}

#[test]
fn names_that_lead_elsewhere_on_windows_are_refused() {
    for (system, is_unix) in [
        ("UNIX Type: L8", true),
        ("Windows_NT", false),
        ("UNIX emulated by FileZilla", false),
        ("nothing that is known", false),
    ] {
        for name in ["..\\..\\x", "a:b", ".. ", "sub\\x"] {
            let play = Play::with(&[]);
            play.lock().unwrap().system = system;
            let outcome = restore(&play, name, Existing::Replace).unwrap();
            assert_eq!(outcome == Outcome::Restored, is_unix, "{system} {name} {outcome:?}");
            assert_eq!(matches!(outcome, Outcome::Unsupported(_)), !is_unix);
            assert_eq!(Play::contents(&play).is_empty(), !is_unix);
        }
        let play = Play::with(&[]);
        play.lock().unwrap().system = system;
        assert_eq!(restore(&play, "usual", Existing::Replace).unwrap(), Outcome::Restored);
    }
}

#[test]
fn a_server_that_does_not_replace_is_helped() {
    let play = Play::with(&[("/root/a", "old one")]);
    play.lock().unwrap().never_replaces = true;
    assert_eq!(restore(&play, "a", Existing::Replace).unwrap(), Outcome::Restored);
    assert_eq!(pairs(&Play::contents(&play)), [("/root/a", "new")]);
}
