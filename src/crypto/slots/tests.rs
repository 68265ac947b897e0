use super::*;
use crate::base::Id;

const WEAK: Argon2id = Argon2id { time: 1, memory_kib: 64, threads: 4, key_len: 32 };
const SALT: &[u8] = b"0123456789abcdef";

fn counted<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|i| from + u8::try_from(i).unwrap())
}

fn master() -> Key {
    Key::new(counted(0))
}

fn check_of(key: &Key) -> [u8; 32] {
    super::key_check(key)
}

fn slot() -> Slot {
    Slot::for_passphrase_with(&master(), b"correct horse", WEAK, counted(0x10), SALT, counted(0x40)).unwrap()
}

fn recovery() -> RecoveryKey {
    RecoveryKey::from_bytes(counted(0xc0))
}

#[test]
fn passphrase_slot_of_the_vectors() {
    let slot = slot();
    assert_eq!(Id(slot.commit).to_hex(), "79c9c2d358ecb4a72ca5bb00d8a5bf22b75dd7449c15692d69651ed9874e18a9");
    assert_eq!(
        hex(&slot.sealed),
        "d37585d96d0b70e820f5cf0d60fc1ca2ba8ca33598edd03551e2fd1cf4f6ec78e7ab834e1121d961ad44cde4081b57eb"
    );
}

#[test]
fn recovery_key_and_slot_of_the_vectors() {
    let text = "PKR1-R30W5-GY4RQ-3CFJ6-9SB5W-SKEES-Z8D3M-PK9Z6-YPVTJ";
    assert_eq!(recovery().encode().as_str(), text);
    let slot = Slot::for_recovery_with(&master(), &recovery(), counted(0x10), SALT, counted(0x40));
    assert_eq!(Id(slot.commit).to_hex(), "3c8163604b77a4b7af95202941e39de22740af165f65f17d49edb687dada9c24");
    let key = RecoveryKey::decode(text).unwrap();
    let (at, opened) = unlock(&[slot], SlotSecret::Recovery(&key), &check_of(&master())).unwrap();
    assert_eq!((at, opened), (0, master()));
}

#[test]
fn people_write_recovery_keys_in_many_ways() {
    for text in [
        "pkr1-r30w5-gy4rq-3cfj6-9sb5w-skees-z8d3m-pk9z6-ypvtj",
        "PKR1R30W5GY4RQ3CFJ69SB5WSKEESZ8D3MPK9Z6YPVTJ",
        " PKRl r3ow5 gy4rq 3cfj6 9sb5w\tskees z8d3m pk9z6 ypvtj\n",
    ] {
        assert_eq!(RecoveryKey::decode(text).unwrap().encode(), recovery().encode(), "{text}");
    }
}

#[test]
fn slips_of_the_pen_are_found() {
    let text = recovery().encode().to_string();
    for (at, sign) in text.char_indices().skip(5).filter(|(_, sign)| *sign != '-') {
        let mut mistyped = text.clone();
        mistyped.replace_range(at..=at, if sign == '7' { "8" } else { "7" });
        assert_eq!(RecoveryKey::decode(&mistyped).unwrap_err(), RecoveryKeyError::Checksum, "{mistyped}");
    }
    let wrong = |text: &str| RecoveryKey::decode(text).unwrap_err();
    assert_eq!(wrong(""), RecoveryKeyError::Prefix);
    assert_eq!(wrong("PKR2-R30W5"), RecoveryKeyError::Prefix);
    assert_eq!(wrong("PKR1-R3U"), RecoveryKeyError::Character { at: 3 });
    assert_eq!(wrong("PKR1-R3é"), RecoveryKeyError::Character { at: 3 });
    assert_eq!(wrong(&text[..text.len() - 1]), RecoveryKeyError::Length { found: 39 });
    assert_eq!(wrong(&format!("{text}0")), RecoveryKeyError::Length { found: 41 });
    assert_eq!(wrong(&format!("PKR1-{}", "0".repeat(100_000))), RecoveryKeyError::Length { found: 100_000 });
    for _ in 0..50 {
        let key = RecoveryKey::random();
        assert_eq!(RecoveryKey::decode(&key.encode()).unwrap().encode(), key.encode());
    }
}

