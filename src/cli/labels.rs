//! The labels of a snapshot that is being made.

use super::query::split_tags;

/// The flags that label a snapshot, of `backup` and `dup`. Those of the query flags, which have the same names, say
/// which snapshots are meant.
#[derive(clap::Args, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct LabelArgs {
    /// Tag the snapshot; several at once with commas, or the flag again
    #[arg(long, value_name = "TAGS")]
    tag: Vec<String>,
    /// Name the snapshot
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Record a category
    #[arg(long, value_name = "CATEGORY")]
    pub(crate) category: Option<String>,
    /// Record an environment
    #[arg(long, value_name = "ENVIRONMENT")]
    pub(crate) environment: Option<String>,
    /// Record a perimeter
    #[arg(long, value_name = "PERIMETER")]
    pub(crate) perimeter: Option<String>,
    /// Record a job
    #[arg(long, value_name = "JOB")]
    pub(crate) job: Option<String>,
}

impl LabelArgs {
    /// Returns the tags, split at commas, each once; those of `more` after them.
    pub(crate) fn tags(&self, more: &[String]) -> Vec<String> {
        let mut tags: Vec<String> =
            split_tags(&self.tag).chain(split_tags(more)).map(str::to_owned).collect();
        let mut seen = std::collections::HashSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        tags
    }

    /// Returns whether tags were given, be they none.
    pub(crate) fn has_tags(&self) -> bool {
        !self.tag.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_split_and_named_once() {
        let labels = LabelArgs { tag: vec!["a, b".into(), "c,a,".into()], ..LabelArgs::default() };
        assert_eq!(labels.tags(&["d,b".into()]), ["a", "b", "c", "d"]);
        assert!(labels.has_tags() && LabelArgs::default().tags(&[]).is_empty());
    }
}
