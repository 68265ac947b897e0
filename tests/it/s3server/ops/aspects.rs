//! What belongs to an object besides content and headers: its ACL, its retention, its legal hold.

use super::super::backend::Backend;
use super::super::wire::{Request, Response, elements};
use super::Target;

/// The ACL of an object nobody gave one.
const OWNER_ONLY: &str = "<AccessControlPolicy><Owner><ID>owner-1</ID></Owner><AccessControlList><Grant>\
    <Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"><ID>owner-1</ID>\
    </Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>";

/// Answers or sets one aspect of an object: `acl`, `retention` or `legal-hold`.
pub(super) fn handle(request: &Request, target: &Target, backend: &mut Backend) -> Response {
    let id = request.param("versionId");
    let Some(found) = backend.version(&target.bucket, &target.key, id.as_deref()) else {
        return Response::error(404, "NoSuchKey", "The specified key does not exist.");
    };
    let text = String::from_utf8_lossy(&request.body).into_owned();
    let first = |name: &str| elements(&text, name).first().map(|text| (*text).to_owned());
    let absent = || Response::error(404, "NoSuchObjectLockConfiguration", "There is none on this object.");
    match target.op {
        "GetObjectAcl" => Response::xml(found.acl.as_deref().unwrap_or(OWNER_ONLY)),
        "GetObjectRetention" => match &found.retention {
            Some((mode, until)) => Response::xml(&format!(
                "<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>"
            )),
            None => absent(),
        },
        "GetObjectLegalHold" if found.hold => Response::xml("<LegalHold><Status>ON</Status></LegalHold>"),
        "GetObjectLegalHold" => absent(),
        _ => {
            let mut object = (*found).clone();
            match target.op {
                "PutObjectAcl" => {
                    if first("Owner")
                        .and_then(|owner| elements(&owner, "ID").first().map(|id| (*id).to_owned()))
                        != Some("owner-1".into())
                    {
                        return Response::error(403, "AccessDenied", "The owner is another one.");
                    }
                    object.acl = Some(text.clone());
                }
                "PutObjectRetention" => object.retention = first("Mode").zip(first("RetainUntilDate")),
                _ => object.hold = first("Status").as_deref() == Some("ON"),
            }
            backend.amend(&target.bucket, &target.key, object);
            Response::new(200)
        }
    }
}
