//! The connector against servers that misbehave, and against one that works, played inside this process.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::client::Client;
use super::connection::{Carrier, Connection, Death};
use super::exporter;
use super::importer::SftpImporter;
use super::options::Options;
use super::sink::SftpSink;
use super::store::SftpStore;
use super::transfer::Opened;
use super::wire::{Fields, Packet, kind, status};
use crate::base::{Cancel, Id, RawString};
use crate::connector::{
    ArchiveSink as _, Error, ErrorKind, Exporter as _, Importer, Item, Kind, Outcome, Result, Storage,
};
use crate::connectors::existing::Existing;
use crate::format::entry::{Entry, FileInfo, Mode};

/// What a server does with a request: its type, its number, its fields. It answers with packets, ready to send.
type Play = dyn Fn(u8, u32, &mut Fields<'_>) -> Answer + Send + Sync;

enum Answer {
    Packets(Vec<Vec<u8>>),
    /// The connection ends.
    End,
    /// Nothing, ever.
    Silence,
}

#[derive(Debug)]
struct Pipe(UnixStream);

impl Carrier for Pipe {
    fn end(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }

    fn why(&self) -> Death {
        Death::new(ErrorKind::Transport, "the pipe ended")
    }
}

fn reply(kind: u8, id: u32, fields: impl FnOnce(Packet) -> Packet) -> Answer {
    Answer::Packets(vec![fields(Packet::new(kind)).seal(id).unwrap()])
}

fn says(id: u32, code: u32) -> Answer {
    reply(kind::STATUS, id, |packet| packet.u32(code).string("as played").string(""))
}

fn version(extensions: &[&str]) -> Vec<u8> {
    let mut fields = Packet::new(kind::VERSION);
    for name in extensions {
        fields = fields.string(name).string("1");
    }
    // A version stands where others have a number.
    fields.seal(3).unwrap()
}

/// Starts a server that greets with `hello` and then plays.
fn serve(hello: Vec<u8>, play: Arc<Play>) -> (UnixStream, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    std::thread::spawn(move || {
        let mut greeting = [0; 9];
        if theirs.read_exact(&mut greeting).is_err() || theirs.write_all(&hello).is_err() {
            return;
        }
        loop {
            let mut head = [0; 4];
            if theirs.read_exact(&mut head).is_err() {
                return;
            }
            let mut packet = vec![0; super::wire::length(head).unwrap()];
            theirs.read_exact(&mut packet).unwrap();
            let mut fields = Fields(&packet[1..]);
            let id = fields.u32().unwrap();
            match play(packet[0], id, &mut fields) {
                Answer::Packets(packets) => {
                    for packet in packets {
                        if theirs.write_all(&packet).is_err() {
                            return;
                        }
                    }
                }
                Answer::End => return,
                Answer::Silence => {}
            }
        }
    });
    (ours.try_clone().unwrap(), ours)
}

fn connect(hello: Vec<u8>, play: Arc<Play>, cancel: &Cancel) -> Result<Connection, Death> {
    let (reader, writer) = serve(hello, play);
    let carrier = Box::new(Pipe(reader.try_clone().unwrap()));
    Connection::open(reader, writer, carrier, cancel, Duration::from_secs(20))
}

fn options() -> Options {
    Options::parse("sftp://h/root", &BTreeMap::new(), &|_| None).unwrap()
}

/// A client whose connections all play alike; the second value counts them.
fn client(
    play: impl Fn(u8, u32, &mut Fields<'_>) -> Answer + Send + Sync + 'static,
) -> (Client, Arc<AtomicUsize>) {
    client_with(options(), Arc::new(move |kind, id, fields: &mut Fields<'_>| play(kind, id, fields)))
}

fn client_with(options: Options, play: Arc<Play>) -> (Client, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let dialled = Arc::clone(&count);
    let dial = move |_: &Options, cancel: &Cancel, _: bool| {
        dialled.fetch_add(1, Ordering::SeqCst);
        connect(version(&[]), Arc::clone(&play), cancel)
    };
    (Client::with_dial(options, Box::new(dial)), count)
}

fn died(play: impl Fn(u8, u32, &mut Fields<'_>) -> Answer + Send + Sync + 'static) -> Error {
    let (client, _) = client(play);
    let connection = client.connection().unwrap();
    connection.lstat(b"/x").unwrap_err()
}

#[test]
fn greetings_that_are_none_are_refused() {
    let refused = |hello: &[u8]| {
        let play: Arc<Play> = Arc::new(|_, _, _: &mut Fields<'_>| Answer::End);
        connect(hello.to_vec(), play, &Cancel::new()).unwrap_err()
    };
    let shell = refused(b"Welcome to this host!\n");
    assert!(shell.kind == ErrorKind::Protocol && shell.detail.contains("start-up files"), "{shell:?}");
    assert_eq!(refused(&[0, 0, 0, 1, 99]).kind, ErrorKind::Protocol);
    assert_eq!(refused(&[0, 0, 0, 5, kind::VERSION, 0, 0, 0, 2]).kind, ErrorKind::Unsupported);
    assert_eq!(refused(&[0, 0, 0, 0]).kind, ErrorKind::Protocol);
    // An extension whose length is a lie.
    assert_eq!(
        refused(&[0, 0, 0, 9, kind::VERSION, 0, 0, 0, 3, 255, 255, 255, 255]).kind,
        ErrorKind::Protocol
    );
}

#[test]
fn answers_that_make_no_sense_end_the_connection() {
    let wrong_number = died(|_, id, _| says(id + 1, status::OK));
    assert!(wrong_number.to_string().contains("was not made"), "{wrong_number}");
    assert_eq!(wrong_number.kind, ErrorKind::Protocol);
    let too_long = died(|_, _, _| Answer::Packets(vec![vec![0x7f, 0xff, 0xff, 0xff, 1]]));
    assert_eq!(too_long.kind, ErrorKind::Protocol);
    let cut = died(|_, id, _| {
        Answer::Packets(vec![[&[0, 0, 0, 6, kind::ATTRS][..], &super::wire::bytes_of(id), &[255]].concat()])
    });
    assert_eq!(cut.kind, ErrorKind::Protocol);
    assert_eq!(died(|_, _, _| Answer::End).kind, ErrorKind::Transport);
    // Sound, but not an answer to this request: the connection goes on.
    let other = died(|_, id, _| reply(kind::HANDLE, id, |packet| packet.string("h")));
    assert_eq!(other.kind, ErrorKind::Protocol);
    assert_eq!(died(|_, id, _| says(id, status::OK)).kind, ErrorKind::Protocol);
    let words = died(|_, id, _| says(id, status::PERMISSION_DENIED));
    assert!(words.kind == ErrorKind::Denied && words.to_string().contains("as played"), "{words}");
}

#[test]
fn everybody_who_waits_learns_of_the_end() {
    let (client, _) = client(|_, _, _| Answer::Silence);
    let connection = client.connection().unwrap();
    std::thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..8).map(|_| scope.spawn(|| connection.lstat(b"/x").unwrap_err().kind)).collect();
        while connection.under_way() < 8 {
            std::thread::yield_now();
        }
        client.cut();
        for one in waiting {
            assert_eq!(one.join().unwrap(), ErrorKind::Transport);
        }
    });
    assert!(connection.is_dead());
    assert_eq!(connection.lstat(b"/x").unwrap_err().kind, ErrorKind::Transport);
}

#[test]
fn the_wish_to_end_is_heard_though_the_server_is_silent() {
    let options = options();
    let cancel = options.cancel.clone();
    let (client, dialled) = client_with(options, Arc::new(|_, _, _: &mut Fields<'_>| Answer::Silence));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.again(|connection| connection.lstat(b"/x")).unwrap_err());
        while dialled.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        cancel.cancel();
        assert_eq!(waiting.join().unwrap().kind, ErrorKind::Cancelled);
    });
    // Nobody waited for the silence of minutes to end.
    assert!(begun.elapsed() < Duration::from_mins(1));
    assert_eq!(client.connection().unwrap_err().kind, ErrorKind::Cancelled);
}

#[test]
fn what_can_be_done_twice_is_done_over_a_new_connection() {
    let asked = AtomicUsize::new(0);
    let (client, dialled) = client(move |_, id, _| {
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            Answer::End
        } else {
            reply(kind::ATTRS, id, |packet| packet.u32(1).u64(42))
        }
    });
    let attrs = client.again(|connection| connection.lstat(b"/x")).unwrap();
    assert_eq!((attrs.size, dialled.load(Ordering::SeqCst)), (Some(42), 2));
    // But not for ever, and not for an answer.
    let (client, dialled) = self::client(|_, _, _| Answer::End);
    assert_eq!(client.again(|connection| connection.lstat(b"/x")).unwrap_err().kind, ErrorKind::Transport);
    assert_eq!(dialled.load(Ordering::SeqCst), 2);
    let (client, dialled) = self::client(|_, id, _| says(id, status::NO_SUCH_FILE));
    assert_eq!(client.again(|connection| connection.lstat(b"/x")).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(dialled.load(Ordering::SeqCst), 1);
}

/// Plays a file of `size` bytes, each the low byte of its place, in parts of at most `most` bytes.
fn file(size: u64, most: usize) -> impl Fn(u8, u32, &mut Fields<'_>) -> Answer + Send + Sync + 'static {
    move |request, id, fields| match request {
        kind::OPEN => reply(kind::HANDLE, id, |packet| packet.string("h")),
        kind::FSTAT => reply(kind::ATTRS, id, |packet| packet.u32(5).u64(size).u32(0o100_644)),
        kind::READ => {
            fields.string();
            let (offset, length) = (fields.u64().unwrap(), fields.u32().unwrap() as usize);
            let end = offset.saturating_add(length.min(most) as u64).min(size);
            if offset >= end {
                return says(id, status::EOF);
            }
            let bytes: Vec<u8> = (offset..end).map(|at| at.to_le_bytes()[0]).collect();
            reply(kind::DATA, id, |packet| packet.string(bytes))
        }
        _ => says(id, status::OK),
    }
}

#[test]
fn parts_that_come_short_are_asked_for_again() {
    let size = 1_000_000;
    for most in [100_000, 10_000, 4097] {
        let (client, _) = client(file(size, most));
        let opened = Arc::new(Opened::read(&client.connection().unwrap(), b"/x").unwrap());
        let all = opened.read_range(3, 999_997).unwrap();
        assert!(all.iter().zip(3_u64..).all(|(byte, at)| *byte == at.to_le_bytes()[0]), "{most}");
        let short = opened.read_range(0, 1_000_001).unwrap_err();
        assert_eq!(short.kind, ErrorKind::Changed);
    }
}

#[test]
fn more_than_was_asked_for_is_refused() {
    let (client, _) = client(|request, id, fields| match request {
        kind::READ => reply(kind::DATA, id, |packet| packet.string(vec![0; 100_000])),
        _ => file(10, 10)(request, id, fields),
    });
    let opened = Arc::new(Opened::read(&client.connection().unwrap(), b"/x").unwrap());
    assert_eq!(opened.read_range(0, 10).unwrap_err().kind, ErrorKind::Protocol);
    // No bytes are no answer either: asking again would never end.
    let (client, _) = self::client(|request, id, fields| match request {
        kind::READ => reply(kind::DATA, id, |packet| packet.string("")),
        _ => file(10, 10)(request, id, fields),
    });
    let opened = Arc::new(Opened::read(&client.connection().unwrap(), b"/x").unwrap());
    assert_eq!(opened.read_range(0, 10).unwrap_err().kind, ErrorKind::Protocol);
}

#[test]
fn a_state_that_claims_to_be_huge_costs_nothing() {
    let (client, _) = client(|request, id, fields| match request {
        kind::FSTAT => reply(kind::ATTRS, id, |packet| packet.u32(5).u64(1 << 50).u32(0o100_644)),
        _ => file(1000, 1000)(request, id, fields),
    });
    let store = SftpStore::with_client(client);
    assert_eq!(store.get(Kind::State, Id::ZERO).unwrap_err().kind, ErrorKind::Changed);
}

/// Plays a folder that lists the given names, over and over if `endless`.
fn folder(
    names: Vec<Vec<u8>>,
    endless: bool,
) -> impl Fn(u8, u32, &mut Fields<'_>) -> Answer + Send + Sync + 'static {
    let listed = AtomicUsize::new(0);
    move |request, id, fields| match request {
        kind::OPENDIR => {
            listed.store(0, Ordering::SeqCst);
            reply(kind::HANDLE, id, |packet| packet.string("h"))
        }
        kind::READDIR if endless || listed.fetch_add(1, Ordering::SeqCst) == 0 => {
            reply(kind::NAME, id, |mut packet| {
                packet = packet.u32(u32::try_from(names.len()).unwrap());
                for name in &names {
                    // A regular file of one byte.
                    packet = packet.string(name).string("long").u32(13).u64(1).u32(0o100_644).u32(0).u32(0);
                }
                packet
            })
        }
        kind::READDIR => says(id, status::EOF),
        kind::STAT | kind::LSTAT => {
            let path = fields.string().unwrap();
            let mode = if path.len() < 6 { 0o040_755 } else { 0o100_644 };
            reply(kind::ATTRS, id, |packet| packet.u32(13).u64(1).u32(mode).u32(0).u32(0))
        }
        _ => says(id, status::OK),
    }
}

#[test]
fn names_that_lead_elsewhere_are_errors_of_their_folder() {
    let names = [&b"good"[..], b"..", b".", b"a/b", b"/etc/passwd", b"", b"nul\0", b"twice", b"twice"];
    let (client, _) = client(folder(names.map(<[u8]>::to_vec).to_vec(), false));
    let importer = SftpImporter::with_client(client, &[], &[]).unwrap();
    let (mut good, mut bad) = (Vec::new(), VecDeque::new());
    importer
        .scan(&mut |record| {
            match record.info {
                Ok(_) => good.push(record.path.lossy().into_owned()),
                Err(error) => {
                    assert_eq!((&record.path[..], error.kind), (&b"/root"[..], ErrorKind::Protocol));
                    bad.push_back(error.to_string());
                }
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(good, ["/", "/root", "/root/good", "/root/twice"]);
    assert_eq!(bad.len(), 5, "{bad:?}");
}

#[test]
fn a_listing_without_an_end_ends() {
    let names = (0..500).map(|name| name.to_string().into_bytes()).collect();
    let (client, _) = client(folder(names, true));
    let connection = client.connection().unwrap();
    let mut count = 0;
    let endless = connection.each_name(b"/root", 10_000, &mut |_| {
        count += 1;
        Ok(())
    });
    assert_eq!((endless.unwrap_err().kind, count), (ErrorKind::Protocol, 10_000));
    // Nothing at all, again and again, is no listing.
    let (client, _) = self::client(folder(Vec::new(), true));
    let empty = client.connection().unwrap().each_name(b"/root", 10, &mut |_| Ok(()));
    assert_eq!(empty.unwrap_err().kind, ErrorKind::Protocol);
}

#[test]
fn a_break_in_the_middle_of_a_listing_ends_the_scan() {
    let (client, dialled) = client(|request, id, fields| match request {
        kind::READDIR => Answer::End,
        _ => folder(Vec::new(), false)(request, id, fields),
    });
    let importer = SftpImporter::with_client(client, &[], &[]).unwrap();
    let error = importer.scan(&mut |_| std::ops::ControlFlow::Continue(())).unwrap_err();
    assert_eq!((error.kind, dialled.load(Ordering::SeqCst)), (ErrorKind::Transport, 2));
}

/// Plays a server with files, each known by its path; handles are paths. `home` is its folder; whatever has no dot
/// and no file is a folder. After `renames` renames the connection ends, once.
fn files(
    files: &Files,
    home: &'static str,
    renames: Option<usize>,
) -> impl Fn(u8, u32, &mut Fields<'_>) -> Answer + Send + Sync + 'static {
    let files = Arc::clone(files);
    let renamed = AtomicUsize::new(0);
    move |request, id, fields| {
        let mut files = files.lock().unwrap();
        let path = fields.string().unwrap_or_default().to_vec();
        let attrs = |mode: u32, size: usize| {
            reply(kind::ATTRS, id, |packet| packet.u32(13).u64(size as u64).u32(mode).u32(0).u32(0))
        };
        match request {
            kind::REALPATH => {
                reply(kind::NAME, id, |packet| packet.u32(1).string(home).string("long").u32(0))
            }
            kind::OPENDIR => reply(kind::HANDLE, id, |packet| packet.string("h")),
            kind::READDIR => says(id, status::EOF),
            kind::OPEN => {
                files.insert(path.clone(), Vec::new());
                reply(kind::HANDLE, id, |packet| packet.string(&path))
            }
            kind::WRITE => {
                fields.u64();
                files.get_mut(&path).unwrap().extend(fields.string().unwrap());
                says(id, status::OK)
            }
            kind::LSTAT | kind::STAT | kind::FSTAT => match files.get(&path) {
                Some(content) => attrs(0o100_644, content.len()),
                None if path.contains(&b'.') => says(id, status::NO_SUCH_FILE),
                None => attrs(0o040_755, 0),
            },
            kind::REMOVE if files.remove(&path).is_some() => says(id, status::OK),
            kind::REMOVE => says(id, status::NO_SUCH_FILE),
            kind::RENAME => {
                let to = fields.string().unwrap().to_vec();
                if !files.contains_key(&path) {
                    return says(id, status::NO_SUCH_FILE);
                }
                // Code 4: a failure without a reason.
                if files.contains_key(&to) || renames == Some(0) {
                    return says(id, 4);
                }
                let content = files.remove(&path).unwrap();
                files.insert(to, content);
                if renames == Some(renamed.fetch_add(1, Ordering::SeqCst) + 1) {
                    return Answer::End;
                }
                says(id, status::OK)
            }
            _ => says(id, status::OK),
        }
    }
}

type Files = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

fn old() -> Files {
    Arc::new(Mutex::new([(b"/root/a.x".to_vec(), b"old one".to_vec())].into()))
}

fn restore(client: Client, name: &str) -> Result<Outcome> {
    let exporter = exporter::with_client(client, Existing::Replace, true)?;
    let entry = Entry::new("/", FileInfo::new("x", Mode::regular(0o644)));
    let item = Item { path: &RawString::from(name), entry: &entry, xattrs: &[] };
    exporter.file(&item, &b"new".to_vec())
}

#[test]
fn replacing_loses_no_file_wherever_the_connection_ends() {
    for renames in [None, Some(1), Some(2)] {
        let held = old();
        let (client, _) = client(files(&held, "/home/me", renames));
        assert_eq!(restore(client, "a.x").unwrap(), Outcome::Restored, "{renames:?}");
        let held = held.lock().unwrap();
        assert_eq!(*held, BTreeMap::from([(b"/root/a.x".to_vec(), b"new".to_vec())]), "{renames:?}");
    }
    let held = old();
    let (client, _) = client(files(&held, "/home/me", Some(0)));
    assert_eq!(restore(client, "a.x").unwrap_err().kind, ErrorKind::Io);
    assert_eq!(*held.lock().unwrap(), *old().lock().unwrap());
}

#[test]
fn an_archive_that_cannot_get_its_name_is_kept() {
    let held = old();
    let options = Options::parse("sftp://h/root/a.x", &BTreeMap::new(), &|_| None).unwrap();
    let (client, _) = client_with(options, Arc::new(files(&held, "/home/me", Some(0))));
    let mut sink = SftpSink::with_client(client, true).unwrap();
    sink.write_all(b"new").unwrap();
    let error = Box::new(sink).commit().unwrap_err();
    let held = held.lock().unwrap();
    let (kept, _) = held.iter().find(|(_, content)| *content == b"new").unwrap();
    assert!(error.to_string().contains(std::str::from_utf8(kept).unwrap()), "{error}");
    assert_eq!(held[&b"/root/a.x"[..]], b"old one");
}

#[test]
fn an_archive_with_a_hole_gets_no_name() {
    let held = old();
    let options = Options::parse("sftp://h/root/a.x", &BTreeMap::new(), &|_| None).unwrap();
    let (inner, written) = (files(&held, "/home/me", None), AtomicUsize::new(0));
    // One write in the middle is refused, for no reason that is told; all others are carried out.
    let play = move |request, id, fields: &mut Fields<'_>| match request {
        kind::WRITE if written.fetch_add(1, Ordering::SeqCst) == 3 => says(id, 4),
        _ => inner(request, id, fields),
    };
    let (client, _) = client_with(options, Arc::new(play));
    let mut sink = SftpSink::with_client(client, true).unwrap();
    let piece = vec![1; 1 << 20];
    let failed = (0..16).position(|_| sink.write_all(&piece).is_err()).unwrap();
    assert!(failed < 15, "it shows long before the end");
    assert!(sink.write(b"what follows").is_err());
    assert!(Box::new(sink).commit().unwrap_err().to_string().contains("not whole"));
    assert_eq!(*held.lock().unwrap(), *old().lock().unwrap());
}

#[test]
fn names_that_lead_elsewhere_on_windows_are_refused() {
    for (home, is_windows) in [("/C:/Users/me", true), ("/home/me", false), ("/c/x", false)] {
        for name in ["..\\..\\x.x", "a.x:b", "..\\.x"] {
            let held = old();
            let (client, _) = client(files(&held, home, None));
            let outcome = restore(client, name).unwrap();
            assert_eq!(matches!(outcome, Outcome::Unsupported(_)), is_windows, "{home} {name}");
            assert_eq!(held.lock().unwrap().len() == 1, is_windows);
        }
        let (client, _) = client(files(&old(), home, None));
        assert_eq!(restore(client, "usual.x").unwrap(), Outcome::Restored);
    }
}

#[test]
fn a_server_that_does_not_tell_its_limits_is_not_waited_for_for_ever() {
    let silent: Arc<Play> = Arc::new(|_, _, _: &mut Fields<'_>| Answer::Silence);
    let open = |cancel: &Cancel, patience| {
        let (reader, writer) = serve(version(&["limits@openssh.com"]), Arc::clone(&silent));
        let carrier = Box::new(Pipe(reader.try_clone().unwrap()));
        Connection::open(reader, writer, carrier, cancel, patience).unwrap_err().kind
    };
    assert_eq!(open(&Cancel::new(), Duration::from_millis(1)), ErrorKind::Transport);
    let cancel = Cancel::new();
    cancel.cancel();
    assert_eq!(open(&cancel, Duration::from_hours(1)), ErrorKind::Cancelled);
}

#[test]
fn a_range_is_read_though_the_connection_of_its_open_file_is_lost() {
    let reads = AtomicUsize::new(0);
    let (client, dialled) = client(move |request, id, fields| match request {
        kind::LSTAT => Answer::Silence,
        kind::READ if reads.fetch_add(1, Ordering::SeqCst) == 1 => Answer::End,
        _ => file(1000, 1000)(request, id, fields),
    });
    let first = client.connection().unwrap();
    let store = SftpStore::with_client(client);
    let read = || {
        let mut count = 0;
        store.read_range(Kind::Packfile, Id::ZERO, 0, 100, &mut |bytes| count += bytes.len()).unwrap();
        count
    };
    assert_eq!(read(), 100);
    std::thread::scope(|scope| {
        // It has so much to do that another one is opened.
        for _ in 0..8 {
            scope.spawn(|| first.lstat(b"/x").unwrap_err());
        }
        while first.under_way() < 8 {
            std::thread::yield_now();
        }
        assert_eq!(read(), 100);
    });
    assert!(first.is_dead());
    assert_eq!(dialled.load(Ordering::SeqCst), 2);
}

/// The times of the lock and of what it was renamed to.
type Lock = Arc<Mutex<(Option<u32>, Option<u32>)>>;

/// Claims CONFIG where a lock stands that is `age` seconds old by the server's clock, which is far ahead. `other` says
/// that somebody else takes it over at the same time.
fn claim(age: u32, other: bool) -> (Result<()>, Lock) {
    const NOW: u32 = 4_000_000_000;
    let lock: Lock = Arc::new(Mutex::new((Some(NOW - age), None)));
    let held = Arc::clone(&lock);
    let (client, _) = client(move |request, id, fields| {
        let mut held = held.lock().unwrap();
        let path = fields.string().unwrap_or_default().to_vec();
        let is_lock = path.ends_with(b"tmp.CONFIG.lock");
        let attrs =
            |time: u32| reply(kind::ATTRS, id, |packet| packet.u32(12).u32(0o100_600).u32(time).u32(time));
        match request {
            kind::OPEN if is_lock && held.0.is_some() => says(id, 4),
            kind::OPEN => {
                held.0 = if is_lock { Some(NOW) } else { held.0 };
                reply(kind::HANDLE, id, |packet| packet.string("h"))
            }
            kind::FSTAT => {
                held.0 = if other { Some(NOW) } else { held.0 };
                attrs(NOW)
            }
            kind::LSTAT => {
                let time = if is_lock { held.0 } else { held.1 };
                time.map_or_else(|| says(id, status::NO_SUCH_FILE), attrs)
            }
            kind::RENAME => {
                let (old, moved) = *held;
                *held = (moved, old);
                says(id, status::OK)
            }
            kind::REMOVE if !is_lock => {
                held.1 = None;
                says(id, status::OK)
            }
            kind::REMOVE => says(id, 4),
            _ => says(id, status::OK),
        }
    });
    let connection = client.connection().unwrap();
    let claimed = SftpStore::with_client(client).claim_config(&connection);
    drop(connection);
    (claimed, lock)
}

#[test]
fn a_lock_is_taken_over_by_the_clock_of_the_server_and_by_one_alone() {
    let (claimed, lock) = claim(1000, false);
    claimed.unwrap();
    assert_eq!(*lock.lock().unwrap(), (Some(4_000_000_000), None));
    let (claimed, lock) = claim(10, false);
    assert_eq!(claimed.unwrap_err().kind, ErrorKind::Changed);
    assert_eq!(lock.lock().unwrap().0, Some(3_999_999_990));
    let (claimed, lock) = claim(1000, true);
    assert_eq!(claimed.unwrap_err().kind, ErrorKind::Changed);
    assert_eq!(*lock.lock().unwrap(), (Some(4_000_000_000), None));
}
