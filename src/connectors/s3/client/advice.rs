//! What a person can do about a failure: the permission to grant, the setting to look at.

use std::fmt::Write as _;

use super::super::credentials::Credentials;
use super::super::location::{Endpoint, Reading};
use super::failure::Failure;
use crate::connector::ErrorKind;
use crate::connectors::tls::NO_TLS;

/// What is known besides the failure itself.
#[derive(Debug)]
pub(super) struct Advice<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) reading: Reading,
    pub(super) use_tls: bool,
    pub(super) bucket: &'a str,
    /// The region requests are signed for.
    pub(super) region: &'a str,
    pub(super) who: &'a Credentials,
}

/// Adds a hint to a failure that has none.
pub(super) fn advise(failure: &mut Failure, about: &Advice<'_>) {
    if failure.hint.is_none() {
        failure.hint = about.hint(failure);
    }
}

impl Advice<'_> {
    fn hint(&self, failure: &Failure) -> Option<String> {
        if let Some(hint) = self.hint_of_code(&failure.code) {
            return Some(hint);
        }
        match failure.kind {
            // SSE-C: a missing key is told in words only.
            _ if failure.status == 400 && failure.message.contains("ncryption") => {
                Some("the object may be encrypted under a customer's key: check sse_customer_key".into())
            }
            _ if failure.status == 400 && failure.code.is_empty() && failure.op == "head" => Some(format!(
                "an answer to HEAD does not say why: check region ({} was used), the credentials (from {}) and \
                 sse_customer_key",
                self.region, self.who.origin
            )),
            ErrorKind::Denied => Some(self.denied(failure)),
            ErrorKind::NotFound if failure.is_no_bucket() => {
                Some(format!("check the bucket's name; {}", self.reading.explain()))
            }
            ErrorKind::Transport if failure.message == NO_TLS => {
                Some(format!("{}; use_tls=false if it is meant to have none", self.reading.explain()))
            }
            ErrorKind::Transport if failure.status == 0 => {
                let reading = self.reading.explain();
                let tls = "set tls_ca_file for a private CA, or use_tls=false if the server has no TLS";
                Some(if self.use_tls { format!("{reading}; {tls}") } else { reading.into() })
            }
            _ => None,
        }
    }

    fn hint_of_code(&self, code: &str) -> Option<String> {
        let (origin, region) = (&self.who.origin, self.region);
        Some(match code {
            "SignatureDoesNotMatch" => format!(
                "check the secret that belongs to the access key (from {origin}), \
                 and the region if the server checks it ({region} was used)"
            ),
            "InvalidAccessKeyId" => {
                format!("this server does not know the access key (from {origin}): check it and the endpoint")
            }
            "RequestTimeTooSkewed" => "check this machine's clock".into(),
            "ExpiredToken" | "TokenRefreshRequired" => {
                format!("the session token (from {origin}) has expired: get a new one")
            }
            "InvalidToken" => format!("check session_token (from {origin})"),
            "InvalidObjectState" => {
                "the object is archived: retrieve it from the cold storage class first".into()
            }
            "InvalidStorageClass" => "this server has no such storage class: check storage_class".into(),
            "MethodNotAllowed" | "NotImplemented" => "this server has no such operation".into(),
            "PermanentRedirect"
            | "TemporaryRedirect"
            | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" => {
                format!("check region ({region} was used) and endpoint")
            }
            "QuotaExceeded" => "free some space, or have the quota raised".into(),
            "TooManyBuckets" => "create the bucket elsewhere, or use one that is there".into(),
            "BucketAlreadyExists" => "the bucket belongs to somebody else: choose another name".into(),
            "AllAccessDisabled" | "AccountProblem" | "NotSignedUp" | "UserSuspended" => {
                "there is something wrong with the account: ask the provider".into()
            }
            _ => return None,
        })
    }

    /// Names the permission to grant: the one the server names, else the one the operation needs.
    fn denied(&self, failure: &Failure) -> String {
        let bucket = self.bucket;
        let mut hint = match (told_action(&failure.message), needed(failure)) {
            (Some(action), _) => format!("grant {action}"),
            (None, Some((action, true))) => format!("grant {action} on {bucket}/*"),
            (None, Some((action, false))) => format!("grant {action} on {bucket}"),
            (None, None) => "check the permissions".into(),
        };
        if matches!(failure.op, "get" | "head") && told_action(&failure.message).is_none() {
            hint.push_str(", and s3:ListBucket, without which a missing key looks forbidden");
        }
        let _ = write!(hint, " to the access key (from {})", self.who.origin);
        // Ceph, for one, does not tell a wrong secret from a missing permission; nor does anybody's answer to HEAD.
        if told_action(&failure.message).is_none() && (failure.op == "head" || !self.endpoint.is_aws()) {
            hint.push_str("; or its secret key is wrong");
        }
        if self.endpoint.is_scaleway() {
            hint.push_str(if self.who.access_key.contains('@') {
                "; check that the project after the @ is the bucket's"
            } else {
                "; a Scaleway key acts in its preferred project: access_key=ACCESSKEY@project-id names another"
            });
        }
        hint
    }
}

