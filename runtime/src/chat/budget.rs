//! What one rendering may cost, and the error of a template.
//!
//! A template comes with a file that a stranger made, and Jinja has loops, recursion and `'x' * 10**9`. So all that
//! takes time or room is paid for *before* it is done, from three accounts: steps, bytes and depth. Bytes are
//! counted when they are asked for and never given back, which bounds the output, every intermediate value and
//! all of them together.

use std::cell::Cell;
use std::fmt;

use crate::escape::one_line;

/// Steps of one rendering: an expression or statement each, an item of a list that is looked at, 64 bytes of a text
/// that is read, 32 of one that is searched, or 8 of one whose characters are looked at. Real templates take some
/// thousands; the rest is for long conversations.
const STEPS: u64 = 3_000_000;

/// Bytes that one rendering may ask for, whatever the conversation.
const BYTES: u64 = 48 << 20;

/// More bytes, for each byte of the conversation. A template that appends message by message to one string copies
/// each byte as often as messages follow it.
const BYTES_PER_BYTE: u64 = 256;

/// Bytes that a rendered conversation may have, whatever it is: the text that real templates add is a tenth of it.
const OUTPUT: usize = 512 << 10;

/// More of them, for each byte of the conversation.
const OUTPUT_PER_BYTE: usize = 64;

/// Levels of expressions, blocks and calls inside each other. A level takes less than 2 KiB of stack, so that a
/// thread of 2 MiB is enough.
const DEPTH: usize = 500;

/// Levels of lists and dictionaries inside each other: dropping, printing and comparing them is recursive.
pub(super) const NESTING: usize = 150;

/// The longest message that a template's own error may have, in characters.
const MESSAGE: usize = 500;

/// Why a template can't be rendered, and where.
#[derive(Debug)]
pub struct TemplateError(Box<Problem>);

#[derive(Debug)]
struct Problem {
    line: Option<u32>,
    message: String,
}

pub(super) type Result<T> = std::result::Result<T, TemplateError>;

impl TemplateError {
    /// `message` is made one line.
    pub(super) fn new(message: impl fmt::Display) -> Self {
        let message = one_line(&message.to_string(), MESSAGE);
        Self(Box::new(Problem { line: None, message }))
    }

    /// The same error, in `line` of the template where no inner part said where it is.
    pub(super) fn at(mut self, line: u32) -> Self {
        self.0.line.get_or_insert(line);
        self
    }

    /// The line of the template, counted from 1.
    pub fn line(&self) -> Option<u32> {
        self.0.line
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.0.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for TemplateError {}

/// An error, by `format!`'s arguments.
macro_rules! fault {
    ($($part:tt)*) => {
        $crate::chat::budget::TemplateError::new(format_args!($($part)*))
    };
}
pub(super) use fault;

/// The accounts of one rendering.
#[derive(Debug)]
pub(super) struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    bytes_at_first: u64,
    output: usize,
    depth: Cell<usize>,
}

impl Budget {
    /// The budget for a conversation of `input` bytes.
    pub fn new(input: usize) -> Self {
        let bytes = BYTES.saturating_add(BYTES_PER_BYTE.saturating_mul(input as u64));
        let steps = STEPS.saturating_add(input as u64);
        Self {
            steps: Cell::new(steps),
            bytes: Cell::new(bytes),
            bytes_at_first: bytes,
            output: OUTPUT.saturating_add(OUTPUT_PER_BYTE.saturating_mul(input)),
            depth: Cell::new(0),
        }
    }

    /// The most bytes that the rendered conversation may have.
    pub fn output(&self) -> usize {
        self.output
    }

    /// Pays for `count` steps.
    pub fn steps(&self, count: usize) -> Result<()> {
        match self.steps.get().checked_sub(count as u64) {
            Some(left) => {
                self.steps.set(left);
                Ok(())
            }
            None => Err(fault!("the template takes too many steps; it repeats too much for a chat template")),
        }
    }

    /// Pays for looking through `bytes` of text.
    pub fn scan(&self, bytes: usize) -> Result<()> {
        self.steps(bytes / 64 + 1)
    }

    /// Pays for searching `part` bytes of text in `text` bytes of it: the part is looked at, too, before the search.
    pub fn search(&self, text: usize, part: usize) -> Result<()> {
        self.steps(text.saturating_add(part) / 32 + 1)
    }

    /// Pays for doing something with each character of `bytes` of text.
    pub fn walk(&self, bytes: usize) -> Result<()> {
        self.steps(bytes / 8 + 1)
    }

    /// Pays for `count` bytes of memory.
    pub fn bytes(&self, count: usize) -> Result<()> {
        match self.bytes.get().checked_sub(count as u64) {
            Some(left) => {
                self.bytes.set(left);
                Ok(())
            }
            None => {
                let limit = self.bytes_at_first >> 20;
                Err(fault!("the template makes more than {limit} MiB of text and values; that is too much"))
            }
        }
    }

    /// Fails where `count` bytes could not be paid for, each `times` times.
    pub fn check(&self, count: usize, times: usize) -> Result<()> {
        let left = self.bytes.get();
        self.product(count, times)?;
        self.bytes.set(left);
        Ok(())
    }

    /// Pays for `count` bytes, each of which is made `times` times.
    pub fn product(&self, count: usize, times: usize) -> Result<()> {
        self.bytes(count.saturating_mul(times))
    }

    /// One level down; the level ends with what is returned.
    pub fn enter(&self) -> Result<Level<'_>> {
        self.enter_levels(1)
    }

    /// As many levels down, for what takes more stack.
    pub fn enter_levels(&self, levels: usize) -> Result<Level<'_>> {
        let depth = self.depth.get() + levels;
        if depth > DEPTH {
            return Err(fault!("the template calls itself or nests too deeply"));
        }
        self.depth.set(depth);
        Ok(Level { depth: &self.depth, levels })
    }
}

/// One level of depth, or some.
pub(super) struct Level<'b> {
    depth: &'b Cell<usize>,
    levels: usize,
}

impl Drop for Level<'_> {
    fn drop(&mut self) {
        self.depth.set(self.depth.get() - self.levels);
    }
}
