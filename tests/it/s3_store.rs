//! A store in a bucket: layout, listing, ranges, conditions.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use plakar::base::Id;
use plakar::connector::{Body, ErrorKind, Kind, Storage};
use plakar::connectors::s3::S3Store;

use crate::conformance;
use crate::s3_bed::Bed;
use crate::s3server::{self, Action, Fault, Key, Object};

fn id(n: u8) -> Id {
    Id([n; 32])
}

fn store(bed: &Bed, prefix: &str) -> S3Store {
    S3Store::new(bed.options(prefix, &[])).unwrap()
}

fn listed(store: &S3Store, kind: Kind) -> Vec<(Id, u64)> {
    let mut found = Vec::new();
    store.list(kind, &mut |item| found.push((item.id, item.size))).unwrap();
    found.sort();
    found
}

#[test]
fn the_contract_of_every_store() {
    Bed::each(|bed| {
        let count = AtomicUsize::new(0);
        conformance::writable(&|| {
            Box::new(store(bed, &format!("c{}", count.fetch_add(1, Ordering::SeqCst))))
        });
    });
}

#[test]
fn a_store_is_created_once_and_read_back() {
    Bed::each(|bed| {
        let store = store(bed, "some/prefix");
        assert_eq!(store.config().unwrap_err().kind, ErrorKind::NotFound);
        store.create(b"the config").unwrap();
        assert_eq!(store.config().unwrap(), b"the config");
        assert_eq!(store.create(b"another").unwrap_err().kind, ErrorKind::Exists);
        assert_eq!(store.config().unwrap(), b"the config");
        assert_eq!(bed.keys(), [b"some/prefix/CONFIG".to_vec()]);
        assert!(store.is_remote() && !store.is_read_only() && !store.is_archive());
    });
}

#[test]
fn a_missing_bucket_is_made() {
    let bed = Bed::own(s3server::Options::default());
    let mut options = bed.options("", &[]);
    options.location.bucket = "new-bucket".into();
    S3Store::new(options).unwrap().create(b"config").unwrap();
    let server = bed.own_server();
    assert_eq!(server.object("new-bucket", "CONFIG").unwrap().body.as_slice(), b"config");
    assert_eq!(server.counters().of("CreateBucket"), 1);
    // And a bucket that is there is not created again.
    server.reset_counters();
    store(&bed, "").create(b"config").unwrap();
    assert_eq!(server.counters().of("CreateBucket"), 0);
}

#[test]
fn what_is_left_of_a_store_is_not_overwritten() {
    let bed = Bed::own(s3server::Options::default());
    bed.own_server().insert("bucket", format!("p/states/01/{}", id(1)), Object::new("x"));
    assert_eq!(store(&bed, "p").create(b"config").unwrap_err().kind, ErrorKind::Exists);
    store(&bed, "q").create(b"config").unwrap();
}

#[test]
fn resources_stand_where_the_layout_says() {
    Bed::each(|bed| {
        let store = store(bed, "p/");
        for (kind, n) in [(Kind::Packfile, 0xa1), (Kind::State, 0xb2), (Kind::Lock, 0xc3)] {
            store.put(kind, id(n), Body::Bytes(&[n; 7])).unwrap();
            assert_eq!(store.get(kind, id(n)).unwrap(), [n; 7]);
            assert_eq!(store.size(kind, id(n)).unwrap(), 7);
            assert_eq!(listed(&store, kind), [(id(n), 7)]);
        }
        let text = |n| id(n).to_hex();
        let mut expected = [
            format!("p/packfiles/a1/{}", text(0xa1)).into_bytes(),
            format!("p/states/b2/{}", text(0xb2)).into_bytes(),
            format!("p/locks/{}", text(0xc3)).into_bytes(),
        ];
        expected.sort();
        assert_eq!(bed.keys(), expected);
        store
            .list(Kind::Lock, &mut |lock| {
                let age = SystemTime::now().duration_since(lock.modified.unwrap()).unwrap_or_default();
                assert!(age < Duration::from_mins(10));
            })
            .unwrap();
        for (kind, n) in [(Kind::Packfile, 0xa1), (Kind::State, 0xb2), (Kind::Lock, 0xc3)] {
            store.delete(kind, id(n)).unwrap();
            store.delete(kind, id(n)).unwrap();
            assert_eq!(store.get(kind, id(n)).unwrap_err().kind, ErrorKind::NotFound);
            assert_eq!(store.size(kind, id(n)).unwrap_err().kind, ErrorKind::NotFound);
        }
    });
}

