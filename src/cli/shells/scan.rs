//! What the completions of bash and zsh share, in the language that both read: which command a line is about, what can
//! follow, and which flag waits for its value.
//!
//! `_plakar_facts COMMAND FLAG` sets `flags` and `verbs` (both `name:description`), `valued` (the flags that take a
//! value) and `values` (those of FLAG). `_plakar_scan WORDS…` reads the words before the one that is typed and sets,
//! besides, `command`, `place` (how many of its arguments there are) and `pending` (the flag, or `at`, whose value is
//! next). Whoever calls them makes these variables local.

use std::fmt::Write as _;

use super::facts::{Facts, Flag};

const SCAN: &str = r#"_plakar_scan() {
  local word ended=''
  command='' pending='' place=0
  _plakar_facts '' ''
  for word in "$@"; do
    if [[ -n $pending ]]; then
      pending=''
    elif [[ -z $ended && $word == -- ]]; then
      ended=1
    elif [[ -z $ended && $word == -* ]]; then
      if [[ " $valued " == *" $word "* ]]; then pending=$word; fi
    elif [[ -z $command && $word == at ]]; then
      pending=at
    elif [[ -z $command ]]; then
      command=$word
      _plakar_facts "$command" ''
    else
      place=$((place + 1))
    fi
  done
  _plakar_facts "$command" "$pending"
}
"#;

/// Returns the two functions.
pub(super) fn functions() -> String {
    let facts = Facts::gather();
    let mut out = String::from("_plakar_facts() {\n  values=()\n  case $1 in\n");
    let named =
        facts.verbs.iter().flat_map(|verb| verb.names.iter().map(|name| described(name, &verb.about)));
    let mut verbs: Vec<String> = named.collect();
    verbs.push(described("at", "name the store"));
    block(&mut out, "''", facts.globals.iter(), &verbs);
    for verb in &facts.verbs {
        let words: Vec<String> = verb.words.iter().map(|word| quoted(word)).collect();
        block(&mut out, &verb.names.join("|"), facts.flags_of(verb), &words);
    }
    block(&mut out, "*", facts.globals.iter(), &[]);
    out.push_str("  esac\n}\n");
    out + SCAN
}

/// Writes what can follow one command.
fn block<'a>(
    out: &mut String,
    pattern: &str,
    flags: impl Iterator<Item = &'a Flag> + Clone,
    verbs: &[String],
) {
    line(out, format_args!("    {pattern})"));
    let listed: Vec<String> =
        flags.clone().map(|flag| described(&format!("-{}", flag.name), &flag.help)).collect();
    line(out, format_args!("      flags=({})", listed.join(" ")));
    line(out, format_args!("      verbs=({})", verbs.join(" ")));
    let valued: Vec<String> =
        flags.clone().filter(|flag| flag.takes_value).flat_map(Flag::spellings).collect();
    line(out, format_args!("      valued='{}'", valued.join(" ")));
    let listing: Vec<&Flag> = flags.filter(|flag| flag.takes_value && !flag.values.is_empty()).collect();
    if !listing.is_empty() {
        line(out, format_args!("      case $2 in"));
        for flag in listing {
            let pattern = flag.spellings().join("|");
            line(out, format_args!("        {pattern}) values=({}) ;;", flag.values.join(" ")));
        }
        line(out, format_args!("      esac"));
    }
    line(out, format_args!("      ;;"));
}

/// Spells `name:description` as one word, colons in the name being escaped.
fn described(name: &str, description: &str) -> String {
    quoted(&format!("{}:{description}", name.replace(':', "\\:")))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a string takes everything");
}
