//! What went wrong with a request, with all that decides what happens next.

use std::error::Error as StdError;
use std::fmt;
use std::time::{Duration, SystemTime};

use super::super::location::is_region;
use super::xml::Element;
use crate::base::Printable;
use crate::connector::{Error, ErrorKind};

/// The result of a request.
pub(in super::super) type Result<T> = std::result::Result<T, Box<Failure>>;

/// Whether trying again may help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Again {
    /// It will not.
    Never,
    /// After a short pause.
    Soon,
    /// After a short pause, a few times: names that do not resolve are mostly spelt wrong.
    Briefly,
    /// After a longer pause, and with fewer requests in flight.
    Throttled,
}

/// A failed request.
#[derive(Debug)]
pub(in super::super) struct Failure {
    /// The kind it becomes.
    pub(in super::super) kind: ErrorKind,
    /// What was tried, as a verb.
    pub(in super::super) op: &'static str,
    /// `s3://host/bucket/key`, printable.
    pub(in super::super) target: String,
    /// The HTTP status; 0 when there was no answer.
    pub(in super::super) status: u16,
    /// The S3 code; empty when there was none.
    pub(in super::super) code: String,
    /// What the server or the system said, printable and without secrets.
    pub(in super::super) message: String,
    /// The request's id at the server.
    pub(in super::super) request_id: Option<String>,
    /// What a person can do.
    pub(in super::super) hint: Option<String>,
    /// Whether trying again may help.
    pub(in super::super) again: Again,
    /// How long the server asks to wait.
    pub(in super::super) retry_after: Option<Duration>,
    /// The region the server names.
    pub(in super::super) region: Option<String>,
    /// The server's clock.
    pub(in super::super) date: Option<SystemTime>,
    /// How many attempts were made.
    pub(in super::super) attempts: u32,
    /// What a body's own source said, when it was that which failed.
    pub(in super::super) cause: Option<Box<Error>>,
}

impl Failure {
    /// A failure without an answer.
    pub(in super::super) fn new(
        kind: ErrorKind,
        op: &'static str,
        target: &str,
        message: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Self {
            kind,
            op,
            target: target.to_owned(),
            status: 0,
            code: String::new(),
            message: message.into(),
            request_id: None,
            hint: None,
            again: Again::Never,
            retry_after: None,
            region: None,
            date: None,
            attempts: 1,
            cause: None,
        })
    }

    /// An answer that makes no sense.
    pub(in super::super) fn protocol(
        op: &'static str,
        target: &str,
        message: impl Into<String>,
    ) -> Box<Self> {
        Self::new(ErrorKind::Protocol, op, target, message)
    }

    /// A connection that broke, or a body that ended early.
    pub(in super::super) fn transport(
        op: &'static str,
        target: &str,
        message: impl Into<String>,
    ) -> Box<Self> {
        let mut failure = Self::new(ErrorKind::Transport, op, target, message);
        failure.again = Again::Soon;
        failure
    }

    /// Returns whether the server answered with this code.
    pub(in super::super) fn is(&self, code: &str) -> bool {
        self.code == code
    }

    /// Returns whether temporary credentials that expired may be the reason. An answer to HEAD has no body to say so.
    pub(super) fn may_be_expiry(&self) -> bool {
        let code = self.code.as_str();
        matches!(code, "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" | "InvalidAccessKeyId")
            || (self.status == 400 && code.is_empty() && self.op == "head")
    }

    /// Returns whether the bucket is known not to exist.
    pub(in super::super) fn is_no_bucket(&self) -> bool {
        self.code == "NoSuchBucket"
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.code.is_empty() {
            parts.push(self.code.clone());
        }
        if self.status != 0 {
            parts.push(format!("HTTP {}", self.status));
        }
        if !self.message.is_empty() {
            parts.push(self.message.clone());
        }
        if let Some(id) = &self.request_id {
            parts.push(format!("request id {id}"));
        }
        if self.attempts > 1 {
            parts.push(format!("{} attempts", self.attempts));
        }
        f.write_str(&parts.join(", "))?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

impl StdError for Failure {}

impl From<Box<Failure>> for Error {
    fn from(failure: Box<Failure>) -> Self {
        if let Some(cause) = failure.cause {
            return *cause;
        }
        Self::new(failure.kind, failure.op, failure.target.clone()).detail(failure.to_string())
    }
}

/// The parts of an error answer.
#[derive(Debug, Default)]
pub(super) struct Answer<'a> {
    pub(super) status: u16,
    pub(super) body: &'a [u8],
    pub(super) request_id: Option<String>,
    pub(super) region: Option<String>,
    pub(super) date: Option<SystemTime>,
    pub(super) retry_after: Option<Duration>,
}

/// Turns an error answer into a failure; `redact` removes secrets from what the server says.
pub(super) fn classify(
    op: &'static str,
    target: &str,
    answer: Answer<'_>,
    redact: &dyn Fn(&str) -> String,
) -> Box<Failure> {
    let root = Element::parse(answer.body).ok().filter(|root| root.name == "Error");
    let text = |name: &str| root.as_ref().and_then(|root| root.text_of(name));
    let code: String =
        text("Code").unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    let code = if code.is_empty() { code_of(answer.status).to_owned() } else { code };
    let mut failure = Failure::new(kind_of(answer.status, &code), op, target, "");
    failure.again = again(answer.status, &code);
    failure.message = redact(&printable(text("Message").unwrap_or_default(), 300));
    failure.status = answer.status;
    failure.request_id =
        answer.request_id.or_else(|| text("RequestId").map(str::to_owned)).map(|id| printable(&id, 80));
    failure.region =
        answer.region.or_else(|| text("Region").map(str::to_owned)).filter(|region| is_region(region));
    failure.date = answer.date;
    failure.retry_after = answer.retry_after;
    failure.code = code;
    failure
}

