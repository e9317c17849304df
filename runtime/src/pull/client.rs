//! How a registry's client is called: with the user's own environment, and without anything of the current folder, which
//! may be a stranger's.

use std::env;
use std::ffi::OsStr;
use std::path::{self, Path, PathBuf};
use std::process::Command;

/// Lists of folders where programs and modules are looked for. A relative or empty entry means the current folder, or one
/// in it.
const SEARCHED: [&str; 3] = ["PATH", "PYTHONPATH", "NODE_PATH"];

/// Settings that may name a file, which by a relative path is one of the folder where the user has named it.
const NAMED: [&str; 14] = [
    "PIP_CERT",
    "PIP_CLIENT_CERT",
    "PIP_CONFIG_FILE",
    "PIP_CONSTRAINT",
    "PIP_FIND_LINKS",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "NPM_CONFIG_CAFILE",
    "NPM_CONFIG_GLOBALCONFIG",
    "NPM_CONFIG_USERCONFIG",
    "npm_config_cafile",
    "npm_config_globalconfig",
    "npm_config_userconfig",
];

/// Where programs are where `PATH` is not set, as C libraries have it.
#[cfg(unix)]
const DEFAULT_PATH: &str = "/usr/bin:/bin";

/// The program and the arguments `words`, to be run in the folder `work`, an absolute path, with its temporary files there.
/// `None` where there is no such program.
pub fn command(words: &[&str], work: &Path) -> Option<Command> {
    let mut command = Command::new(find_program(words[0])?);
    command.args(&words[1..]).current_dir(work);
    // They are gone with the folder, and show how far the client is.
    command.envs(["TMPDIR", "TEMP", "TMP"].map(|variable| (variable, work)));
    for variable in SEARCHED {
        if let Some(list) = env::var_os(variable) {
            let list = env::join_paths(absolute_entries(&list)).expect("they were in a list before");
            command.env(variable, list);
        }
    }
    for variable in NAMED {
        let value = env::var_os(variable).map(PathBuf::from);
        // What there is not may be an address.
        if let Some(value) = value.filter(|value| value.is_relative() && value.exists())
            && let Ok(value) = path::absolute(value)
        {
            command.env(variable, value);
        }
    }
    Some(command)
}

/// The folders of a list, without those that depend on the current one.
fn absolute_entries(list: &OsStr) -> impl Iterator<Item = PathBuf> {
    env::split_paths(list).filter(|folder| folder.is_absolute())
}

/// The program called `name`.
#[cfg(unix)]
fn find_program(name: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|about| {
            about.is_file() && std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o111 != 0
        })
    };
    let list = env::var_os("PATH").unwrap_or(DEFAULT_PATH.into());
    absolute_entries(&list).map(|folder| folder.join(name)).find(is_program)
}

/// Found by the standard library, which knows about extensions and doesn't look into the current folder.
#[cfg(not(unix))]
fn find_program(name: &str) -> Option<PathBuf> {
    Some(name.into())
}
