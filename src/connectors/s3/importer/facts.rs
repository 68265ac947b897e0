//! What a bucket is, for the header of a snapshot. Each fact needs a permission of its own; without it that fact alone
//! is missing, and listed as such.

use super::super::client::Client;

/// Asks for everything about the bucket.
pub(super) fn of(client: &Client) -> Vec<(String, String)> {
    let options = client.options();
    let mut facts = vec![
        ("s3.bucket".to_owned(), options.location.bucket.clone()),
        ("s3.endpoint".to_owned(), options.location.endpoint.authority()),
    ];
    if options.versions {
        facts.push(("s3.versions".into(), "all".into()));
    }
    let mut missing = Vec::new();
    let region = match client.location() {
        Ok(region) if !region.is_empty() => {
            if region == "EU" {
                "eu-west-1".into()
            } else {
                region
            }
        }
        Ok(_) if options.location.endpoint.is_aws() => "us-east-1".into(),
        Ok(_) => client.region(),
        Err(_) => {
            missing.push("location");
            client.region()
        }
    };
    facts.push(("s3.region".into(), region));
    let (created, mut owner) = match client.ownership() {
        Ok(found) => (found.created, found.owner),
        Err(_) => Default::default(),
    };
    if owner.is_empty() {
        let first = client.owner_of_first(&options.location.prefix);
        owner = first.ok().flatten().unwrap_or_default();
    }
    for (name, value, what) in [("s3.created", created, "creation date"), ("s3.owner", owner, "owner")] {
        if value.is_empty() {
            missing.push(what);
        } else {
            facts.push((name.into(), value));
        }
    }
    match client.versioning() {
        Ok(status) => facts.push(("s3.versioning".into(), status.unwrap_or_else(|| "Off".into()))),
        Err(_) => missing.push("versioning"),
    }
    if !missing.is_empty() {
        facts.push(("s3.not-captured".into(), missing.join(",")));
    }
    facts
}