#[test]
fn the_right_slot_is_found_among_many() {
    let strong = Argon2id { time: 1, memory_kib: 19 * 1024, threads: 2, key_len: 32 };
    let key = RecoveryKey::random();
    let slots = [
        slot(),
        Slot::for_recovery(&master(), &key),
        Slot::for_passphrase(&master(), b"second", strong).unwrap(),
    ];
    let check = check_of(&master());
    assert_eq!(unlock(&slots, SlotSecret::Passphrase(b"second"), &check).unwrap(), (2, master()));
    assert_eq!(unlock(&slots, SlotSecret::Recovery(&key), &check).unwrap(), (1, master()));
    for wrong in [b"".as_slice(), b"Second", b"correct horse "] {
        assert_eq!(unlock(&slots, SlotSecret::Passphrase(wrong), &check).unwrap_err(), SlotError::NoMatch);
    }
    let other = RecoveryKey::random();
    assert_eq!(unlock(&slots, SlotSecret::Recovery(&other), &check).unwrap_err(), SlotError::NoMatch);
    assert_eq!(unlock(&[], SlotSecret::Recovery(&key), &check).unwrap_err(), SlotError::NoMatch);
    assert_eq!(slots[1].try_open(SlotSecret::Passphrase(b"second"), &check).unwrap(), None);
}

#[test]
fn new_slots_share_nothing() {
    let [a, b] = [0; 2].map(|_| Slot::for_recovery(&master(), &recovery()));
    assert!(
        a.id != b.id
            && a.salt != b.salt
            && a.nonce != b.nonce
            && a.commit != b.commit
            && a.sealed != b.sealed
    );
}

/// A right secret on a changed slot is damage, never "wrong passphrase".
#[test]
fn damage_is_told_from_a_wrong_passphrase() {
    let check = check_of(&master());
    let with = |change: &dyn Fn(&mut Slot)| {
        let mut slot = slot();
        change(&mut slot);
        slot.try_open(SlotSecret::Passphrase(b"correct horse"), &check)
    };
    assert_eq!(with(&|_| ()), Ok(Some(master())));
    for at in 0..48 {
        let damaged = with(&|slot| slot.sealed[at] ^= 1);
        assert!(matches!(damaged, Err(SlotError::Damaged { .. })), "{at}");
    }
    assert!(matches!(with(&|slot| slot.nonce[23] ^= 0x80), Err(SlotError::Damaged { .. })));
    assert_eq!(with(&|slot| slot.commit[0] ^= 1), Ok(None));
    assert_eq!(with(&|slot| slot.id[0] ^= 1), Ok(None));
    assert_eq!(with(&|slot| slot.salt[0] ^= 1), Ok(None));
    let foreign = slot().try_open(SlotSecret::Passphrase(b"correct horse"), &[0; 32]);
    assert!(matches!(foreign, Err(SlotError::Damaged { what, .. }) if what.contains("another store")));
}

#[test]
fn hostile_parameters_are_refused_before_any_work() {
    let hostile = [
        Argon2id { memory_kib: u32::MAX, ..WEAK },
        Argon2id { time: u32::MAX, ..WEAK },
        Argon2id { threads: 0, ..WEAK },
        Argon2id { threads: u32::MAX, ..WEAK },
        Argon2id { key_len: 16, ..WEAK },
    ];
    for argon2 in hostile {
        let bad = Slot { kind: SlotKind::Passphrase(argon2), ..slot() };
        // Also when an earlier slot would open.
        let refused = unlock(&[slot(), bad], SlotSecret::Passphrase(b"correct horse"), &check_of(&master()));
        assert!(matches!(refused, Err(SlotError::Parameters { .. })), "{argon2:?}");
    }
    for len in [0, 15, 65, 1 << 20] {
        for kind in [SlotKind::Passphrase(WEAK), SlotKind::Recovery] {
            assert!(Slot { kind, salt: vec![0; len], ..slot() }.check().is_err());
        }
    }
}

#[test]
fn weak_slots_are_not_written() {
    for argon2 in [WEAK, Argon2id { memory_kib: 18 * 1024, ..Argon2id::RECOMMENDED }] {
        let refused = Slot::for_passphrase(&master(), b"x", argon2);
        assert!(matches!(refused, Err(SlotError::Refused(_))));
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?} {:?}", SlotSecret::Passphrase(b"hunter2"), recovery());
    assert_eq!(shown, "Passphrase(…) RecoveryKey(…)");
}
