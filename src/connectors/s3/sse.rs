//! Server-side encryption under a key of the customer's (SSE-C): three headers on every request for an object.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use zeroize::Zeroizing;

/// A customer key. `Debug` does not show it.
#[derive(Clone)]
pub(super) struct CustomerKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(..)")
    }
}

impl CustomerKey {
    /// Reads 32 bytes given as they are, in base 64, or as 64 hexadecimal digits.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let bytes = match text.len() {
            32 => Some(text.as_bytes().to_vec()),
            44 => BASE64.decode(text).ok(),
            64 => crate::base::Id::from_hex(text).map(|id| id.as_bytes().to_vec()),
            _ => None,
        };
        let bytes = Zeroizing::new(bytes.unwrap_or_default());
        match <[u8; 32]>::try_from(bytes.as_slice()) {
            Ok(key) => Ok(Self(Zeroizing::new(key))),
            Err(_) => {
                Err("sse_customer_key is 32 bytes: as they are, in base 64, or as 64 hexadecimal digits"
                    .into())
            }
        }
    }

    /// Returns the headers that go with every request for an object's content.
    pub(super) fn headers(&self) -> [(&'static str, String); 3] {
        [
            ("x-amz-server-side-encryption-customer-algorithm", "AES256".into()),
            ("x-amz-server-side-encryption-customer-key", BASE64.encode(self.0.as_slice())),
            ("x-amz-server-side-encryption-customer-key-md5", BASE64.encode(Md5::digest(self.0.as_slice()))),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_spellings_give_one_key() {
        let raw = "0123456789abcdef0123456789abcdef";
        let hex = crate::base::Id(raw.as_bytes().try_into().unwrap()).to_hex();
        let keys = [raw.to_owned(), BASE64.encode(raw), hex].map(|text| CustomerKey::parse(&text).unwrap());
        assert_eq!(keys[0].headers(), keys[1].headers());
        assert_eq!(keys[0].headers(), keys[2].headers());
        assert!(CustomerKey::parse("short").is_err());
        assert!(!format!("{:?}", keys[0]).contains("0123"));
    }
}