/// The code a status stands for where an answer has no body, as those to HEAD.
fn code_of(status: u16) -> &'static str {
    match status {
        301 => "PermanentRedirect",
        304 => "NotModified",
        307 => "TemporaryRedirect",
        401 | 403 => "AccessDenied",
        404 => "NotFound",
        412 => "PreconditionFailed",
        429 => "TooManyRequests",
        _ => "",
    }
}

fn kind_of(status: u16, code: &str) -> ErrorKind {
    match (status, code) {
        (_, "InvalidObjectState") => ErrorKind::Unsupported,
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") | (401 | 403, _) => ErrorKind::Denied,
        (404, _) => ErrorKind::NotFound,
        (409, "BucketAlreadyExists" | "BucketAlreadyOwnedByYou") => ErrorKind::Exists,
        (304 | 412, _) => ErrorKind::Changed,
        (_, "EntityTooLarge" | "QuotaExceeded") | (413 | 507, _) => ErrorKind::Full,
        (405 | 501, _) => ErrorKind::Unsupported,
        (408 | 429 | 500..=599, _) => ErrorKind::Transport,
        (400, "InvalidBucketName" | "InvalidStorageClass" | "KeyTooLongError") => ErrorKind::Invalid,
        _ => ErrorKind::Protocol,
    }
}

fn again(status: u16, code: &str) -> Again {
    let throttled = code.starts_with("SlowDown")
        || code.starts_with("Throttling")
        || code == "RequestLimitExceeded"
        || code == "TooManyRequests";
    let soon = matches!(
        code,
        "RequestTimeout"
            | "InternalError"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "BadDigest"
            | "IncompleteBody"
    );
    match status {
        _ if throttled => Again::Throttled,
        _ if soon => Again::Soon,
        429 | 503 => Again::Throttled,
        408 | 500 | 502 | 504 => Again::Soon,
        _ => Again::Never,
    }
}

/// Makes a foreign text printable, and no longer than so many characters.
pub(in super::super) fn printable(text: &str, limit: usize) -> String {
    let text: String = text.chars().take(limit).collect();
    Printable::message(&text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(status: u16, body: &str) -> Box<Failure> {
        let answer = Answer { status, body: body.as_bytes(), ..Answer::default() };
        classify("get", "s3://h/b/k", answer, &|text| text.replace("hush", "…"))
    }

    #[test]
    fn kinds_and_retries_follow_status_and_code() {
        let code = |code: &str| format!("<Error><Code>{code}</Code><Message>hush m</Message></Error>");
        let cases = [
            (403, "AccessDenied", ErrorKind::Denied, Again::Never),
            (404, "NoSuchKey", ErrorKind::NotFound, Again::Never),
            (404, "NoSuchBucket", ErrorKind::NotFound, Again::Never),
            (403, "InvalidObjectState", ErrorKind::Unsupported, Again::Never),
            (503, "SlowDown", ErrorKind::Transport, Again::Throttled),
            (503, "ServiceUnavailable", ErrorKind::Transport, Again::Throttled),
            (429, "TooManyRequests", ErrorKind::Transport, Again::Throttled),
            (500, "InternalError", ErrorKind::Transport, Again::Soon),
            (400, "RequestTimeout", ErrorKind::Protocol, Again::Soon),
            (409, "OperationAborted", ErrorKind::Protocol, Again::Soon),
            (400, "ExpiredToken", ErrorKind::Denied, Again::Never),
            (412, "PreconditionFailed", ErrorKind::Changed, Again::Never),
            (301, "PermanentRedirect", ErrorKind::Protocol, Again::Never),
            (507, "InsufficientStorage", ErrorKind::Full, Again::Never),
        ];
        for (status, name, kind, again) in cases {
            let got = fail(status, &code(name));
            assert_eq!((got.kind, got.again, got.code.as_str()), (kind, again, name));
            assert_eq!(got.message, "… m");
        }
        assert_eq!(fail(404, "").code, "NotFound");
        assert_eq!((fail(301, "").code.as_str(), fail(301, "").again), ("PermanentRedirect", Again::Never));
        assert_eq!(fail(502, "<html>bad gateway</html>").again, Again::Soon);
    }

    #[test]
    fn foreign_texts_are_tamed() {
        let body = "<Error><Code>Bad\u{1b}[31mCode</Code><Message>a&#x1b;[2Jb\u{202e}c</Message>\
                    <Region>evil.example/#</Region></Error>";
        let got = fail(400, body);
        assert_eq!(got.code, "Bad31mCode");
        assert_eq!(got.message, "a\\x1b[2Jb\\u{202e}c");
        assert_eq!(got.region, None);
        let error = Error::from(got).to_string();
        assert!(error.starts_with("cannot get s3://h/b/k: Bad31mCode, HTTP 400"), "{error}");
    }
}
