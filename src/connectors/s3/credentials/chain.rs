//! Which source gives the credentials: the first that is set, by looking at settings only.

use std::fmt;
use std::path::PathBuf;

use super::super::location::{Endpoint, is_region};
use super::super::options::proxy_for;
use super::container::Container;
use super::instance::{self, Instance};
use super::keys::pair;
use super::process::Process;
use super::source::{Named, Source};
use super::sts::{Role, Sts};
use super::{CredentialsError, Profile, Provider};

/// The most profiles that refer to each other.
const MAX_DEPTH: usize = 8;

const NONE: &str = "there are no credentials: set access_key and secret_access_key or profile, \
                    or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment";
const NONE_SCALEWAY: &str = "there are no credentials: set access_key and secret_access_key or profile, \
                             or SCW_ACCESS_KEY and SCW_SECRET_KEY in the environment";

/// What the options say about credentials; empty strings count as unset.
#[derive(Default)]
pub(in super::super) struct Given<'a> {
    /// The option `access_key`.
    pub(in super::super) access_key: Option<&'a str>,
    /// The option `secret_access_key`.
    pub(in super::super) secret: Option<&'a str>,
    /// The option `session_token`.
    pub(in super::super) token: Option<&'a str>,
    /// Whether the option `profile` is set.
    pub(in super::super) profile: bool,
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

/// All that decides which source it is.
pub(in super::super) struct Surroundings<'a> {
    pub(in super::super) given: Given<'a>,
    pub(in super::super) endpoint: &'a Endpoint,
    /// The connector's region.
    pub(in super::super) region: &'a str,
    /// The profile in use, or why there is none.
    pub(in super::super) profile: Result<Option<Profile>, CredentialsError>,
    /// Certificates for AWS's own services.
    pub(in super::super) ca_file: Option<PathBuf>,
    /// Certificates for the connector's server.
    pub(in super::super) own_ca_file: Option<PathBuf>,
    pub(in super::super) environment: &'a dyn Fn(&str) -> Option<String>,
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Picks the source. Nothing is asked yet; fails where something is set that cannot be used, or nothing is set.
pub(in super::super) fn choose(around: Surroundings<'_>) -> Result<Provider, CredentialsError> {
    around.choose().map(Provider::new)
}

