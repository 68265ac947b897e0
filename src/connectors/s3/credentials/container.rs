//! Credentials of a container: ECS tasks and EKS Pod Identity.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};
use zeroize::Zeroizing;

use super::http::{Http, patiently};
use super::keys::parse_json;
use super::{Credentials, CredentialsError};

const ORIGIN: &str = "container metadata";
/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);
/// ECS's address, to which a relative URI belongs.
const ECS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
/// EKS's addresses.
const EKS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
];

/// What goes into the header `Authorization`.
#[derive(Clone)]
enum Token {
    None,
    Text(Zeroizing<String>),
    /// Read again for each request: it changes.
    File(PathBuf),
}

/// Where a container's credentials are.
#[derive(Clone)]
pub(super) struct Container {
    url: String,
    token: Token,
}

impl Container {
    /// Reads the variables; `None` when neither address is set.
    pub(super) fn find(read: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, CredentialsError> {
        let url = match (
            read("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            read("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ) {
            (Some(path), _) if path.starts_with('/') => format!("http://{ECS}{path}"),
            (Some(_), _) => {
                return Err(CredentialsError::invalid(
                    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is a path that starts with a slash",
                ));
            }
            (None, Some(url)) => {
                check(&url).map_err(|what| {
                    CredentialsError::invalid(format!("AWS_CONTAINER_CREDENTIALS_FULL_URI {what}"))
                })?;
                url
            }
            (None, None) => return Ok(None),
        };
        let file = read("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(|path| Token::File(path.into()));
        let text = || read("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(|text| Token::Text(Zeroizing::new(text)));
        Ok(Some(Self { url, token: file.or_else(text).unwrap_or(Token::None) }))
    }

    /// Asks the container's agent.
    pub(super) fn resolve(&self) -> Result<Credentials, CredentialsError> {
        let http = Http::direct(LIMIT);
        let token = self.authorization()?;
        let headers: Vec<(&str, &str)> =
            token.iter().map(|token| ("authorization", token.as_str())).collect();
        let answer =
            patiently(|| http.send("GET", &self.url, &headers, b"")).map_err(|e| e.within(ORIGIN))?;
        if answer.status != 200 {
            let what = format!("{ORIGIN} answered HTTP {}", answer.status);
            return Err(CredentialsError::denied(what));
        }
        parse_json(&answer.body, false, ORIGIN)
    }

    fn authorization(&self) -> Result<Option<Zeroizing<String>>, CredentialsError> {
        let text = match &self.token {
            Token::None => return Ok(None),
            Token::Text(text) => text.clone(),
            Token::File(path) => Zeroizing::new(std::fs::read_to_string(path).map_err(|error| {
                CredentialsError::invalid(format!(
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: {} cannot be read: {error}",
                    path.display()
                ))
            })?),
        };
        let bare = text.trim_end_matches(['\r', '\n']);
        if bare.contains(['\r', '\n']) {
            return Err(CredentialsError::invalid("the container's authorization token holds a line break"));
        }
        Ok(Some(Zeroizing::new(bare.to_owned())))
    }
}

/// Refuses to send a token in the clear to another machine.
fn check(text: &str) -> Result<(), &'static str> {
    let url = Url::parse(text).map_err(|_| "is not a URL")?;
    let near = |address: IpAddr| address.is_loopback() || address == ECS || EKS.contains(&address);
    match (url.scheme(), url.host()) {
        ("https", Some(_)) | ("http", Some(Host::Domain("localhost"))) => Ok(()),
        ("http", Some(Host::Ipv4(address))) if near(address.into()) => Ok(()),
        ("http", Some(Host::Ipv6(address))) if near(address.into()) => Ok(()),
        ("http", Some(_)) => {
            Err("may be plain http for this machine, 169.254.170.2, 169.254.170.23 and fd00:ec2::23 only")
        }
        _ => Err("is not an http or https URL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let read = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Container::find(&read).map(|found| found.map(|c| c.url)).map_err(|error| error.to_string())
    }

    #[test]
    fn plain_http_reaches_known_hosts_only() {
        let full = |url: &str| find(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)]);
        for url in [
            "http://127.0.0.1/x",
            "http://127.9.9.9:80/x",
            "http://localhost:1/x",
            "http://[::1]/x",
            "http://169.254.170.2/x",
            "http://169.254.170.23/v1/credentials",
            "http://[fd00:ec2::23]/v1/credentials",
            "https://anywhere.example/x",
        ] {
            assert_eq!(full(url).unwrap().as_deref(), Some(url));
        }
        for url in [
            "http://169.254.170.3/x",
            "http://evil.example/x",
            "http://localhost.evil.example/x",
            "http://[fd00:ec2::24]/x",
            "ftp://127.0.0.1/x",
            "127.0.0.1",
        ] {
            assert!(full(url).unwrap_err().contains("FULL_URI"), "{url}");
        }
    }

    #[test]
    fn a_relative_address_belongs_to_ecs() {
        let relative = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/uuid");
        let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1/x");
        assert_eq!(find(&[full, relative]).unwrap().unwrap(), "http://169.254.170.2/v2/credentials/uuid");
        assert!(find(&[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "@evil.example/")]).is_err());
        assert_eq!(find(&[]).unwrap(), None);
    }
}