/// Returns the action that AWS says is missing: "… is not authorized to perform: s3:PutObject on resource …".
fn told_action(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("not authorized to perform: ")?;
    let end =
        rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, ':' | '-')).unwrap_or(rest.len());
    Some(&rest[..end]).filter(|action| action.contains(':'))
}

/// Returns the permission an operation needs, and whether it is one on objects.
fn needed(failure: &Failure) -> Option<(&'static str, bool)> {
    // `s3://host/bucket` has three slashes, and a key follows a fourth.
    let is_object = failure.target.matches('/').count() > 3;
    Some(match failure.op {
        "get" => ("s3:GetObject", true),
        "head" if is_object => ("s3:GetObject", true),
        "head" | "list" => ("s3:ListBucket", false),
        "list the buckets of" => ("s3:ListAllMyBuckets", false),
        "list the versions of" => ("s3:ListBucketVersions", false),
        "locate" => ("s3:GetBucketLocation", false),
        "read the versioning of" => ("s3:GetBucketVersioning", false),
        "read the lock of" => ("s3:GetBucketObjectLockConfiguration", false),
        "put" | "upload" => ("s3:PutObject", true),
        "delete" => ("s3:DeleteObject", true),
        "create" => ("s3:CreateBucket", false),
        "retrieve" => ("s3:RestoreObject", true),
        "read the tags of" => ("s3:GetObjectTagging", true),
        "tag" => ("s3:PutObjectTagging", true),
        "read the ACL of" => ("s3:GetObjectAcl", true),
        "set the ACL of" => ("s3:PutObjectAcl", true),
        "read the retention of" => ("s3:GetObjectRetention", true),
        "retain" => ("s3:PutObjectRetention", true),
        "read the legal hold of" => ("s3:GetObjectLegalHold", true),
        "hold" => ("s3:PutObjectLegalHold", true),
        "abort" => ("s3:AbortMultipartUpload", true),
        _ => return None,
    })
}

