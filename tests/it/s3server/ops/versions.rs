//! Versions: `ListObjectVersions` and what a bucket's versioning is.

use std::fmt::Write as _;
use std::sync::Arc;

use super::super::Options;
use super::super::backend::{Backend, Object};
use super::super::wire::{Request, Response, elements, escape};
use super::Target;
use super::list::{key_text, time_text};

/// Lists every version of every key, keys ascending, the newest version first.
pub(super) fn list(options: &Options, request: &Request, target: &Target, backend: &Backend) -> Response {
    let prefix = request.param_bytes("prefix").unwrap_or_default();
    let (key_marker, id_marker) = (request.param_bytes("key-marker"), request.param("version-id-marker"));
    let wanted = request.param("max-keys").and_then(|n| n.parse().ok()).unwrap_or(1000);
    let size = options.page_size.min(wanted).min(1000);
    let url = options.url_encoding && request.param("encoding-type").as_deref() == Some("url");
    let mut passed = key_marker.is_none();
    let mut listed: Vec<(Vec<u8>, Arc<Object>, bool)> = Vec::new();
    let mut more = false;
    for (key, versions) in backend.versions(&target.bucket) {
        if !key.starts_with(&prefix) {
            continue;
        }
        for (at, version) in versions.into_iter().enumerate() {
            if !passed {
                let marker = key_marker.as_deref().unwrap_or_default();
                let here = key.as_slice() == marker;
                let is_marker = here && id_marker.as_deref() == Some(version.version.as_str());
                passed = is_marker;
                if is_marker || here || key.as_slice() < marker {
                    continue;
                }
                passed = true;
            }
            if listed.len() == size {
                more = true;
                break;
            }
            listed.push((key.clone(), version, at == 0));
        }
        if more {
            break;
        }
    }
    let mut out =
        format!("<ListVersionsResult><Name>{}</Name><IsTruncated>{more}</IsTruncated>", target.bucket);
    if url {
        out.push_str("<EncodingType>url</EncodingType>");
    }
    if let Some((key, version, _)) = listed.last().filter(|_| more) {
        let _ = write!(
            out,
            "<NextKeyMarker>{}</NextKeyMarker><NextVersionIdMarker>{}</NextVersionIdMarker>",
            key_text(key, url),
            escape(&version.version)
        );
    }
    for (key, version, latest) in &listed {
        entry(&mut out, &key_text(key, url), version, *latest);
    }
    Response::xml(&format!("{out}</ListVersionsResult>"))
}

fn entry(out: &mut String, key: &str, version: &Object, latest: bool) {
    let id = escape(&version.version);
    let time = time_text(version.modified);
    let common = format!(
        "<Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>{latest}</IsLatest><LastModified>{time}</LastModified>"
    );
    let _ = if version.delete_marker {
        write!(out, "<DeleteMarker>{common}</DeleteMarker>")
    } else {
        write!(
            out,
            "<Version>{common}<ETag>&quot;{}&quot;</ETag><Size>{}</Size><StorageClass>{}</StorageClass></Version>",
            version.etag,
            version.body.len(),
            version.class
        )
    };
}

/// Answers or sets whether a bucket keeps versions.
pub(super) fn versioning(request: &Request, target: &Target, backend: &mut Backend) -> Response {
    if request.method == "PUT" {
        let text = String::from_utf8_lossy(&request.body).into_owned();
        let status = elements(&text, "Status").first().map(|status| (*status).to_owned());
        return match status.as_deref() {
            Some("Enabled" | "Suspended") => {
                backend.set_versioning(&target.bucket, &status.unwrap_or_default());
                Response::new(200)
            }
            _ => Response::error(400, "MalformedXML", "The XML is not well-formed."),
        };
    }
    let status = backend.versioning(&target.bucket).map(|status| format!("<Status>{status}</Status>"));
    Response::xml(&format!(
        "<VersioningConfiguration>{}</VersioningConfiguration>",
        status.unwrap_or_default()
    ))
}
