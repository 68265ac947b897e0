//! Who may do what with an object: its access control list.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use rusty_s3::Method;

use super::failure::{Failure, Result};
use super::object::root;
use super::send::{Client, Payload, Request};
use super::xml::{Element, escape};
use crate::connector::ErrorKind;

/// Whom a grant is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) enum Grantee {
    /// An account, by its canonical id.
    Id(String),
    /// A group, by its URI.
    Group(String),
    /// An account, by its address.
    Email(String),
}

/// An access control list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(in super::super) struct Acl {
    /// The owner's canonical id.
    pub(in super::super) owner: String,
    /// Each grantee with a permission (`READ`, `FULL_CONTROL`), in the server's order.
    pub(in super::super) grants: Vec<(Grantee, String)>,
}

impl Acl {
    /// Returns the list as a query string: `owner=ID&FULL_CONTROL=id:ID&READ=uri:URI`.
    pub(in super::super) fn to_text(&self) -> String {
        let mut out = url::form_urlencoded::Serializer::new(String::new());
        out.append_pair("owner", &self.owner);
        for (grantee, permission) in &self.grants {
            let grantee = match grantee {
                Grantee::Id(id) => format!("id:{id}"),
                Grantee::Group(uri) => format!("uri:{uri}"),
                Grantee::Email(address) => format!("email:{address}"),
            };
            out.append_pair(permission, &grantee);
        }
        out.finish().replace('+', "%20")
    }

    /// Reads what [`to_text`](Self::to_text) wrote; `None` where it makes no sense.
    pub(in super::super) fn from_text(text: &[u8]) -> Option<Self> {
        let mut out = Self::default();
        for (name, value) in url::form_urlencoded::parse(text) {
            if name == "owner" {
                out.owner = value.into_owned();
                continue;
            }
            if !name.bytes().all(|c| c.is_ascii_uppercase() || c == b'_') || name.is_empty() {
                return None;
            }
            let (kind, grantee) = value.split_once(':')?;
            let grantee = grantee.to_owned();
            let grantee = match kind {
                "id" => Grantee::Id(grantee),
                "uri" => Grantee::Group(grantee),
                "email" => Grantee::Email(grantee),
                _ => return None,
            };
            out.grants.push((grantee, name.into_owned()));
        }
        Some(out)
    }

    /// Returns the grants besides the one that every owner has.
    pub(in super::super) fn beyond_owner(&self) -> impl Iterator<Item = &(Grantee, String)> {
        self.grants.iter().filter(|(grantee, permission)| {
            !(permission == "FULL_CONTROL" && *grantee == Grantee::Id(self.owner.clone()))
        })
    }

    fn read(root: &Element) -> Self {
        let id = |element: &Element| element.text_of("ID").map(|id| id.trim().to_owned());
        let list = root.child("AccessControlList").map(|l| l.children.as_slice()).unwrap_or_default();
        let grant = |grant: &Element| {
            let grantee = grant.child("Grantee")?;
            let text = |name: &str| grantee.text_of(name).map(|text| text.trim().to_owned());
            let grantee = text("ID")
                .map(Grantee::Id)
                .or_else(|| text("URI").map(Grantee::Group))
                .or_else(|| text("EmailAddress").map(Grantee::Email))?;
            Some((grantee, grant.text_of("Permission")?.trim().to_owned()))
        };
        Self {
            owner: root.child("Owner").and_then(id).unwrap_or_default(),
            grants: list.iter().filter(|child| child.name == "Grant").filter_map(grant).collect(),
        }
    }

    /// Writes the list as XML; `None` where XML cannot hold it.
    fn to_xml(&self) -> Option<String> {
        let mut xml = format!(
            "<AccessControlPolicy xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>{}</ID></Owner>\
             <AccessControlList>",
            escape(&self.owner)?
        );
        for (grantee, permission) in &self.grants {
            let (kind, element, value) = match grantee {
                Grantee::Id(id) => ("CanonicalUser", "ID", id),
                Grantee::Group(uri) => ("Group", "URI", uri),
                Grantee::Email(address) => ("AmazonCustomerByEmail", "EmailAddress", address),
            };
            let (value, permission) = (escape(value)?, escape(permission)?);
            let _ = write!(
                xml,
                "<Grant><Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"{kind}\">\
                 <{element}>{value}</{element}></Grantee><Permission>{permission}</Permission></Grant>"
            );
        }
        xml.push_str("</AccessControlList></AccessControlPolicy>");
        Some(xml)
    }
}

impl Client {
    /// Reads the access control list of an object, of one version where it is named; needs `s3:GetObjectAcl`.
    pub(in super::super) fn acl(&self, key: &[u8], version: Option<&str>) -> Result<Acl> {
        let target = self.target(Some(key));
        let mut request = Request::new("read the ACL of", Method::Get, Some(key)).query("acl", "");
        if let Some(version) = version {
            request = request.query("versionId", version);
        }
        self.run(&request, Payload::None, &mut |response| {
            Ok(Acl::read(&root(response, "read the ACL of", &target, "AccessControlPolicy")?))
        })
    }

    /// Replaces the access control list of an object; needs `s3:PutObjectAcl`.
    pub(in super::super) fn set_acl(&self, key: &[u8], acl: &Acl) -> Result<()> {
        let Some(body) = acl.to_xml() else {
            let target = self.target(Some(key));
            return Err(Failure::new(
                ErrorKind::Unsupported,
                "set the ACL of",
                &target,
                "XML cannot hold it",
            ));
        };
        self.put_document("set the ACL of", key, "acl", &body)
    }

    /// Puts a small XML document as one aspect of an object.
    pub(super) fn put_document(
        &self,
        op: &'static str,
        key: &[u8],
        aspect: &'static str,
        body: &str,
    ) -> Result<()> {
        let request = Request::new(op, Method::Put, Some(key))
            .query(aspect, "")
            .header("content-md5", BASE64.encode(Md5::digest(body)))
            .header("content-type", "application/xml");
        self.run(&request, Payload::Bytes(body.as_bytes()), &mut |_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_round_trip_as_text_and_xml() {
        let acl = Acl {
            owner: "me&you".into(),
            grants: vec![
                (Grantee::Id("me&you".into()), "FULL_CONTROL".into()),
                (Grantee::Group("http://acs.amazonaws.com/groups/global/AllUsers".into()), "READ".into()),
                (Grantee::Email("a+b@example.net".into()), "WRITE_ACP".into()),
            ],
        };
        assert_eq!(Acl::from_text(acl.to_text().as_bytes()).unwrap(), acl);
        assert_eq!(acl.beyond_owner().count(), 2);
        let xml = acl.to_xml().unwrap();
        assert_eq!(Acl::read(&Element::parse(xml.as_bytes()).unwrap()), acl);
        assert!(Acl::from_text(b"owner=x&READ=what:ever").is_none());
        assert!(Acl::from_text(b"owner=x&R<EAD=id:x").is_none());
    }
}
