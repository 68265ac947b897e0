//! Roles, through AWS's token service: with a token of a web identity (EKS), or with other credentials.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use url::Url;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

use super::super::client::{Element, printable, sign_post};
use super::super::location::{Endpoint, is_region};
use super::super::options::ProxySettings;
use super::http::{Http, patiently};
use super::keys::parse_time;
use super::{Credentials, CredentialsError};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(15);
const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// The longest token that is read from a file, in bytes; STS takes 20,000.
const MAX_TOKEN: usize = 64 << 10;

/// The service and the way to it.
#[derive(Clone, Debug)]
pub(super) struct Sts {
    pub(super) url: Url,
    pub(super) region: String,
    pub(super) proxy: Option<ProxySettings>,
    pub(super) ca_file: Option<PathBuf>,
}

/// A role to be assumed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session_name: Option<String>,
    /// Treated as a secret, though AWS does not.
    pub(super) external_id: Option<String>,
    pub(super) duration: Option<String>,
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role").field("arn", &self.arn).finish_non_exhaustive()
    }
}

impl Sts {
    /// Returns the address of the service: one that is configured, else the region's.
    pub(super) fn url(configured: Option<&str>, region: &str) -> Result<Url, CredentialsError> {
        let tail = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let text = match configured {
            Some(text) => text.to_owned(),
            None if is_region(region) => format!("https://sts.{region}.{tail}/"),
            None => return Err(CredentialsError::invalid(format!("{region} is not a region"))),
        };
        let url =
            Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        url.ok_or_else(|| {
            // It may hold a password.
            let shown = if text.contains('@') { "…" } else { text.as_str() };
            CredentialsError::invalid(format!("the endpoint of STS, {shown}, is not an http URL"))
        })
    }

    /// Returns the service's host for decisions about proxies.
    pub(super) fn endpoint(url: &Url) -> Option<Endpoint> {
        Endpoint::parse(&format!("{}://{}", url.scheme(), url.host_str()?)).ok()
    }

    /// Assumes a role with the token in a file, which is read anew.
    pub(super) fn with_web_identity(
        &self,
        role: &Role,
        token_file: &Path,
        origin: &str,
    ) -> Result<Credentials, CredentialsError> {
        let token = Zeroizing::new(std::fs::read_to_string(token_file).map_err(|error| {
            CredentialsError::invalid(format!("{origin}: {} cannot be read: {error}", token_file.display()))
        })?);
        let token = token.trim();
        if token.is_empty() || token.len() > MAX_TOKEN {
            let what = format!("{origin}: {} holds no token", token_file.display());
            return Err(CredentialsError::invalid(what));
        }
        let name = role.session_name.clone().unwrap_or_else(session_name);
        let body = form("AssumeRoleWithWebIdentity", role, &name, &[("WebIdentityToken", token)]);
        let send =
            |http: &Http| http.send("POST", self.url.as_str(), &[("content-type", FORM)], body.as_bytes());
        let secrets = [token, role.external_id.as_deref().unwrap_or_default()];
        self.ask("AssumeRoleWithWebIdentity", origin, &secrets, &send)
    }

    /// Assumes a role with other credentials.
    pub(super) fn with_credentials(
        &self,
        role: &Role,
        base: &Credentials,
        origin: &str,
    ) -> Result<Credentials, CredentialsError> {
        let name = role.session_name.clone().unwrap_or_else(session_name);
        let body = form("AssumeRole", role, &name, &[]);
        let send = |http: &Http| {
            let now = Timestamp::now();
            let signed = sign_post(&self.url, FORM, body.as_bytes(), base, (&self.region, "sts"), now);
            let headers: Vec<(&str, &str)> =
                signed.iter().map(|(name, value)| (*name, value.as_str())).collect();
            http.send("POST", self.url.as_str(), &headers, body.as_bytes())
        };
        let token = base.token.as_ref().map_or("", |token| token.as_str());
        // AWS may answer with the text that was to be signed: the token is part of it.
        let secrets = [base.secret.as_str(), token, role.external_id.as_deref().unwrap_or_default()];
        self.ask("AssumeRole", origin, &secrets, &send)
    }

