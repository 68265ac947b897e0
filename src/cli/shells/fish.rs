//! Completions for fish, which knows flags of one dash as "old options".

use std::fmt::Write as _;

use super::facts::{Facts, Flag};

/// Returns the script.
pub(in super::super) fn script() -> String {
    let facts = Facts::gather();
    let valued: Vec<String> =
        facts.globals.iter().filter(|flag| flag.takes_value).flat_map(Flag::spellings).collect();
    let mut out = format!(
        "# fish completion for plakar, made by 'plakar completions fish'.\n\
         # For good: plakar completions fish > ~/.config/fish/completions/plakar.fish\n\n\
         function __plakar_command\n    \
             set -l words (commandline -opc)\n    \
             set -e words[1]\n    \
             set -l skip 0\n    \
             for word in $words\n        \
                 if test $skip = 1\n            \
                     set skip 0\n            \
                     continue\n        \
                 end\n        \
                 switch $word\n            \
                     case at {}\n                \
                         set skip 1\n            \
                     case '-*'\n            \
                     case '*'\n                \
                         echo $word\n                \
                         return 0\n        \
                 end\n    \
             end\n    \
             return 1\n\
         end\n\n\
         function __plakar_is\n    \
             contains -- (__plakar_command) $argv\n\
         end\n\n",
        valued.join(" ")
    );
    for flag in &facts.globals {
        complete(&mut out, "", flag);
    }
    out.push_str("complete -c plakar -f -n 'not __plakar_command' -a at -d 'name the store'\n");
    for verb in &facts.verbs {
        for name in &verb.names {
            let about = quoted(&verb.about);
            line(
                &mut out,
                format_args!("complete -c plakar -f -n 'not __plakar_command' -a {name} -d {about}"),
            );
        }
        let condition = format!(" -n '__plakar_is {}'", verb.names.join(" "));
        if !verb.words.is_empty() {
            let words = quoted(&verb.words.join(" "));
            line(&mut out, format_args!("complete -c plakar -f{condition} -a {words}"));
        }
        for flag in &verb.flags {
            complete(&mut out, &condition, flag);
        }
    }
    out
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