/// Removes the secrets of a key and anything signed from a text of the server's.
pub(super) fn redact(text: &str, who: &Credentials) -> String {
    let mut out = text.to_owned();
    let secrets = [Some(&*who.secret), who.token.as_deref(), Some(&who.access_key)];
    for secret in secrets.into_iter().flatten().filter(|secret| !secret.is_empty()) {
        out = out.replace(secret.as_str(), "…");
    }
    while let Some(at) = out.find("X-Amz-") {
        let end = out[at..].find(|c: char| c == '&' || c.is_whitespace()).map_or(out.len(), |n| at + n);
        out.replace_range(at..end, "…");
    }
    out
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::super::failure::{Answer, classify};
    use super::*;
    use crate::connector::Error;

    const SECRET: &str = "hush-hush";
    const TOKEN: &str = "psst-psst";

    fn who(access_key: &str) -> Credentials {
        Credentials {
            access_key: access_key.into(),
            secret: Zeroizing::new(SECRET.into()),
            token: Some(Zeroizing::new(TOKEN.into())),
            expires: None,
            origin: "profile work".into(),
        }
    }

    /// What a person reads of an answer.
    fn told(
        host: &str,
        access_key: &str,
        op: &'static str,
        status: u16,
        code: &str,
        message: &str,
    ) -> String {
        let key = if matches!(op, "list" | "create") { "" } else { "/k" };
        let target = format!("s3://{host}/bucket{key}");
        let body = format!(
            "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>REQ1</RequestId></Error>"
        );
        let who = who(access_key);
        let answer = Answer { status, body: body.as_bytes(), ..Answer::default() };
        let mut failure = classify(op, &target, answer, &|text| redact(text, &who));
        let endpoint = Endpoint::parse(host).unwrap();
        let about = Advice {
            endpoint: &endpoint,
            reading: Reading::Host,
            use_tls: true,
            bucket: "bucket",
            region: "eu-west-3",
            who: &who,
        };
        advise(&mut failure, &about);
        Error::from(failure).to_string()
    }

    /// A message as a careless server writes it: it echoes what it was given.
    const ECHO: &str =
        "no: hush-hush psst-psst https://h/b?X-Amz-Credential=AK%2F1&amp;X-Amz-Signature=0123abcd";

    #[test]
    fn every_code_and_operation_is_told_whole_and_without_secrets() {
        let operations = [
            ("get", "s3:GetObject on bucket/*"),
            ("head", "s3:GetObject on bucket/*"),
            ("list", "s3:ListBucket on bucket"),
            ("put", "s3:PutObject on bucket/*"),
            ("upload", "s3:PutObject on bucket/*"),
            ("delete", "s3:DeleteObject on bucket/*"),
            ("create", "s3:CreateBucket on bucket"),
            ("read the tags of", "s3:GetObjectTagging on bucket/*"),
            ("tag", "s3:PutObjectTagging on bucket/*"),
            ("abort", "s3:AbortMultipartUpload on bucket/*"),
            ("retrieve", "s3:RestoreObject on bucket/*"),
            ("list the buckets of", "s3:ListAllMyBuckets"),
            ("list the versions of", "s3:ListBucketVersions on bucket"),
            ("locate", "s3:GetBucketLocation on bucket"),
            ("read the versioning of", "s3:GetBucketVersioning on bucket"),
            ("read the lock of", "s3:GetBucketObjectLockConfiguration on bucket"),
            ("read the ACL of", "s3:GetObjectAcl on bucket/*"),
            ("set the ACL of", "s3:PutObjectAcl on bucket/*"),
            ("read the retention of", "s3:GetObjectRetention on bucket/*"),
            ("retain", "s3:PutObjectRetention on bucket/*"),
            ("read the legal hold of", "s3:GetObjectLegalHold on bucket/*"),
            ("hold", "s3:PutObjectLegalHold on bucket/*"),
        ];
        let codes = [
            (403, "AccessDenied", ""),
            (403, "SignatureDoesNotMatch", "check the secret"),
            (403, "InvalidAccessKeyId", "does not know the access key (from profile work)"),
            (403, "RequestTimeTooSkewed", "check this machine's clock"),
            (400, "ExpiredToken", "has expired: get a new one"),
            (403, "InvalidToken", "session_token"),
            (403, "InvalidObjectState", "retrieve it"),
            (400, "InvalidStorageClass", "check storage_class"),
            (400, "AuthorizationHeaderMalformed", "check region (eu-west-3 was used)"),
            (301, "PermanentRedirect", "check region"),
            (
                404,
                "NoSuchBucket",
                "check the bucket's name; the first part of the location was read as a host",
            ),
            (501, "NotImplemented", "no such operation"),
            (403, "QuotaExceeded", "free some space"),
            (403, "AllAccessDisabled", "the account"),
        ];
        for (op, permission) in operations {
            for (status, code, hint) in codes {
                let text = told("h.example", "AKID", op, status, code, ECHO);
                let permission = if code == "AccessDenied" { permission } else { "" };
                let status = format!("HTTP {status}");
                let parts = ["s3://h.example/bucket", op, code, &status, "request id REQ1", hint, permission];
                for part in parts {
                    assert!(text.contains(part), "{op} {code}: {part} is not in {text}");
                }
                for secret in [SECRET, TOKEN, "AKID", "0123abcd", "X-Amz-"] {
                    assert!(!text.contains(secret), "{op} {code}: {secret} is in {text}");
                }
            }
        }
    }

    #[test]
    fn a_scaleway_key_is_told_about_projects() {
        let text = told("s3.fr-par.scw.cloud", "SCWK", "list", 403, "AccessDenied", "");
        assert!(text.contains("ACCESSKEY@project-id"), "{text}");
        let text = told("s3.fr-par.scw.cloud", "SCWK@uuid", "list", 403, "AccessDenied", "");
        assert!(text.contains("project after the @ is the bucket's"), "{text}");
        assert!(!told("h.example", "AK", "list", 403, "AccessDenied", "").contains("Scaleway"));
    }

    #[test]
    fn a_wrong_secret_is_thought_of_where_the_server_may_hide_it() {
        let aws = "s3.eu-west-3.amazonaws.com";
        let hides = |host: &str, op: &'static str, message: &str| {
            told(host, "AK", op, 403, "AccessDenied", message).contains("or its secret key is wrong")
        };
        assert!(hides("h.example", "list", "") && hides(aws, "head", ""));
        assert!(!hides(aws, "list", ""), "this one would say so");
        assert!(!hides("h.example", "list", "not authorized to perform: s3:ListBucket on x"));
    }

    #[test]
    fn the_permission_that_the_server_names_is_the_one_to_grant() {
        let message = "User: arn:aws:iam::1:user/u is not authorized to perform: s3:PutObjectTagging on \
                       resource: x because no identity-based policy allows it";
        let text = told("h.example", "AK", "put", 403, "AccessDenied", message);
        assert!(text.contains("(grant s3:PutObjectTagging to the access key"), "{text}");
        let text = told("h.example", "AK", "put", 403, "AccessDenied", "not authorized to perform: ");
        assert!(text.contains("grant s3:PutObject on"), "{text}");
    }

    #[test]
    fn what_an_answer_to_head_leaves_open_is_named() {
        let text = told("h.example", "AK", "head", 400, "", "");
        assert!(text.contains("HTTP 400") && text.contains("check region (eu-west-3 was used)"), "{text}");
        let text = told("h.example", "AK", "head", 301, "", "");
        assert!(text.contains("PermanentRedirect") && text.contains("check region"), "{text}");
    }

    #[test]
    fn a_missing_customer_key_is_guessed() {
        let message = "The object was stored using a form of Server Side Encryption.";
        let text = told("h.example", "AK", "get", 400, "InvalidRequest", message);
        assert!(text.contains("sse_customer_key"), "{text}");
    }
}