    fn ask(
        &self,
        action: &str,
        origin: &str,
        secrets: &[&str],
        send: &dyn Fn(&Http) -> Result<super::http::Answer, CredentialsError>,
    ) -> Result<Credentials, CredentialsError> {
        let host = self.url.host_str().unwrap_or_default();
        let what = format!("{origin}: {action} at {host}");
        let http = Http::outside(LIMIT, self.proxy.as_ref(), self.ca_file.as_deref())?;
        let answer = patiently(|| send(&http)).map_err(|error| error.within(&what))?;
        let root = Element::parse(&answer.body).ok();
        if answer.status != 200 {
            let error = root.as_ref().and_then(|root| root.child("Error"));
            let part = |name: &str, most: usize| {
                let mut text = error.and_then(|error| error.text_of(name)).unwrap_or_default().to_owned();
                for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
                    text = text.replace(secret, "…");
                }
                printable(&text, most)
            };
            let (code, message) = (part("Code", 64), part("Message", 300));
            let told = [format!("HTTP {}", answer.status), code, message];
            let told: Vec<String> = told.into_iter().filter(|text| !text.is_empty()).collect();
            return Err(CredentialsError::denied(format!("{what}: {}", told.join(", "))));
        }
        let found = root
            .as_ref()
            .and_then(|root| root.child(&format!("{action}Result")))
            .and_then(|result| result.child("Credentials"));
        let text = |name: &str| {
            let text =
                found.and_then(|found| found.text_of(name)).map(str::trim).filter(|text| !text.is_empty());
            text.map(str::to_owned)
                .ok_or_else(|| CredentialsError::protocol(format!("{what}: the answer holds no {name}")))
        };
        Ok(Credentials {
            access_key: text("AccessKeyId")?,
            secret: Zeroizing::new(text("SecretAccessKey")?),
            token: Some(Zeroizing::new(text("SessionToken")?)),
            expires: Some(parse_time(&text("Expiration")?, origin)?),
            origin: origin.to_owned(),
        })
    }
}

/// Returns a name for a session: it stands in AWS's audit log.
fn session_name() -> String {
    format!("plakar-{}", Timestamp::now().as_millisecond())
}

fn form(action: &str, role: &Role, session_name: &str, more: &[(&str, &str)]) -> Zeroizing<String> {
    let mut form = Serializer::new(String::new());
    form.append_pair("Action", action).append_pair("Version", "2011-06-15");
    form.append_pair("RoleArn", &role.arn).append_pair("RoleSessionName", session_name);
    if let Some(id) = &role.external_id {
        form.append_pair("ExternalId", id);
    }
    if let Some(seconds) = &role.duration {
        form.append_pair("DurationSeconds", seconds);
    }
    form.extend_pairs(more);
    Zeroizing::new(form.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_regions_or_what_is_configured() {
        assert_eq!(Sts::url(None, "eu-west-3").unwrap().as_str(), "https://sts.eu-west-3.amazonaws.com/");
        assert_eq!(
            Sts::url(None, "cn-north-1").unwrap().as_str(),
            "https://sts.cn-north-1.amazonaws.com.cn/"
        );
        assert_eq!(Sts::url(Some("http://127.0.0.1:1/x"), "r").unwrap().as_str(), "http://127.0.0.1:1/x");
        assert!(Sts::url(None, "evil.example/#").is_err() && Sts::url(Some("ftp://x"), "r").is_err());
        let told = Sts::url(Some("ftp://user:hush-hush@x"), "r").unwrap_err().to_string();
        assert!(told.contains("STS") && !told.contains("hush-hush"), "{told}");
    }
}
