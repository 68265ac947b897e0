//! Completions for fish, which knows flags of one dash as "old options".

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::facts::{Facts, Flag};

const HEAD: &str = r#"# fish completion for plakar, made by 'plakar completions fish'.
# For good: plakar completions fish > ~/.config/fish/completions/plakar.fish

# Prints the command, how many arguments it has, and the flag (or at) whose value is next.
function __plakar_state
    set -l words (commandline -opc)
    set -l command ''
    set -l place 0
    set -l pending ''
    for word in $words[2..-1]
        if test -n "$pending"
            set pending ''
        else if contains -- $word VALUED
            set pending $word
        else if string match -q -- '-*' $word
            continue
        else if test -z "$command" -a "$word" = at
            set pending at
        else if test -z "$command"
            set command $word
        else
            set place (math $place + 1)
        end
    end
    printf '%s\n' "$command" "$place" "$pending"
end

function __plakar_is
    set -l state (__plakar_state)
    contains -- "$state[1]" $argv
end

function __plakar_first
    set -l state (__plakar_state)
    test "$state[2]" = 0 -a -z "$state[3]"; and contains -- "$state[1]" $argv
end

"#;

/// Returns the script.
pub(in super::super) fn script() -> String {
    let facts = Facts::gather();
    let mut out = HEAD.replace("VALUED", &valued(&facts).join(" "));
    for flag in &facts.globals {
        complete(&mut out, "", flag);
    }
    out.push_str("complete -c plakar -f -n '__plakar_first \"\"' -a at -d 'name the store'\n");
    for verb in &facts.verbs {
        for name in &verb.names {
            let about = quoted(&verb.about);
            line(
                &mut out,
                format_args!("complete -c plakar -f -n '__plakar_first \"\"' -a {name} -d {about}"),
            );
        }
        let names = verb.names.join(" ");
        if !verb.words.is_empty() {
            let words = quoted(&verb.words.join(" "));
            line(&mut out, format_args!("complete -c plakar -f -n '__plakar_first {names}' -a {words}"));
        }
        for flag in &verb.flags {
            complete(&mut out, &format!(" -n '__plakar_is {names}'"), flag);
        }
    }
    out
}

/// Returns the spellings of flags that take a value, whatever the command.
fn valued(facts: &Facts) -> Vec<String> {
    let all = || facts.globals.iter().chain(facts.verbs.iter().flat_map(|verb| &verb.flags));
    let switches: BTreeSet<&str> =
        all().filter(|flag| !flag.takes_value).map(|flag| flag.name.as_str()).collect();
    let valued: BTreeSet<String> =
        all().filter(|flag| !switches.contains(flag.name.as_str())).flat_map(Flag::spellings).collect();
    valued.into_iter().collect()
}

fn complete(out: &mut String, condition: &str, flag: &Flag) {
    let name = &flag.name;
    let spelt = if flag.is_letter() { format!("-s {name}") } else { format!("-o {name} -l {name}") };
    let values = match (flag.takes_value, flag.values.is_empty()) {
        (false, _) => String::new(),
        (true, true) => " -r".to_owned(),
        (true, false) => format!(" -x -a {}", quoted(&flag.values.join(" "))),
    };
    let help = quoted(&flag.help);
    line(out, format_args!("complete -c plakar{condition} {spelt}{values} -d {help}"));
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a string takes everything");
}
