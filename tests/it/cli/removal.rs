//! `rm`, `prune`, `policy` and `maintenance`.

use serde_json::Value;

use super::User;

/// A user with a plaintext store of snapshots of two folders, made at given times.
fn store(times: &[(&str, &str)]) -> User {
    let user = User::in_memory();
    user.ok("at ./s create -plaintext");
    for folder in ["a", "b"] {
        std::fs::create_dir(user.home().join(folder)).unwrap();
        std::fs::write(user.home().join(folder).join("file"), folder).unwrap();
    }
    for (time, folder) in times {
        user.ok(&format!("at ./s backup -force-timestamp {time} -tag {folder} ./{folder}"));
    }
    user
}

/// The times of the snapshots that are there.
fn times(user: &User) -> Vec<String> {
    lines(&user.ok("at ./s ls -json"))
        .iter()
        .filter(|line| line["type"] == "snapshot")
        .map(|line| line["timestamp"].as_str().unwrap()[..16].to_owned())
        .collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn rm_is_a_plan_until_it_is_applied() {
    let user =
        store(&[("2024-01-01T10:00:00Z", "a"), ("2024-01-02T10:00:00Z", "b"), ("2024-01-03T10:00:00Z", "a")]);
    let told = user.ok("at ./s rm -tag a");
    assert!(told.contains("would remove 2 snapshots; -apply does it"), "{told}");
    assert_eq!(times(&user).len(), 3);
    for line in ["rm", "rm -apply", "rm -all -tag a", "rm -days 3", "rm latest:/x -apply"] {
        assert_eq!(user.run(&format!("at ./s {line}")).code, 64, "{line}");
    }
    assert_eq!(user.run("at ./s rm ffffffffffffffff -apply").code, 1);
    assert!(user.ok("at ./s rm -tag a -before 2024-01-03 -apply").contains("removed 1 snapshot"));
    assert_eq!(times(&user), ["2024-01-02T10:00", "2024-01-03T10:00"]);
    let id = lines(&user.ok("at ./s ls -json"))[0]["id"].as_str().unwrap()[..10].to_owned();
    let told = lines(&user.ok(&format!("at ./s rm {id} -apply -json")));
    assert_eq!((told[0]["action"].as_str(), told[1]["removed"].as_u64()), (Some("remove"), Some(1)));
    assert_eq!(times(&user), ["2024-01-03T10:00"]);
    user.ok("at ./s check");
    assert!(user.ok("at ./s rm -all -apply").contains("removed 1 snapshot in "));
    assert_eq!(times(&user), [""; 0]);
    assert!(user.ok("at ./s rm -all -apply").contains("removed 0 snapshots"));
}

#[test]
fn nothing_is_removed_from_an_archive() {
    let user = store(&[("2024-01-01T10:00:00Z", "a")]);
    user.ok("ptar -plaintext -o x.ptar ./a");
    for line in
        ["rm latest", "rm latest -apply", "rm -all", "prune -days 1", "prune -days 1 -apply", "prune latest"]
    {
        let ran = user.run(&format!("at ./x.ptar {line}"));
        assert!(ran.code == 64 && ran.stdout.is_empty(), "{line}: {ran:?}");
        assert!(ran.stderr.contains("archives are never changed"), "{line}: {ran:?}");
    }
}

#[test]
fn prune_keeps_by_rules_and_says_why() {
    let user = store(&[
        ("2024-01-01T10:00:00Z", "a"),
        ("2024-01-01T11:00:00Z", "a"),
        ("2024-01-01T12:00:00Z", "b"),
        ("2024-01-02T10:00:00Z", "a"),
    ]);
    for line in [
        "prune",
        "prune -apply",
        "prune -latest -days 1",
        "prune -since 1y",
        "prune -policy nope",
        "prune -days 0",
    ] {
        assert_eq!(user.run(&format!("at ./s {line}")).code, 64, "{line}");
    }
    let plan = lines(&user.ok("at ./s prune -per-day 1 -json"));
    let action = |line: &Value| line["action"].as_str().map(str::to_owned);
    let actions: Vec<_> = plan.iter().filter_map(action).collect();
    assert_eq!(actions, ["remove", "keep", "keep", "keep"]);
    assert_eq!(plan[1]["reasons"][0], "-per-day 1: number 1 of 2024-01-01");
    assert_eq!((plan[4]["kept"].as_u64(), plan[4]["applied"].as_bool()), (Some(3), Some(false)));
    // All sources at once: b's snapshot of the first day is the newest of it.
    let plan = lines(&user.ok("at ./s prune -per-day 1 -group-by none -json"));
    assert_eq!(plan.iter().filter_map(action).collect::<Vec<_>>(), ["remove", "remove", "keep", "keep"]);
    // Filters say what is looked at: snapshots without the tag stay. The newest of a source stays, however old.
    let told = user.ok("at ./s prune -days 30 -tag a -apply");
    assert!(
        told.contains("the newest of its group") && told.contains("removed 2 snapshots, 1 kept"),
        "{told}"
    );
    assert_eq!(times(&user), ["2024-01-01T12:00", "2024-01-02T10:00"]);
    assert!(user.ok("at ./s prune -tags b -apply").contains("removed 1 snapshot, 0 kept"));
    assert_eq!(times(&user), ["2024-01-02T10:00"]);
}

#[test]
fn policies_are_kept_and_used() {
    let user =
        store(&[("2024-01-01T10:00:00Z", "a"), ("2024-01-01T11:00:00Z", "a"), ("2024-02-01T10:00:00Z", "a")]);
    user.ok("policy add weekly");
    user.ok("policy set weekly since=2024-01-15 per-week=1");
    assert_eq!(user.run("policy add weekly").code, 64);
    for line in
        ["policy set weekly per-wek=1", "policy set nope days=1", "policy add x days=many", "policy shwo"]
    {
        assert_eq!(user.run(line).code, 64, "{line}");
    }
    assert_eq!(user.ok("policy list"), "weekly: -per-week 1 -since 2024-01-15\n");
    assert_eq!(user.ok("policy show weekly"), "weekly:\n  per-week: 1\n  since: 2024-01-15\n");
    let shown = lines(&user.ok("policy show -json"));
    assert_eq!(shown[0]["options"]["per-week"], "1");
    let told = user.ok("at ./s prune -policy weekly");
    assert!(told.contains("would remove 2 snapshots, 1 kept"), "{told}");
    let told = user.ok("at ./s prune -policy weekly -since 2023-01-01");
    assert!(told.contains("would remove 1 snapshot, 2 kept"), "what is given goes over the policy: {told}");
    user.ok("policy unset weekly since");
    assert!(user.ok("at ./s prune -policy weekly -apply").contains("removed 1 snapshot, 2 kept"));
    user.ok("policy rm weekly");
    assert_eq!(user.ok("policy list"), "");
    assert!(user.config("policies.yml").exists());
}

#[test]
fn maintenance_makes_room() {
    let user = store(&[("2024-01-01T10:00:00Z", "a"), ("2024-01-02T10:00:00Z", "b")]);
    user.ok("at ./s rm -tag a -apply");
    let told = user.ok("at ./s maintenance");
    assert!(told.contains("are needed by 1 snapshot") && told.contains("nothing needs them"), "{told}");
    let done = lines(&user.ok("at ./s maintenance -apply -json"));
    let (summary, packs) = done.split_last().unwrap();
    assert_eq!((summary["applied"].as_bool(), summary["freed_bytes"].as_u64()), (Some(true), Some(0)));
    assert!(packs.iter().any(|pack| pack["action"] == "coloured"), "{packs:?}");
    let told = user.ok("at ./s maintenance -apply");
    assert!(told.contains("kept until their grace period is over") && told.contains("freed 0 B"), "{told}");
    let told = user.ok("at ./s maintenance -apply -grace 0");
    assert!(told.contains("deleted: their grace period is over"), "{told}");
    user.ok("at ./s check");
    assert_eq!(user.run("at ./s maintenance -grace soon").code, 64);
    user.ok("ptar -plaintext -o x.ptar ./a");
    assert_eq!(user.run("at ./x.ptar maintenance").code, 64);
}

#[test]
fn repair_brings_lost_snapshots_back() {
    let user = store(&[("2024-01-01T10:00:00Z", "a"), ("2024-01-02T10:00:00Z", "b")]);
    assert_eq!(user.ok("at ./s repair"), "nothing to repair\n");
    for shard in std::fs::read_dir(user.home().join("s/states")).unwrap() {
        for state in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            std::fs::remove_file(state.unwrap().path()).unwrap();
        }
    }
    let refused = user.run("at ./s maintenance -apply");
    assert!(refused.code == 1 && refused.stderr.contains("states seen before are gone"), "{refused:?}");
    let told = user.ok("at ./s repair");
    assert!(told.contains("would have brought back snapshot") && told.contains("-apply does it"), "{told}");
    assert_eq!(times(&user).len(), 0);
    user.ok("at ./s repair -apply");
    assert_eq!(times(&user), ["2024-01-01T10:00", "2024-01-02T10:00"]);
    user.ok("at ./s check");
    user.ok("at ./s maintenance -apply");
    user.ok("ptar -plaintext -o x.ptar ./a");
    assert_eq!(user.run("at ./x.ptar repair").code, 64);
}
