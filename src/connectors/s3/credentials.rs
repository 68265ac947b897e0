//! Who asks: access keys, from the options or the environment.
//!
//! The order is fixed: explicit options, then the environment. Further sources (web identity, profiles,
//! containers, instance metadata) join the list in [`Credentials::find`]; until one does, naming it is refused
//! instead of being ignored.

use std::fmt;

use zeroize::Zeroizing;

use super::location::Endpoint;

/// An access key with its secret. `Debug` shows neither the secret nor the token.
#[derive(Clone)]
pub struct Credentials {
    /// The access key's id.
    pub access_key: String,
    /// The secret.
    pub secret: Zeroizing<String>,
    /// The session token of temporary credentials.
    pub token: Option<Zeroizing<String>>,
    /// Where they come from, for people.
    pub origin: &'static str,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// What the options say about credentials; empty strings count as unset.
#[derive(Default)]
pub struct Given<'a> {
    /// The option `access_key`.
    pub access_key: Option<&'a str>,
    /// The option `secret_access_key`.
    pub secret: Option<&'a str>,
    /// The option `session_token`.
    pub token: Option<&'a str>,
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Takes the first credentials that are there. The error is a sentence for people.
    pub fn find(
        given: &Given<'_>,
        endpoint: &Endpoint,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let set = |value: Option<&str>| value.filter(|v| !v.is_empty()).map(str::to_owned);
        let read = |name: &str| environment(name).filter(|v| !v.is_empty());
        if let Some(found) = pair(
            (set(given.access_key), "access_key"),
            (set(given.secret), "secret_access_key"),
            set(given.token),
            "options",
        )? {
            return Ok(found);
        }
        if endpoint.is_scaleway()
            && let Some(found) = pair(
                (read("SCW_ACCESS_KEY"), "SCW_ACCESS_KEY"),
                (read("SCW_SECRET_KEY"), "SCW_SECRET_KEY"),
                None,
                "environment",
            )?
        {
            return Ok(found);
        }
        let found = pair(
            (read("AWS_ACCESS_KEY_ID"), "AWS_ACCESS_KEY_ID"),
            (read("AWS_SECRET_ACCESS_KEY"), "AWS_SECRET_ACCESS_KEY"),
            read("AWS_SESSION_TOKEN"),
            "environment",
        )?;
        found.ok_or_else(|| {
            "there are no credentials: set access_key and secret_access_key, \
             or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment"
                .into()
        })
    }
}

fn pair(
    (access_key, key_name): (Option<String>, &str),
    (secret, secret_name): (Option<String>, &str),
    token: Option<String>,
    origin: &'static str,
) -> Result<Option<Credentials>, String> {
    match (access_key, secret) {
        (Some(access_key), Some(secret)) => Ok(Some(Credentials {
            access_key,
            secret: Zeroizing::new(secret),
            token: token.map(Zeroizing::new),
            origin,
        })),
        (Some(_), None) => Err(format!("{key_name} is set, but {secret_name} is not")),
        (None, Some(_)) => Err(format!("{secret_name} is set, but {key_name} is not")),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(given: &Given<'_>, host: &str, environment: &[(&str, &str)]) -> Result<Credentials, String> {
        let read = |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        Credentials::find(given, &Endpoint::parse(host).unwrap(), &read)
    }

    const AWS: [(&str, &str); 3] =
        [("AWS_ACCESS_KEY_ID", "aws"), ("AWS_SECRET_ACCESS_KEY", "as"), ("AWS_SESSION_TOKEN", "at")];
    const BOTH: [(&str, &str); 4] = [("SCW_ACCESS_KEY", "scw"), ("SCW_SECRET_KEY", "ss"), AWS[0], AWS[1]];

    #[test]
    fn options_win_over_the_environment() {
        let given = Given { access_key: Some("opt"), secret: Some("os"), token: None };
        let found = find(&given, "h", &AWS).unwrap();
        assert_eq!((found.access_key.as_str(), found.origin), ("opt", "options"));
        assert!(found.token.is_none());
        let found = find(&Given::default(), "h", &AWS).unwrap();
        assert_eq!((found.access_key.as_str(), found.token.unwrap().as_str()), ("aws", "at"));
    }

    #[test]
    fn scaleway_variables_serve_scaleway_hosts_only() {
        assert_eq!(find(&Given::default(), "s3.fr-par.scw.cloud", &BOTH).unwrap().access_key, "scw");
        assert_eq!(find(&Given::default(), "s3.example.net", &BOTH).unwrap().access_key, "aws");
    }

    #[test]
    fn halves_and_nothing_are_refused_by_name() {
        let half = Given { access_key: Some("k"), secret: Some(""), token: None };
        assert!(find(&half, "h", &AWS).unwrap_err().contains("secret_access_key is not"));
        assert!(find(&Given::default(), "h", &AWS[1..]).unwrap_err().contains("AWS_ACCESS_KEY_ID is not"));
        assert!(find(&Given::default(), "h", &[]).unwrap_err().contains("no credentials"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let given = Given { access_key: Some("k"), secret: Some("hush"), token: Some("psst") };
        let text = format!("{given:?} {:?}", find(&given, "h", &[]).unwrap());
        assert!(!text.contains("hush") && !text.contains("psst"), "{text}");
    }
}
