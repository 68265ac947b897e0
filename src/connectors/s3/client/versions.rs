//! Versions: listing them with their delete markers, reading one.

use std::ops::ControlFlow;

use rusty_s3::Method;
use ureq::http::HeaderMap;

use super::failure::{Again, Failure, Result};
use super::list::{Circle, Listed, decode_key};
use super::object::{Download, download, root, unquote};
use super::send::{Client, Payload, Request};
use super::xml::Element;

/// A version in a listing, or the mark of a deletion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Version {
    /// What a plain listing would say of it; a delete marker has neither size nor ETag.
    pub(in super::super) object: Listed,
    /// The version's id; `null` for what was written while the bucket kept no versions.
    pub(in super::super) id: String,
    /// Whether it is what a request without a version id gets.
    pub(in super::super) is_latest: bool,
    /// Whether it says that the object was deleted.
    pub(in super::super) is_delete_marker: bool,
}

struct Page {
    versions: Vec<Version>,
    /// Whether there is more, and from which key and version on, as the server spells them.
    next: Option<(Option<String>, Option<String>)>,
    encoded: bool,
}

impl Client {
    /// Calls `each` for every version and delete marker whose key begins with `prefix`, keys in the server's order,
    /// the versions of one key newest first, until it breaks. `most` bounds a page. Memory holds one page.
    ///
    /// Fails with `Protocol` as [`list`](Self::list) does.
    pub(in super::super) fn list_versions(
        &self,
        prefix: &[u8],
        most: Option<u32>,
        each: &mut dyn FnMut(Version) -> ControlFlow<()>,
    ) -> Result<()> {
        let target = self.target(Some(prefix));
        let wrong = |what: &str| Failure::protocol("list the versions of", &target, what);
        let text = std::str::from_utf8(prefix).map_err(|_| wrong("the prefix is not UTF-8"))?;
        let mut last: Option<(Vec<u8>, String)> = None;
        let mut marker: Option<(String, String)> = None;
        let (mut ascending, mut circle) = (true, Circle::default());
        loop {
            let mut request = Request::new("list the versions of", Method::Get, None)
                .query("versions", "")
                .query("encoding-type", "url")
                .query("prefix", text);
            if let Some(most) = most {
                request = request.query("max-keys", most.to_string());
            }
            if let Some((key, id)) = &marker {
                request = request.query("key-marker", key.as_str());
                if !id.is_empty() {
                    request = request.query("version-id-marker", id.as_str());
                }
            }
            let page = self.run(&request, Payload::None, &mut |response| {
                let page = page(&root(response, "list the versions of", &target, "ListVersionsResult")?)
                    .map_err(|what| Failure::protocol("list the versions of", &target, what))?;
                let first = page.versions.first().map(|version| &version.object.key);
                if ascending && first.zip(last.as_ref()).is_some_and(|(first, (last, _))| first < last) {
                    // As in `list`: the next answer may be right.
                    let mut failure = wrong("the listing repeats itself");
                    failure.again = Again::Soon;
                    return Err(failure);
                }
                Ok(page)
            })?;
            for version in page.versions {
                let place = (version.object.key.clone(), version.id.clone());
                if !place.0.starts_with(prefix) {
                    return Err(wrong("the listing leaves the prefix"));
                }
                if last.as_ref() == Some(&place) {
                    return Err(wrong("the listing repeats itself"));
                }
                ascending &= last.as_ref().is_none_or(|(last, _)| *last <= place.0);
                last = Some(place);
                if each(version).is_break() {
                    return Ok(());
                }
            }
            let Some(told) = page.next else { return Ok(()) };
            let next = next_marker(told, last.as_ref(), page.encoded).map_err(|what| wrong(&what))?;
            if marker.as_ref() == Some(&next) || circle.closes(&next) {
                return Err(wrong("the listing repeats itself"));
            }
            marker = Some(next);
        }
    }

    /// Starts a GET of one version, as [`get`](Self::get) does of the latest.
    pub(in super::super) fn get_version(
        &self,
        key: &[u8],
        version: &str,
        range: Option<(u64, u64)>,
        if_match: Option<&str>,
    ) -> Result<Download> {
        let target = self.target(Some(key));
        let request = self.get_request(key, range, if_match).query("versionId", version);
        self.run(&request, Payload::None, &mut |response| download(response, range, &target))
    }

    /// Asks for the headers of one version, or of the latest.
    pub(in super::super) fn head_version(&self, key: &[u8], version: Option<&str>) -> Result<HeaderMap> {
        let request = Request::new("head", Method::Head, Some(key));
        let mut request = request.header("x-amz-checksum-mode", "ENABLED");
        if let Some(version) = version {
            request = request.query("versionId", version);
        }
        self.customer_key(&mut request.headers);
        self.run(&request, Payload::None, &mut |response| Ok(response.headers))
    }
}

