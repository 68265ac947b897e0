//! `pkg`.

use super::{User, json};

#[test]
fn connectors_are_built_in() {
    let user = User::new();
    let listed = user.ok("pkg list");
    assert!(
        listed.lines().any(|line| line.starts_with("s3 ") && line.contains("importer, exporter, kloset"))
    );
    assert_eq!(user.ok("pkg"), listed);
    for line in ["pkg add s3", "pkg add ./s3_v1.0.0_darwin_arm64.ptar", "pkg add fs s3"] {
        let told = user.ok(line);
        assert!(told.contains("s3 is built in"), "{line}: {told}");
    }
    for (line, said) in [("pkg rm s3", "nothing is removed"), ("pkg build s3", "nothing has to be built")] {
        let told = user.ok(line);
        assert!(told.contains("s3 is built in") && told.contains(said), "{line}: {told}");
        assert_eq!(json(&user.ok(&format!("-json {line}")))[0]["name"], "s3");
    }
    let packages = json(&user.ok("-json pkg list"));
    let s3 = packages.iter().find(|package| package["name"] == "s3").unwrap();
    assert_eq!(
        *s3,
        serde_json::json!({
            "type": "package", "name": "s3", "version": concat!("v", env!("CARGO_PKG_VERSION")),
            "roles": ["importer", "exporter", "kloset"], "built_in": true
        })
    );
    for (line, code, said) in [
        ("pkg rm notion", 64, "built in are"),
        ("pkg build notion", 64, "built in are"),
        ("pkg add notion", 64, "built in are"),
        ("pkg add s4_v1.0.0_linux_amd64.ptar", 64, "did you mean s3?"),
        ("pkg add", 64, "no connector was named"),
        ("pkg frobnicate", 64, "frobnicate"),
    ] {
        let ran = user.run(line);
        assert!(ran.code == code && ran.stderr.contains(said) && ran.stdout.is_empty(), "{line}: {ran:?}");
    }
    assert_eq!(std::fs::read_dir(user.home()).unwrap().count(), 0, "nothing is installed");
}
