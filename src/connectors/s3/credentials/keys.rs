//! An access key and its secret.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::CredentialsError;

/// An access key with its secret. `Debug` shows neither the secret nor the token.
#[derive(Clone)]
pub struct Credentials {
    /// The access key's id.
    pub access_key: String,
    /// The secret.
    pub secret: Zeroizing<String>,
    /// The session token of temporary credentials.
    pub token: Option<Zeroizing<String>>,
    /// When they expire, where they do.
    pub expires: Option<Timestamp>,
    /// Where they come from, for people.
    pub origin: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .field("expires", &self.expires)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Returns whether both would sign alike.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.access_key == other.access_key && self.secret == other.secret && self.token == other.token
    }
}

/// Makes credentials of a pair of settings; fails where one is set and the other is not.
pub(super) fn pair(
    (access_key, key_name): (Option<String>, &str),
    (secret, secret_name): (Option<String>, &str),
    token: Option<String>,
    origin: &str,
) -> Result<Option<Credentials>, CredentialsError> {
    match (access_key, secret) {
        (Some(access_key), Some(secret)) => Ok(Some(Credentials {
            access_key,
            secret: Zeroizing::new(secret),
            token: token.map(Zeroizing::new),
            expires: None,
            origin: origin.to_owned(),
        })),
        (Some(_), None) => {
            Err(CredentialsError::invalid(format!("{key_name} is set, but {secret_name} is not")))
        }
        (None, Some(_)) => {
            Err(CredentialsError::invalid(format!("{secret_name} is set, but {key_name} is not")))
        }
        (None, None) => Ok(None),
    }
}

/// Credentials as JSON, in the spellings of `credential_process`, of containers and of instances.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    version: Option<u32>,
    /// Instances: `Success`, or what went wrong.
    code: Option<String>,
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    #[serde(alias = "Token")]
    session_token: Option<String>,
    expiration: Option<String>,
}

/// Reads credentials from JSON. A parser's message might quote the text, so it is not passed on.
pub(super) fn parse_json(
    bytes: &[u8],
    versioned: bool,
    origin: &str,
) -> Result<Credentials, CredentialsError> {
    let wrong = |what: &str| CredentialsError::protocol(format!("{origin} answered {what}"));
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|_| wrong("something that is not a JSON object of credentials"))?;
    if versioned && document.version != Some(1) {
        return Err(wrong("credentials of a version other than 1"));
    }
    if let Some(code) = document.code.filter(|code| code != "Success") {
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        return Err(CredentialsError::denied(format!("{origin} answered {code}")));
    }
    let filled = |text: &String| !text.is_empty();
    let access_key = document.access_key_id.filter(filled).ok_or_else(|| wrong("no AccessKeyId"))?;
    let secret = document.secret_access_key.filter(filled).ok_or_else(|| wrong("no SecretAccessKey"))?;
    let secret = Zeroizing::new(secret);
    let token = document.session_token.filter(filled).map(Zeroizing::new);
    let expires = document.expiration.filter(filled).map(|text| parse_time(&text, origin)).transpose()?;
    Ok(Credentials { access_key, secret, token, expires, origin: origin.to_owned() })
}

/// Reads a time as ISO 8601 writes it.
pub(super) fn parse_time(text: &str, origin: &str) -> Result<Timestamp, CredentialsError> {
    text.trim()
        .parse()
        .map_err(|_| CredentialsError::protocol(format!("{origin} answered an expiry that is not a time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let found = pair((Some("k".into()), "a"), (Some("hush".into()), "b"), Some("psst".into()), "options");
        let text = format!("{found:?}");
        assert!(text.contains("options") && !text.contains("hush") && !text.contains("psst"), "{text}");
    }

    #[test]
    fn documents_of_every_spelling_are_read() {
        let process = br#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S","SessionToken":"T","Expiration":"2026-01-02T03:04:05Z"}"#;
        let got = parse_json(process, true, "x").unwrap();
        assert_eq!((got.access_key.as_str(), got.secret.as_str()), ("A", "S"));
        assert_eq!(got.token.unwrap().as_str(), "T");
        assert_eq!(got.expires.unwrap().as_second(), 1_767_323_045);
        let container = br#"{"RoleArn":"r","AccessKeyId":"A","SecretAccessKey":"S","Token":"T","Expiration":"2026-01-02T03:04:05+00:00"}"#;
        assert_eq!(parse_json(container, false, "x").unwrap().token.unwrap().as_str(), "T");
        let lasting = br#"{"AccessKeyId":"A","SecretAccessKey":"S","SessionToken":"","Extra":[1]}"#;
        let got = parse_json(lasting, false, "x").unwrap();
        assert!(got.token.is_none() && got.expires.is_none());
    }

    #[test]
    fn wrong_documents_say_what_is_wrong_and_quote_nothing() {
        let cases: [(&[u8], &str); 7] = [
            (b"hush", "not a JSON object"),
            (b"", "not a JSON object"),
            (br#"{"Version":2,"AccessKeyId":"A","SecretAccessKey":"hush"}"#, "other than 1"),
            (br#"{"Version":1,"SecretAccessKey":"hush"}"#, "no AccessKeyId"),
            (br#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":""}"#, "no SecretAccessKey"),
            (br#"{"Version":1,"Code":"Assume\u001bRoleUnauthorizedAccess"}"#, "AssumeRoleUnauthorizedAccess"),
            (
                br#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"hush","Expiration":"never"}"#,
                "not a time",
            ),
        ];
        for (bytes, expected) in cases {
            let told = parse_json(bytes, true, "the source").unwrap_err().to_string();
            assert!(told.contains(expected) && !told.contains("hush"), "{told}");
        }
    }
}