/// Returns where the next page begins. Servers differ in whether they encode the key that they name, so what was
/// seen last decides how it is read.
fn next_marker(
    (key, id): (Option<String>, Option<String>),
    last: Option<&(Vec<u8>, String)>,
    encoded: bool,
) -> std::result::Result<(String, String), String> {
    let key = key.filter(|key| !key.is_empty());
    let known = last.and_then(|(key, id)| Some((std::str::from_utf8(key).ok()?, id.as_str())));
    match (key, known) {
        (Some(told), Some((known, _))) if told == known => Ok((told, id.unwrap_or_default())),
        (Some(told), _) => {
            let key = decode_key(&told, encoded)?;
            let key = String::from_utf8(key).map_err(|_| "the listing goes on at a key that is not UTF-8")?;
            Ok((key, id.unwrap_or_default()))
        }
        (None, Some((known, last_id))) => Ok((known.to_owned(), id.unwrap_or_else(|| last_id.to_owned()))),
        (None, None) => Err("the listing is truncated and tells no way on".into()),
    }
}

fn page(root: &Element) -> std::result::Result<Page, String> {
    let encoded = root.text_of("EncodingType").is_some_and(|kind| kind.eq_ignore_ascii_case("url"));
    let of_kind = |child: &&Element| matches!(child.name.as_str(), "Version" | "DeleteMarker");
    let versions = root.children.iter().filter(of_kind).map(|child| version(child, encoded));
    let versions = versions.collect::<std::result::Result<Vec<_>, _>>()?;
    let truncated = root.text_of("IsTruncated").is_some_and(|text| text.trim() == "true");
    let text = |name: &str| root.text_of(name).map(str::to_owned);
    let next = truncated.then(|| (text("NextKeyMarker"), text("NextVersionIdMarker")));
    Ok(Page { versions, next, encoded })
}

fn version(element: &Element, encoded: bool) -> std::result::Result<Version, String> {
    let text = |name: &str| element.text_of(name).unwrap_or_default().trim();
    let key = element.text_of("Key").ok_or("the listing holds a version without a key")?;
    let key = decode_key(key, encoded)?;
    if key.is_empty() {
        return Err("the listing holds an empty key".into());
    }
    let is_delete_marker = element.name == "DeleteMarker";
    let size = if is_delete_marker {
        0
    } else {
        text("Size").parse().map_err(|_| "the listing holds a version without a size")?
    };
    let id = match text("VersionId") {
        "" => "null",
        id => id,
    };
    Ok(Version {
        object: Listed {
            key,
            size,
            etag: unquote(text("ETag")).to_owned(),
            modified: text("LastModified").to_owned(),
            class: text("StorageClass").to_owned(),
        },
        id: id.to_owned(),
        is_latest: text("IsLatest") == "true",
        is_delete_marker,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_markers_keep_their_order() {
        let text = "<R><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>\
            <NextKeyMarker>a+b</NextKeyMarker><NextVersionIdMarker>2</NextVersionIdMarker>\
            <DeleteMarker><Key>a+b</Key><VersionId>3</VersionId><IsLatest>true</IsLatest></DeleteMarker>\
            <Version><Key>a+b</Key><VersionId>2</VersionId><IsLatest>false</IsLatest><Size>7</Size></Version></R>";
        let page = page(&Element::parse(text.as_bytes()).unwrap()).unwrap();
        let seen: Vec<_> =
            page.versions.iter().map(|v| (v.id.as_str(), v.is_latest, v.is_delete_marker)).collect();
        assert_eq!(seen, [("3", true, true), ("2", false, false)]);
        assert_eq!(page.versions[1].object.key, b"a b");
        let last = (b"a b".to_vec(), "2".to_owned());
        assert_eq!(next_marker(page.next.unwrap(), Some(&last), true).unwrap(), ("a b".into(), "2".into()));
    }

    #[test]
    fn markers_are_read_however_they_are_spelt() {
        let last = (b"a+b%".to_vec(), "9".to_owned());
        let next = |key: Option<&str>| {
            next_marker((key.map(str::to_owned), None), Some(&last), true)
                .map(|(key, id)| format!("{key} {id}"))
        };
        assert_eq!(next(Some("a+b%")).unwrap(), "a+b% ", "a server that does not encode it");
        assert_eq!(next(Some("a%2Bb%25")).unwrap(), "a+b% ");
        assert_eq!(next(None).unwrap(), "a+b% 9");
        assert!(next_marker((None, None), None, true).is_err());
    }
}