impl Surroundings<'_> {
    fn read(&self, name: &str) -> Option<String> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }

    fn choose(self) -> Result<Named, CredentialsError> {
        if let Some(found) = self.in_options()? {
            return Ok(found);
        }
        if self.given.profile {
            let profile = self.profile.as_ref().map_err(Clone::clone)?;
            let found = profile.as_ref().map_or(Ok(None), |profile| self.in_profile(profile, 0))?;
            let name = profile.as_ref().map_or("", |profile| &profile.name);
            return found
                .ok_or_else(|| CredentialsError::invalid(format!("profile {name} holds no credentials")));
        }
        if let Some(found) = self.in_environment()? {
            return Ok(found);
        }
        if let Some(found) = self.in_web_identity()? {
            return Ok(found);
        }
        if let Some(profile) = self.profile.as_ref().map_err(Clone::clone)?
            && let Some(found) = self.in_profile(profile, 0)?
        {
            return Ok(found);
        }
        let read = |name: &str| self.read(name);
        if let Some(container) = Container::find(&read)? {
            return Ok(Named::new(Source::Container(container), "container metadata"));
        }
        let none = if self.endpoint.is_scaleway() { NONE_SCALEWAY } else { NONE };
        match Instance::find(&read, self.endpoint.is_aws())? {
            Some(instance) => {
                let named = Named::new(Source::Instance(instance), instance::ORIGIN);
                Ok(Named { excuse: Some(none), ..named })
            }
            None => Err(CredentialsError::denied(none)),
        }
    }

    fn in_options(&self) -> Result<Option<Named>, CredentialsError> {
        let set = |value: Option<&str>| value.filter(|v| !v.is_empty()).map(str::to_owned);
        let found = pair(
            (set(self.given.access_key), "access_key"),
            (set(self.given.secret), "secret_access_key"),
            set(self.given.token),
            "options",
        )?;
        Ok(found.map(|found| Named::new(Source::Fixed(found), "options")))
    }

    fn in_environment(&self) -> Result<Option<Named>, CredentialsError> {
        let mut found = None;
        if self.endpoint.is_scaleway() {
            found = pair(
                (self.read("SCW_ACCESS_KEY"), "SCW_ACCESS_KEY"),
                (self.read("SCW_SECRET_KEY"), "SCW_SECRET_KEY"),
                None,
                "environment",
            )?;
        }
        if found.is_none() {
            found = pair(
                (self.read("AWS_ACCESS_KEY_ID"), "AWS_ACCESS_KEY_ID"),
                (self.read("AWS_SECRET_ACCESS_KEY"), "AWS_SECRET_ACCESS_KEY"),
                self.read("AWS_SESSION_TOKEN"),
                "environment",
            )?;
        }
        Ok(found.map(|found| Named::new(Source::Fixed(found), "environment")))
    }

    fn in_web_identity(&self) -> Result<Option<Named>, CredentialsError> {
        let (Some(token_file), Some(arn)) =
            (self.read("AWS_WEB_IDENTITY_TOKEN_FILE"), self.read("AWS_ROLE_ARN"))
        else {
            return match self.read("AWS_WEB_IDENTITY_TOKEN_FILE") {
                Some(_) => Err(CredentialsError::invalid(
                    "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not",
                )),
                None => Ok(None),
            };
        };
        let session_name = self.read("AWS_ROLE_SESSION_NAME");
        let role = Role { arn, session_name, external_id: None, duration: None };
        let profile = self.profile.as_ref().ok().and_then(Option::as_ref);
        let source = Source::WebIdentity { sts: self.sts(profile)?, role, token_file: token_file.into() };
        Ok(Some(Named::new(source, "web identity")))
    }

    /// Returns what a profile gives, if it says anything about credentials. A role comes before keys, as it may be
    /// assumed with the very keys beside it.
    fn in_profile(&self, profile: &Profile, depth: usize) -> Result<Option<Named>, CredentialsError> {
        let name = &profile.name;
        if let Some(arn) = profile.get("role_arn") {
            return self.role(profile, arn, depth).map(Some);
        }
        if profile.keys()?.is_some() {
            let source = Source::Keys { files: profile.files.clone(), profile: name.clone() };
            return Ok(Some(Named::new(source, format!("profile {name}"))));
        }
        if let Some(line) = profile.get("credential_process") {
            let process = Process::parse(line, name)?;
            let origin = process.origin().to_owned();
            return Ok(Some(Named::new(Source::Process(process), origin)));
        }
        match profile.unsupported() {
            Some(key) => Err(CredentialsError::invalid(format!(
                "{key} of profile {name} is not supported: \
                 let credential_process = aws configure export-credentials --profile {name} --format process \
                 stand in another profile"
            ))),
            None => Ok(None),
        }
    }

    fn role(&self, profile: &Profile, arn: &str, depth: usize) -> Result<Named, CredentialsError> {
        let name = &profile.name;
        let invalid = |what: String| CredentialsError::invalid(format!("profile {name}: {what}"));
        if profile.get("mfa_serial").is_some() {
            return Err(invalid("mfa_serial is not supported: nobody is asked for a code".into()));
        }
        let text = |key: &str| profile.get(key).map(str::to_owned);
        let role = Role {
            arn: arn.to_owned(),
            session_name: text("role_session_name"),
            external_id: text("external_id"),
            duration: text("duration_seconds"),
        };
        let origin = format!("role of profile {name}");
        if let Some(token_file) = text("web_identity_token_file") {
            let source =
                Source::WebIdentity { sts: self.sts(Some(profile))?, role, token_file: token_file.into() };
            return Ok(Named::new(source, origin));
        }
        let read = |name: &str| self.read(name);
        let base = match (profile.get("source_profile"), profile.get("credential_source")) {
            (Some(_), Some(_)) => {
                return Err(invalid("source_profile and credential_source are both set".into()));
            }
            (Some(own), None) if own == name => {
                profile
                    .keys()?
                    .ok_or_else(|| invalid("source_profile is itself, and it holds no keys".into()))?;
                let keys = Source::Keys { files: profile.files.clone(), profile: name.clone() };
                Named::new(keys, format!("profile {name}"))
            }
            (Some(_), None) if depth >= MAX_DEPTH => {
                return Err(invalid("its source_profile leads nowhere".into()));
            }
            (Some(other), None) => {
                let found = self.in_profile(&profile.other(other)?, depth + 1)?;
                found.ok_or_else(|| invalid(format!("source_profile {other} holds no credentials")))?
            }
            (None, Some("Environment")) => self
                .in_environment()?
                .ok_or_else(|| invalid("credential_source is Environment, where no keys are set".into()))?,
            (None, Some("EcsContainer")) => Container::find(&read)?
                .map(|container| Named::new(Source::Container(container), "container metadata"))
                .ok_or_else(|| invalid("credential_source is EcsContainer, and this is none".into()))?,
            (None, Some("Ec2InstanceMetadata")) => Instance::find(&read, true)?
                .map(|instance| Named::new(Source::Instance(instance), instance::ORIGIN))
                .ok_or_else(|| {
                    invalid("credential_source is Ec2InstanceMetadata, which is disabled".into())
                })?,
            (None, Some(other)) => {
                return Err(invalid(format!("credential_source {other} is not supported")));
            }
            (None, None) => {
                return Err(invalid(
                    "role_arn needs source_profile, credential_source or web_identity_token_file".into(),
                ));
            }
        };
        let source = Source::AssumeRole { sts: self.sts(Some(profile))?, role, base: Box::new(base) };
        Ok(Named::new(source, origin))
    }

    /// Returns the way to the token service.
    fn sts(&self, profile: Option<&Profile>) -> Result<Sts, CredentialsError> {
        let ignored = self
            .read("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let region = self
            .read("AWS_REGION")
            .or_else(|| self.read("AWS_DEFAULT_REGION"))
            .or_else(|| profile.and_then(|profile| profile.get("region")).map(str::to_owned))
            .or_else(|| self.endpoint.is_aws().then(|| self.region.to_owned()))
            .filter(|region| is_region(region))
            .unwrap_or_else(|| "us-east-1".into());
        let configured = self
            .read("AWS_ENDPOINT_URL_STS")
            .or_else(|| self.read("AWS_ENDPOINT_URL"))
            .or_else(|| profile.and_then(|profile| profile.endpoint("sts")).map(str::to_owned))
            .filter(|_| !ignored);
        let url = Sts::url(configured.as_deref(), &region)?;
        let endpoint = Sts::endpoint(&url);
        let is_aws = endpoint.as_ref().is_some_and(Endpoint::is_aws);
        Ok(Sts {
            proxy: endpoint.and_then(|e| proxy_for(url.scheme() == "https", &e, &|name| self.read(name))),
            // A token service beside a server with a certificate of its own has one from the same hand.
            ca_file: self.own_ca_file.clone().filter(|_| !is_aws).or_else(|| self.ca_file.clone()),
            region,
            url,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Files;
    use super::*;

    const AWS: [(&str, &str); 3] =
        [("AWS_ACCESS_KEY_ID", "aws"), ("AWS_SECRET_ACCESS_KEY", "as"), ("AWS_SESSION_TOKEN", "at")];
    const BOTH: [(&str, &str); 4] = [("SCW_ACCESS_KEY", "scw"), ("SCW_SECRET_KEY", "ss"), AWS[0], AWS[1]];
    const WEB: [(&str, &str); 2] = [("AWS_ROLE_ARN", "arn"), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")];
    const CONTAINER: [(&str, &str); 1] = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x")];

    /// Writes a config file and returns the origin of what is chosen.
    fn origin(
        host: &str,
        given: Given<'_>,
        named: Option<&str>,
        config: &str,
        env: &[&[(&str, &str)]],
    ) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        std::fs::write(&file, config).unwrap();
        let file = file.to_str().unwrap().to_owned();
        let environment = |name: &str| {
            let set = env.concat();
            let found = set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            found.or_else(|| (name == "AWS_CONFIG_FILE").then(|| file.clone()))
        };
        let files = Files::find(&environment);
        let name = named.map(str::to_owned).or_else(|| environment("AWS_PROFILE"));
        let around = Surroundings {
            endpoint: &Endpoint::parse(host).unwrap(),
            region: "us-east-1",
            profile: Profile::load(files, name),
            given: Given { profile: named.is_some(), ..given },
            ca_file: None,
            own_ca_file: None,
            environment: &environment,
        };
        choose(around).map(|provider| provider.origin().to_owned()).map_err(|error| error.to_string())
    }

    const CONFIG: &str = "[default]\nregion=eu-west-3\n[profile keys]\naws_access_key_id=a\naws_secret_access_key=b\n\
        [profile tool]\ncredential_process = /bin/tool x\n[profile role]\nrole_arn=arn\nsource_profile=keys\n\
        [profile self]\nrole_arn=arn\nsource_profile=self\naws_access_key_id=a\naws_secret_access_key=b\n\
        [profile env]\nrole_arn=arn\ncredential_source=Environment\n\
        [profile web]\nrole_arn=arn\nweb_identity_token_file=/t\n\
        [profile loop]\nrole_arn=arn\nsource_profile=pool\n[profile pool]\nrole_arn=arn\nsource_profile=loop\n\
        [profile bare]\nrole_arn=arn\n[profile mfa]\nrole_arn=arn\nsource_profile=keys\nmfa_serial=m\n\
        [profile sso]\nsso_session=x\nsso_account_id=1\n[profile lost]\nrole_arn=arn\nsource_profile=gone\n\
        [profile odd]\nrole_arn=arn\ncredential_source=Moon\n";

    #[test]
    fn the_first_source_that_is_set_wins() {
        let aws = "s3.eu-west-3.amazonaws.com";
        let keys = || Given { access_key: Some("k"), secret: Some("s"), ..Given::default() };
        let profile: &[(&str, &str)] = &[("AWS_PROFILE", "keys")];
        let off: &[(&str, &str)] = &[("AWS_EC2_METADATA_DISABLED", "true")];
        let none = Given::default;
        let all: &[&[(&str, &str)]] = &[&AWS, &WEB, profile, &CONTAINER];
        assert_eq!(origin(aws, keys(), Some("keys"), CONFIG, all).unwrap(), "options");
        assert_eq!(origin(aws, none(), Some("keys"), CONFIG, all).unwrap(), "profile keys");
        assert_eq!(origin(aws, none(), None, CONFIG, all).unwrap(), "environment");
        assert_eq!(origin(aws, none(), None, CONFIG, &all[1..]).unwrap(), "web identity");
        assert_eq!(origin(aws, none(), None, CONFIG, &all[2..]).unwrap(), "profile keys");
        assert_eq!(origin(aws, none(), None, CONFIG, &all[3..]).unwrap(), "container metadata");
        assert_eq!(origin(aws, none(), None, CONFIG, &[]).unwrap(), "instance metadata");
        assert!(origin(aws, none(), None, CONFIG, &[off]).unwrap_err().contains("AWS_ACCESS_KEY_ID"));
        assert!(origin("h", none(), None, CONFIG, &[]).unwrap_err().contains("there are no credentials"));
        assert!(origin("s3.fr-par.scw.cloud", none(), None, "", &[]).unwrap_err().contains("SCW_ACCESS_KEY"));
        let empty: &[(&str, &str)] = &[("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", "")];
        assert_eq!(origin(aws, none(), None, CONFIG, &[empty, &WEB]).unwrap(), "web identity");
    }

    #[test]
    fn scaleway_variables_serve_scaleway_hosts_only() {
        let found = |host: &str| {
            let endpoint = Endpoint::parse(host).unwrap();
            let environment =
                |name: &str| BOTH.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            let around = Surroundings {
                given: Given::default(),
                endpoint: &endpoint,
                region: "r",
                profile: Ok(None),
                ca_file: None,
                own_ca_file: None,
                environment: &environment,
            };
            choose(around).unwrap().current(&crate::base::Cancel::new()).unwrap().access_key.clone()
        };
        assert_eq!((found("s3.fr-par.scw.cloud"), found("s3.example.net")), ("scw".into(), "aws".into()));
    }

    #[test]
    fn halves_are_refused_by_name() {
        let half = Given { access_key: Some("k"), secret: Some(""), ..Given::default() };
        assert!(origin("h", half, None, "", &[&AWS]).unwrap_err().contains("secret_access_key is not"));
        let told = origin("h", Given::default(), None, "", &[&AWS[1..]]).unwrap_err();
        assert!(told.contains("AWS_ACCESS_KEY_ID is not"));
        let told = origin("h", Given::default(), None, "", &[&WEB[1..]]).unwrap_err();
        assert!(told.contains("AWS_ROLE_ARN is not"));
    }

    #[test]
    fn profiles_say_what_they_give_or_why_not() {
        let named = |name: &str| origin("h", Given::default(), Some(name), CONFIG, &[&AWS]);
        let cases = [
            ("keys", "profile keys"),
            ("tool", "credential_process of profile tool"),
            ("role", "role of profile role"),
            ("self", "role of profile self"),
            ("env", "role of profile env"),
            ("web", "role of profile web"),
        ];
        for (name, expected) in cases {
            assert_eq!(named(name).unwrap(), expected);
        }
        let refusals = [
            ("default", "profile default holds no credentials"),
            ("loop", "leads nowhere"),
            ("bare", "role_arn needs source_profile"),
            ("mfa", "mfa_serial is not supported"),
            ("sso", "sso_account_id of profile sso is not supported"),
            ("lost", "no profile gone"),
            ("odd", "credential_source Moon is not supported"),
            ("gone", "no profile gone"),
        ];
        for (name, expected) in refusals {
            let told = named(name).unwrap_err();
            assert!(told.contains(expected), "{name}: {told}");
        }
    }
}
