//! Credentials of an EC2 instance, by the second version of its metadata service.

use std::time::Duration;

use super::http::{Answer, Http};
use super::keys::parse_json;
use super::{Credentials, CredentialsError};

pub(super) const ORIGIN: &str = "instance metadata";
/// How long one request may take: a machine that is no instance shall not keep people waiting.
const LIMIT: Duration = Duration::from_secs(1);
/// How long a session's token lives, in seconds.
const TOKEN_LIFE: &str = "21600";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// The metadata service of an instance.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    /// `http://host[:port]`, without a slash at the end.
    endpoint: String,
}

impl Instance {
    /// Reads the variables; `None` when the service is not to be asked. It is asked unbidden only for AWS.
    pub(super) fn find(
        read: &dyn Fn(&str) -> Option<String>,
        is_aws: bool,
    ) -> Result<Option<Self>, CredentialsError> {
        if read("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let endpoint = match read("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            Some(url) if url.starts_with("http://") || url.starts_with("https://") => url,
            Some(_) => {
                return Err(CredentialsError::invalid(
                    "AWS_EC2_METADATA_SERVICE_ENDPOINT is not an http URL",
                ));
            }
            None if !is_aws => return Ok(None),
            None => match read("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") {
                Some(mode) if mode.eq_ignore_ascii_case("ipv6") => "http://[fd00:ec2::254]".into(),
                _ => "http://169.254.169.254".into(),
            },
        };
        Ok(Some(Self { endpoint: endpoint.trim_end_matches('/').to_owned() }))
    }

    /// Asks for a session, for the role's name, for its credentials; each once.
    pub(super) fn resolve(&self) -> Result<Credentials, CredentialsError> {
        let http = Http::direct(LIMIT);
        let send = |method: &str, path: &str, header: (&str, &str)| {
            let url = format!("{}{path}", self.endpoint);
            let answer = http.send(method, &url, &[header], b"").map_err(|error| error.within(ORIGIN))?;
            match answer.status {
                200 => Ok(answer),
                404 if path == ROLES => {
                    Err(CredentialsError::denied(format!("{ORIGIN}: this instance has no role")))
                }
                status => Err(CredentialsError::denied(format!("{ORIGIN} answered HTTP {status}"))),
            }
        };
        let session =
            text(send("PUT", "/latest/api/token", ("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFE))?)?;
        let header = ("x-aws-ec2-metadata-token", session.as_str());
        let roles = text(send("GET", ROLES, header)?)?;
        let role = roles.lines().next().unwrap_or_default();
        // The name becomes a part of a path.
        if role.is_empty() || !role.bytes().all(|c| c.is_ascii_alphanumeric() || b"+=,.@-_".contains(&c)) {
            return Err(CredentialsError::protocol(format!(
                "{ORIGIN} answered something that names no role"
            )));
        }
        let answer = send("GET", &format!("{ROLES}{role}"), header)?;
        parse_json(&answer.body, false, ORIGIN)
    }
}

fn text(answer: Answer) -> Result<String, CredentialsError> {
    let text = String::from_utf8(answer.body).ok().filter(|text| text.is_ascii());
    let text = text.ok_or_else(|| CredentialsError::protocol(format!("{ORIGIN} answered no text")))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(is_aws: bool, variables: &[(&str, &str)]) -> Option<String> {
        let read = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Instance::find(&read, is_aws).unwrap().map(|instance| instance.endpoint)
    }

    #[test]
    fn the_service_is_asked_for_aws_or_by_name() {
        let named = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9/");
        assert_eq!(find(true, &[]).as_deref(), Some("http://169.254.169.254"));
        assert_eq!(find(false, &[]), None);
        assert_eq!(find(false, &[named]).as_deref(), Some("http://127.0.0.1:9"));
        assert_eq!(find(true, &[named, ("AWS_EC2_METADATA_DISABLED", "True")]), None);
        assert_eq!(
            find(true, &[("AWS_EC2_METADATA_DISABLED", "false")]).as_deref(),
            Some("http://169.254.169.254")
        );
        let mode = ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6");
        assert_eq!(find(true, &[mode]).as_deref(), Some("http://[fd00:ec2::254]"));
        assert!(Instance::find(&|_| Some("ftp://x".into()), true).is_err());
    }
}
