//! Completions for zsh.

use super::scan;

const HEAD: &str = r"#compdef plakar
# zsh completion for plakar, made by 'plakar completions zsh'.
# Put it as '_plakar' into a folder of $fpath.

";

const TAIL: &str = r#"
_plakar() {
  local command pending place valued
  local -a flags verbs values before
  before=("${(@)words[2,CURRENT-1]}")
  if [[ $PREFIX == -*=* ]]; then
    before+=("${PREFIX%%=*}")
    compset -P '*='
  fi
  _plakar_scan "${before[@]}"
  if [[ -n $pending ]]; then
    if (( $#values )); then compadd -a values; else _files; fi
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
    [HEAD, &scan::functions(), TAIL].concat()
}