#[test]
fn spooled_bodies_and_ranges() {
    Bed::each(|bed| {
        let store = store(bed, "");
        let content: Vec<u8> = (0..3_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut file = store.spool().unwrap();
        file.write_all(&content).unwrap();
        file.write_all(b"beyond the body").unwrap();
        let body = Body::Spool { file: &file, length: content.len() as u64 };
        store.put(Kind::Packfile, id(1), body).unwrap();
        let read = |offset, length| {
            let mut out = None;
            let result = store.read_range(Kind::Packfile, id(1), offset, length, &mut |bytes| {
                assert!(out.is_none(), "consumed twice");
                out = Some(bytes.to_vec());
            });
            result.map(|()| out.unwrap())
        };
        assert_eq!(read(0, 10).unwrap(), content[..10]);
        assert_eq!(read(2_999_990, 10).unwrap(), content[2_999_990..]);
        assert_eq!(read(1_000_000, 1_500_000).unwrap(), content[1_000_000..2_500_000]);
        assert_eq!(read(3_000_000, 0).unwrap(), b"");
        for (offset, length) in [(2_999_991, 10), (3_000_000, 1), (9_000_000, 1), (3_000_001, 0)] {
            assert_eq!(read(offset, length).unwrap_err().kind, ErrorKind::Protocol, "{offset}+{length}");
        }
        assert_eq!(store.get(Kind::Packfile, id(1)).unwrap(), content);
        if let Some(server) = &bed.server {
            assert!(server.counters().expected > 0, "a large PUT waits for 100 Continue");
        }
    });
}

#[test]
fn listings_go_on_page_after_page_and_pass_over_what_is_foreign() {
    let bed = Bed::own(s3server::Options { page_size: 7, ..s3server::Options::default() });
    let store = store(&bed, "p");
    for n in 0..50 {
        store.put(Kind::State, id(n), Body::Bytes(&[n])).unwrap();
    }
    let server = bed.own_server();
    for foreign in ["p/states/README", "p/states/", "p/states/zz/x", "p/states2/00/x", "p/states/00/.tmp"] {
        server.insert("bucket", foreign, Object::new("not ours"));
    }
    server.reset_counters();
    let expected: Vec<(Id, u64)> = (0..50).map(|n| (id(n), 1)).collect();
    assert_eq!(listed(&store, Kind::State), expected);
    assert!(server.counters().of("ListObjectsV2") >= 8);
}

#[test]
fn packfiles_and_states_are_written_once_and_locks_again() {
    let bed = Bed::own(s3server::Options::default());
    let store = store(&bed, "");
    store.put(Kind::State, id(1), Body::Bytes(b"one")).unwrap();
    store.put(Kind::State, id(1), Body::Bytes(b"two")).unwrap();
    assert_eq!(store.get(Kind::State, id(1)).unwrap(), b"one");
    store.put(Kind::Lock, id(1), Body::Bytes(b"one")).unwrap();
    store.put(Kind::Lock, id(1), Body::Bytes(b"two")).unwrap();
    assert_eq!(store.get(Kind::Lock, id(1)).unwrap(), b"two");
}

#[test]
fn config_is_replaced_only_if_it_is_what_it_was() {
    let replace = |bed: &Bed| {
        let store = store(bed, "r");
        store.create(b"one").unwrap();
        store.replace_config(b"one", b"two").unwrap();
        assert_eq!(store.config().unwrap(), b"two");
        assert_eq!(store.replace_config(b"one", b"three").unwrap_err().kind, ErrorKind::Changed);
        assert_eq!(store.config().unwrap(), b"two");
        assert_eq!(bed.keys(), [b"r/CONFIG".to_vec()]);
    };
    Bed::each(replace);
    replace(&Bed::own(s3server::Options { conditional_put: false, ..s3server::Options::default() }));
}

#[test]
fn cold_classes_leave_readable_what_must_be_read() {
    let bed = Bed::own(s3server::Options::default());
    let store = S3Store::new(bed.options("", &[("storage_class", "glacier")])).unwrap();
    store.create(b"config").unwrap();
    store.put(Kind::Packfile, id(1), Body::Bytes(b"pack")).unwrap();
    store.put(Kind::State, id(2), Body::Bytes(b"state")).unwrap();
    let class = |key: String| bed.own_server().object("bucket", key).unwrap().class.clone();
    assert_eq!(class("CONFIG".into()), "STANDARD");
    assert_eq!(class("CONFIG.frozen".into()), "GLACIER");
    assert_eq!(class(format!("packfiles/01/{}", id(1))), "GLACIER");
    assert_eq!(class(format!("states/02/{}", id(2))), "STANDARD");
    let error = store.get(Kind::Packfile, id(1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.to_string().contains("archived"), "{error}");
    let warm = S3Store::new(bed.options("w", &[("storage_class", "ONEZONE_IA")])).unwrap();
    warm.put(Kind::State, id(3), Body::Bytes(b"state")).unwrap();
    assert_eq!(class(format!("w/states/03/{}", id(3))), "ONEZONE_IA");
}

#[test]
fn virtual_host_style_reaches_the_same_bucket() {
    let bed = Bed::own(s3server::Options::default());
    store(&bed, "v").put(Kind::State, id(1), Body::Bytes(b"state")).unwrap();
    let server = bed.own_server();
    let mut options = bed.options("v", &[("virtual_host", "true")]);
    options.location.endpoint.host = "localhost".into();
    server.reset_counters();
    assert_eq!(S3Store::new(options).unwrap().get(Kind::State, id(1)).unwrap(), b"state");
    let targets = server.counters().targets;
    assert!(targets[0].starts_with("GET /v/states/"), "{targets:?}");
}

#[test]
fn a_server_without_conditional_writes_is_written_to_without_them() {
    let bed = Bed::own(s3server::Options { conditional_put: false, ..s3server::Options::default() });
    let server = bed.own_server();
    let store = store(&bed, "");
    server.inject(Fault::on("PutObject", Action::status(501, "NotImplemented")).times(1));
    store.create(b"config").unwrap();
    for n in 1..4 {
        store.put(Kind::State, id(n), Body::Bytes(b"state")).unwrap();
    }
    // The refusal is learnt once.
    assert_eq!(server.counters().of("PutObject"), 5);
    assert_eq!(store.get(Kind::State, id(3)).unwrap(), b"state");
}

#[test]
fn a_key_that_may_not_delete_says_so() {
    let bed = Bed::own(s3server::Options::default());
    bed.own_server()
        .set_key("LIMITED", Key::only("limited-secret", &["GetObject", "PutObject", "ListObjectsV2"]));
    let store = S3Store::new(bed.options_as("LIMITED", "limited-secret", "", &[])).unwrap();
    store.create(b"config").unwrap();
    store.put(Kind::Lock, id(1), Body::Bytes(b"lock")).unwrap();
    let error = store.delete(Kind::Lock, id(1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    let text = error.to_string();
    assert!(
        text.contains("s3:DeleteObject") && text.contains("403") && text.contains("TESTREQUESTID"),
        "{text}"
    );
}
