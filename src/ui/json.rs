//! What `-json` prints. `plakar help json` shows the same.
#![doc = include_str!("json.md")]

use serde::Serialize;

/// The table of shapes, for people.
pub const SHAPES: &str = include_str!("json.md");

/// Something worth knowing that is no failure.
#[derive(Serialize, Debug)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message<'a> {
    /// How far a long operation is.
    Progress {
        /// What is being done.
        phase: &'a str,
        /// Files or folders done.
        files: u64,
        /// Objects (contents, blobs) done.
        objects: u64,
        /// Bytes done.
        bytes: u64,
        /// Bytes to do, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        total_bytes: Option<u64>,
        /// Files or items to do, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        total_items: Option<u64>,
        /// Whether the total is a guess; absent without one.
        #[serde(skip_serializing_if = "Option::is_none")]
        estimated: Option<bool>,
        /// Failures so far.
        errors: u64,
        /// Seconds since the start.
        elapsed: f64,
        /// Bytes a second, lately.
        #[serde(skip_serializing_if = "Option::is_none")]
        rate: Option<f64>,
        /// Seconds that the phase will still take at the recent speed.
        #[serde(skip_serializing_if = "Option::is_none")]
        remaining: Option<f64>,
    },
    /// A notice.
    Notice {
        /// What it says.
        message: &'a str,
    },
    /// A warning.
    Warning {
        /// What it says.
        message: &'a str,
    },
    /// A problem with one path.
    Problem {
        /// The path; absent where there is none.
        #[serde(skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// What happened.
        message: &'a str,
        /// `warning` or `error`.
        severity: &'a str,
    },
    /// A checkpoint was written.
    Checkpoint,
    /// A snapshot was committed.
    Committed {
        /// Its id.
        snapshot: &'a str,
    },
    /// A failure that ends the run.
    Error {
        /// What failed.
        message: &'a str,
        /// Why.
        causes: &'a [String],
        /// What to do.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<&'a str>,
        /// The exit code that follows.
        exit_code: u8,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_pinned() {
        let json = |message: Message<'_>| serde_json::to_string(&message).unwrap();
        assert_eq!(
            json(Message::Error { message: "m", causes: &["c".into()], hint: None, exit_code: 66 }),
            r#"{"type":"error","message":"m","causes":["c"],"exit_code":66}"#
        );
        assert_eq!(json(Message::Notice { message: "m" }), r#"{"type":"notice","message":"m"}"#);
        assert_eq!(
            json(Message::Progress {
                phase: "reading",
                files: 1,
                objects: 2,
                bytes: 3,
                total_bytes: Some(4),
                total_items: None,
                estimated: Some(false),
                errors: 0,
                elapsed: 0.5,
                rate: None,
                remaining: None
            }),
            r#"{"type":"progress","phase":"reading","files":1,"objects":2,"bytes":3,"total_bytes":4,"estimated":false,"errors":0,"elapsed":0.5}"#
        );
    }
}
