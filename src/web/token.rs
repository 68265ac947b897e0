//! The secret that clients show.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::message::Request;

/// The shortest token in characters. Whoever makes one up should take more.
const SHORTEST: usize = 8;
/// The longest token, in bytes.
const LONGEST: u64 = 4096;

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token from {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot stand in a header.
    #[error("a token is one line of visible ASCII characters without spaces")]
    Form,
    /// It is too short, or too long.
    #[error("a token has from {SHORTEST} to {LONGEST} characters")]
    Length,
}

/// What a client has to send as `Authorization: Bearer …`.
pub struct Token(Zeroizing<Vec<u8>>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    /// Takes a token; space around it, such as the end of a line, is not part of it.
    pub fn new(text: &[u8]) -> Result<Self, TokenError> {
        let text = text.trim_ascii();
        if !text.iter().all(u8::is_ascii_graphic) {
            return Err(TokenError::Form);
        }
        if text.len() < SHORTEST || text.len() as u64 > LONGEST {
            return Err(TokenError::Length);
        }
        Ok(Self(Zeroizing::new(text.to_vec())))
    }

    /// Reads a token from a file.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let mut text = Zeroizing::new(Vec::new());
        fs::File::open(path)
            .and_then(|file| file.take(LONGEST + 64).read_to_end(&mut text))
            .map_err(|source| TokenError::File { path: path.to_owned(), source })?;
        Self::new(&text)
    }

    /// Returns whether a request shows the token. How long that takes tells nothing but the length of what was shown.
    pub fn admits(&self, request: &Request) -> bool {
        let shown = request.header("authorization").and_then(|value| value.split_once(' '));
        shown.is_some_and(|(scheme, shown)| {
            scheme.eq_ignore_ascii_case("bearer") && bool::from(shown.trim().as_bytes().ct_eq(&self.0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(authorization: &[&str]) -> Request {
        Request {
            method: "GET".into(),
            path: "/".into(),
            query: String::new(),
            headers: authorization.iter().map(|v| ("authorization".into(), v.as_bytes().to_vec())).collect(),
            length: Some(0),
            peer: ([127, 0, 0, 1], 1).into(),
        }
    }

    #[test]
    fn only_the_token_itself_opens() {
        let token = Token::new(b" correct-horse \n").unwrap();
        for shown in ["Bearer correct-horse", "bearer  correct-horse "] {
            assert!(token.admits(&request(&[shown])), "{shown}");
        }
        for shown in [
            "",
            "correct-horse",
            "Basic correct-horse",
            "Bearer correct-hors",
            "Bearer correct-horsee",
            "Bearer",
        ] {
            assert!(!token.admits(&request(&[shown])), "{shown}");
        }
        assert!(!token.admits(&request(&[])));
        assert!(!token.admits(&request(&["Bearer correct-horse", "Bearer correct-horse"])));
        assert!(!format!("{token:?}").contains("horse"));
        assert!(matches!(Token::new(b"short"), Err(TokenError::Length)));
        assert!(matches!(Token::new(b"two words, long"), Err(TokenError::Form)));
        assert!(matches!(Token::new("schön-genug".as_bytes()), Err(TokenError::Form)));
    }
}
