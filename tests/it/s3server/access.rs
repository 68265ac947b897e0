//! Who may do what: signatures, clocks, regions and permissions.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use super::sigv4::Claim;
use super::wire::{Request, Response};
use super::{Options, Shared};

/// An access key's secret and permissions.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(super) secret: String,
    /// The operations allowed; `None` allows all.
    pub(super) allowed: Option<BTreeSet<String>>,
    /// The session token that must come along.
    pub(super) token: Option<String>,
    /// Whether the token has expired.
    pub(super) expired: bool,
}

impl Key {
    /// A key that may do everything.
    pub(crate) fn all(secret: &str) -> Self {
        Self { secret: secret.into(), allowed: None, token: None, expired: false }
    }

    /// A key that may do these operations only.
    pub(crate) fn only(secret: &str, operations: &[&str]) -> Self {
        let allowed = operations.iter().map(|&op| op.to_owned()).collect();
        Self { allowed: Some(allowed), ..Self::all(secret) }
    }

    /// Demands a session token.
    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Lets the token be one that has expired.
    pub(crate) fn expired(mut self) -> Self {
        self.expired = true;
        self
    }

    /// Returns whether an operation is allowed.
    pub(super) fn may(&self, op: &str) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(op))
    }
}

/// Returns the key a request was rightly signed with, or the refusal.
pub(super) fn check(shared: &Shared, request: &Request) -> Result<Key, Response> {
    let Some(claim) = Claim::of(request) else {
        return Err(Response::error(403, "AccessDenied", "Anonymous access is forbidden."));
    };
    check_time(&shared.options, &claim)?;
    let region = &shared.options.region;
    if claim.region != *region {
        let more = format!("<Region>{region}</Region>");
        let message = format!("the region '{}' is wrong; expecting '{region}'", claim.region);
        let answer = Response::error_with(400, "AuthorizationHeaderMalformed", &message, &more);
        return Err(answer.header("x-amz-bucket-region", region));
    }
    let key = Shared::lock(&shared.keys).get(&claim.access_key).cloned();
    let Some(key) = key else {
        return Err(Response::error(
            403,
            "InvalidAccessKeyId",
            "The access key does not exist in our records.",
        ));
    };
    if key.token != claim.token {
        return Err(Response::error(
            403,
            "InvalidToken",
            "The provided token is malformed or otherwise invalid.",
        ));
    }
    if key.expired {
        return Err(Response::error(400, "ExpiredToken", "The provided token has expired."));
    }
    let signed: Vec<&str> = claim.signed_headers.split(';').collect();
    if !signed.contains(&"host") {
        return Err(Response::error(403, "AccessDenied", "The host header must be signed."));
    }
    if let Some((name, _)) =
        request.headers.iter().find(|(n, _)| n.starts_with("x-amz-") && !signed.contains(&n.as_str()))
    {
        let message = format!("There were headers present in the request which were not signed: {name}");
        return Err(Response::error(403, "AccessDenied", &message));
    }
    if claim.expected(request, &key.secret) != claim.signature {
        // Real servers echo what they were given: a client must not pass it on.
        let more = format!(
            "<AWSAccessKeyId>{}</AWSAccessKeyId><SignatureProvided>{}</SignatureProvided>",
            claim.access_key, claim.signature
        );
        let message = "The request signature we calculated does not match the signature you provided.";
        return Err(Response::error_with(403, "SignatureDoesNotMatch", message, &more));
    }
    Ok(key)
}

fn check_time(options: &Options, claim: &Claim) -> Result<(), Response> {
    let Some(signed) = claim.time() else {
        return Err(Response::error(403, "AccessDenied", "The date is not valid."));
    };
    let age = now(options) - signed;
    match claim.expires {
        Some(expires) if age > expires => Err(Response::error(403, "AccessDenied", "Request has expired")),
        _ if age.abs() > 900 => {
            let message = "The difference between the request time and the server's time is too large.";
            Err(Response::error(403, "RequestTimeTooSkewed", message))
        }
        _ => Ok(()),
    }
}

/// Returns the server's clock in Unix seconds.
pub(super) fn now(options: &Options) -> i64 {
    let true_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    i64::try_from(true_time).unwrap_or(0) + options.clock_skew
}
