//! Completions for bash.

use std::fmt::Write as _;

use super::facts::{Facts, Flag};

const HEAD: &str = r"# bash completion for plakar, made by 'plakar completions bash'.
# Once:     source <(plakar completions bash)
# For good: plakar completions bash > ~/.local/share/bash-completion/completions/plakar

_plakar() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
    local command='' flags='' words='' values='' word i place=0
    COMPREPLY=()
    # bash splits '-flag=value' in three.
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $prev == = && COMP_CWORD -gt 1 ]]; then
        prev=${COMP_WORDS[COMP_CWORD-2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ -z $command ]]; then
            case $word in
                at) ((i++)) ;;
";

const MIDDLE: &str = r"                -*) ;;
                *) command=$word ;;
            esac
        elif [[ $word != -* ]]; then
            ((place++))
        fi
    done
    case $command in
";

const TAIL: &str = r#"    esac
    if [[ $prev == -* && -n $values ]]; then
        [[ $values == FILE ]] && COMPREPLY=($(compgen -f -- "$cur")) || COMPREPLY=($(compgen -W "$values" -- "$cur"))
    elif [[ $prev == at && -z $command ]]; then
        COMPREPLY=($(compgen -f -- "$cur"))
    elif [[ $cur == --* ]]; then
        COMPREPLY=($(compgen -W "${flags// -/ --}" -- "$cur"))
    elif [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    elif [[ -n $words && $place -eq 0 ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    else
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}
complete -o filenames -F _plakar plakar
"#;

/// Returns the script.
pub(in super::super) fn script() -> String {
    let facts = Facts::gather();
    let mut out = String::from(HEAD);
    line(&mut out, format_args!("                {}) ((i++)) ;;", valued(facts.globals.iter())));
    out.push_str(MIDDLE);
    let mut names = facts.names();
    names.push("at");
    block(&mut out, "''", facts.globals.iter(), &names.join(" "));
    for verb in &facts.verbs {
        block(&mut out, &verb.names.join("|"), facts.flags_of(verb), &verb.words.join(" "));
    }
    out.push_str(TAIL);
    out
}

/// Writes what can follow one command.
fn block<'a>(out: &mut String, pattern: &str, flags: impl Iterator<Item = &'a Flag> + Clone, words: &str) {
    line(out, format_args!("        {pattern})"));
    // Each name follows a blank and a dash, so that a second dash can be put in.
    let mut listed = String::new();
    flags.clone().for_each(|flag| listed.extend([" -", flag.name.as_str()]));
    line(out, format_args!("            flags='{listed}'"));
    line(out, format_args!("            words='{words}'"));
    line(out, format_args!("            case $prev in"));
    for flag in flags.clone().filter(|flag| !flag.values.is_empty()) {
        let pattern = flag.spellings().join("|");
        line(out, format_args!("                {pattern}) values='{}' ;;", flag.values.join(" ")));
    }
    let any = valued(flags.filter(|flag| flag.values.is_empty()));
    line(out, format_args!("                {any}) values=FILE ;;"));
    line(out, format_args!("            esac ;;"));
}

/// Returns a pattern of all spellings of the flags that take a value.
fn valued<'a>(flags: impl Iterator<Item = &'a Flag>) -> String {
    let spellings: Vec<String> = flags.filter(|flag| flag.takes_value).flat_map(Flag::spellings).collect();
    spellings.join("|")
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a string takes everything");
}
