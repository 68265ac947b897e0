//! Completions for bash.

use super::scan;

const HEAD: &str = r"# bash completion for plakar, made by 'plakar completions bash'.
# Once:     source <(plakar completions bash)
# For good: plakar completions bash > ~/.local/share/bash-completion/completions/plakar

";

const TAIL: &str = r#"
_plakar() {
  local cur=${COMP_WORDS[COMP_CWORD]} IFS=$'\n' command pending place valued word
  local -a flags=() verbs=() values=() offered=() before=()
  # bash splits '-flag=value' in three.
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == = ]] || before+=("$word")
  done
  [[ $cur == = ]] && cur=''
  _plakar_scan "${before[@]}"
  if [[ -n $pending ]]; then
    offered=("${values[@]}")
  elif [[ $cur == -* ]]; then
    offered=("${flags[@]%%:*}")
    [[ $cur == --* ]] && offered=("${offered[@]/#-/--}")
  elif [[ $place -eq 0 ]]; then
    offered=("${verbs[@]%%:*}")
  fi
  if [[ ${#offered[@]} -gt 0 ]]; then
    COMPREPLY=($(compgen -W "${offered[*]}" -- "$cur"))
  else
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
complete -o filenames -F _plakar plakar
"#;

/// Returns the script.
pub(in super::super) fn script() -> String {
    [HEAD, &scan::functions(), TAIL].concat()
}
