//! What can be wrong with a vocabulary.

use std::collections::TryReserveError;
use std::fmt::Display;
use std::path::PathBuf;

use crate::gguf::{self, Metadata};

/// A vocabulary that can't be used. Its text is one line: the file, the key, what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key is missing or has a value of the wrong type.
    #[error(transparent)]
    Metadata(#[from] gguf::Error),
    /// The value of a key contradicts another or asks for what is not built.
    #[error("{}: key `{key}` {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
}

impl Error {
    pub(super) fn invalid(metadata: &Metadata, key: &'static str, problem: impl Display) -> Self {
        Self::Invalid { path: metadata.path().into(), key, problem: problem.to_string() }
    }

    /// That there is no memory for what is made of the `count` values of `key`.
    pub(super) fn memory(
        metadata: &Metadata,
        key: &'static str,
        count: usize,
        problem: &TryReserveError,
    ) -> Self {
        Self::invalid(
            metadata,
            key,
            format_args!("has {count} values, and there is no memory for them: {problem}"),
        )
    }
}
