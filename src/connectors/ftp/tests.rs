//! The connector against servers that misbehave.
