//! What a bucket is, apart from its objects.

use rusty_s3::Method;

use super::failure::Result;
use super::list::Circle;
use super::object::root;
use super::send::{Client, Payload, Request};

/// A bucket in the list of all buckets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in super::super) struct Ownership {
    /// The owner's id; empty where the server tells none.
    pub(in super::super) owner: String,
    /// When the bucket was created, as listed; empty where it is not in the list.
    pub(in super::super) created: String,
}

impl Client {
    /// Looks the bucket up in the list of the account's buckets; needs `s3:ListAllMyBuckets`.
    pub(in super::super) fn ownership(&self) -> Result<Ownership> {
        let target = format!("the buckets of {}", self.options().location.endpoint.authority());
        let bucket = &self.options().location.bucket;
        let (mut token, mut circle) = (None::<String>, Circle::default());
        loop {
            let mut request = Request::new("list the buckets of", Method::Get, None);
            request.of_service = true;
            if let Some(token) = &token {
                request = request.query("continuation-token", token.as_str());
            }
            let (found, next) = self.run(&request, Payload::None, &mut |response| {
                let root = root(response, "list", &target, "ListAllMyBucketsResult")?;
                let owner = root.child("Owner").and_then(|owner| owner.text_of("ID")).unwrap_or_default();
                let list = root.child("Buckets").map(|list| list.children.as_slice()).unwrap_or_default();
                let ours = list.iter().find(|one| one.text_of("Name").is_some_and(|name| name == bucket));
                let created = ours.and_then(|one| one.text_of("CreationDate"));
                let next = root.text_of("ContinuationToken").filter(|token| !token.is_empty());
                let found = Ownership {
                    owner: owner.trim().to_owned(),
                    created: created.unwrap_or_default().trim().to_owned(),
                };
                Ok((found, next.map(str::to_owned)))
            })?;
            let Some(next) = next.filter(|next| found.created.is_empty() && !circle.closes(next)) else {
                return Ok(found);
            };
            token = Some(next);
        }
    }

    /// Returns the owner's id that comes with the first object of a listing; needs `s3:ListBucket` only.
    pub(in super::super) fn owner_of_first(&self, prefix: &str) -> Result<Option<String>> {
        let target = self.target(None);
        let request = Request::new("list", Method::Get, None)
            .query("list-type", "2")
            .query("encoding-type", "url")
            .query("fetch-owner", "true")
            .query("max-keys", "1")
            .query("prefix", prefix);
        self.run(&request, Payload::None, &mut |response| {
            let root = root(response, "list", &target, "ListBucketResult")?;
            let owner = root.child("Contents").and_then(|object| object.child("Owner"));
            Ok(owner.and_then(|owner| owner.text_of("ID")).map(|id| id.trim().to_owned()))
        })
    }

    /// Returns the region that the bucket says it is in; needs `s3:GetBucketLocation`. AWS's first region calls
    /// itself nothing, and its Irish one once called itself `EU`.
    pub(in super::super) fn location(&self) -> Result<String> {
        let target = self.target(None);
        let request = Request::new("locate", Method::Get, None).query("location", "");
        self.run(&request, Payload::None, &mut |response| {
            let root = root(response, "locate", &target, "LocationConstraint")?;
            Ok(root.text.trim().to_owned())
        })
    }

    /// Returns `Enabled`, `Suspended`, or nothing for a bucket that never kept versions; needs
    /// `s3:GetBucketVersioning`.
    pub(in super::super) fn versioning(&self) -> Result<Option<String>> {
        let target = self.target(None);
        let request = Request::new("read the versioning of", Method::Get, None).query("versioning", "");
        self.run(&request, Payload::None, &mut |response| {
            let root = root(response, "read the versioning of", &target, "VersioningConfiguration")?;
            Ok(root.text_of("Status").map(|status| status.trim().to_owned()))
        })
    }
}
