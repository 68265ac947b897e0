//! Completions for zsh.

use std::fmt::Write as _;

use super::facts::{Facts, Flag};

const HEAD: &str = r"#compdef plakar
# zsh completion for plakar, made by 'plakar completions zsh'.
# Put it as '_plakar' into a folder of $fpath.

_plakar() {
  local command='' word prev=${words[CURRENT-1]} value='' i place=0
  local -a flags verbs values
  for ((i = 2; i < CURRENT; i++)); do
    word=${words[i]}
    if [[ -z $command ]]; then
      case $word in
        at) ((i++)) ;;
";

const MIDDLE: &str = r"        -*) ;;
        *) command=$word ;;
      esac
    elif [[ $word != -* ]]; then
      ((place++))
    fi
  done
  if [[ $PREFIX == -*=* ]]; then
    prev=${PREFIX%%=*}
    compset -P '*='
  fi
  case $command in
";

const TAIL: &str = r#"  esac
  if [[ $prev == -* && $value == file ]]; then
    _files
  elif [[ $prev == -* && $value == list ]]; then
    compadd -a values
  elif [[ $prev == at && -z $command ]]; then
    _files
  elif [[ $PREFIX == --* ]]; then
    flags=(-${^flags})
    _describe -o flag flags
  elif [[ $PREFIX == -* ]]; then
    _describe -o flag flags
  elif (( $#verbs && place == 0 )); then
    _describe word verbs
  else
    _files
  fi
}
if [[ $funcstack[1] == _plakar ]]; then _plakar "$@"; else compdef _plakar plakar; fi
"#;

/// Returns the script.
pub(in super::super) fn script() -> String {
    let facts = Facts::gather();
    let mut out = String::from(HEAD);
    line(&mut out, format_args!("        {}) ((i++)) ;;", valued(facts.globals.iter())));
    out.push_str(MIDDLE);
    let named =
        facts.verbs.iter().flat_map(|verb| verb.names.iter().map(|name| described(name, &verb.about)));
    let mut verbs: Vec<String> = named.collect();
    verbs.push(described("at", "name the store"));
    block(&mut out, "''", facts.globals.iter(), &verbs);
    for verb in &facts.verbs {
        let words: Vec<String> = verb.words.iter().map(|word| quoted(word)).collect();
        block(&mut out, &verb.names.join("|"), facts.flags_of(verb), &words);
    }
    out.push_str(TAIL);
    out
}

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
    line(out, format_args!("      case $prev in"));
    for flag in flags.clone().filter(|flag| !flag.values.is_empty()) {
        let pattern = flag.spellings().join("|");
        line(out, format_args!("        {pattern}) value=list values=({}) ;;", flag.values.join(" ")));
    }
    let any = valued(flags.filter(|flag| flag.values.is_empty()));
    line(out, format_args!("        {any}) value=file ;;"));
    line(out, format_args!("      esac ;;"));
}

fn valued<'a>(flags: impl Iterator<Item = &'a Flag>) -> String {
    let spellings: Vec<String> = flags.filter(|flag| flag.takes_value).flat_map(Flag::spellings).collect();
    spellings.join("|")
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
