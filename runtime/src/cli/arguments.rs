//! The process's arguments, made such that clap reads them as llama.cpp would.
//!
//! llama.cpp has flags of several letters behind a single dash, as `-ctk`; clap would take `-ngl 99` for `-n` with the
//! value `gl`. Here such a flag is one that the command has, as an alias, and gets the two dashes that clap wants, or it is
//! unknown. Right behind a flag of one letter may stand a number (`-n5`, `-n-1`, `-t1-4`), or any value behind an equals
//! sign (`-p=text`). Nothing is touched behind `--`, and where a value stands that may begin with a dash.

use std::ffi::OsString;

use clap::{Arg, Command};

/// `arguments` of `cli`, the program's name first.
///
/// # Errors
/// A flag of several letters that the command does not have.
pub fn read(cli: &Command, mut arguments: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let command = arguments.get(1).and_then(|name| cli.find_subcommand(name)).unwrap_or(cli);
    let mut is_value = false;
    for argument in arguments.iter_mut().skip(1).take_while(|argument| *argument != "--") {
        if std::mem::take(&mut is_value) {
            continue;
        }
        let Some(text) = argument.to_str() else { continue };
        if let Some(name) = text.strip_prefix("--") {
            is_value = by_name(command, name).is_some_and(takes_any_value);
            continue;
        }
        let Some(rest) = text.strip_prefix('-') else { continue };
        let name = rest.split_once('=').map_or(rest, |(name, _)| name);
        let mut letters = name.chars();
        let (Some(first), glued) = (letters.next(), letters.as_str()) else { continue };
        let short = command.get_arguments().find(|arg| arg.get_short() == Some(first));
        if glued.is_empty() {
            is_value = name.len() == rest.len() && short.is_some_and(takes_any_value);
        } else if by_name(command, name).is_some_and(|arg| arg.get_long() != Some(name)) {
            *argument = format!("--{rest}").into();
        } else if first.is_alphabetic() && !(short.is_some() && is_number(glued)) {
            return Err(unknown(command, text, by_name(command, name).and_then(Arg::get_long)));
        }
    }
    Ok(arguments)
}

/// What an unknown flag is called, with the one that may have been meant.
pub fn unknown(command: &Command, flag: &str, meant: Option<&str>) -> String {
    let name = flag.split_once('=').map_or(flag, |(name, _)| name);
    let what = if flag.starts_with('-') { "unknown flag" } else { "unexpected argument" };
    match meant {
        Some(meant) => format!("{what} {name}; did you mean --{}?", meant.trim_start_matches('-')),
        None => {
            let of =
                if command.has_subcommands() { String::new() } else { format!(" {}", command.get_name()) };
            format!("{what} {name}; `quantloom{of} --help` shows those that there are")
        }
    }
}

/// The flag with the long name `name`, or that alias.
fn by_name<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    let has_name = |arg: &&Arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    };
    command.get_arguments().find(has_name)
}

/// Whether whatever stands behind `flag` is its value, a dash first or not.
fn takes_any_value(flag: &Arg) -> bool {
    flag.is_allow_hyphen_values_set()
}

/// Whether `text` is a number, a range or a list of them.
fn is_number(text: &str) -> bool {
    text.contains(|char: char| char.is_ascii_digit())
        && text.chars().all(|char| char.is_ascii_digit() || ".,+-*".contains(char))
}
