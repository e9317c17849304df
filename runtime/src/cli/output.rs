//! Standard output and standard error: what becomes of text on a terminal, and where nobody reads it.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::str;
#[cfg(unix)]
use std::sync::atomic::{AtomicBool, Ordering};

use crate::escape::Visible;

/// Characters that a terminal may have as they are.
const KEPT: &[char] = &['\n', '\t'];

/// Standard output.
///
/// A terminal gets no characters that it would obey: what a model generates, and names in its file, are a stranger's.
/// A pipe or a file gets every byte as it is.
pub enum Output {
    /// It was closed when the process began.
    Closed,
    /// A terminal.
    Terminal(Terminal<io::Stdout>),
    /// A pipe, a file or a device.
    Bytes(io::Stdout),
}

impl Output {
    /// The process's. Locked by each write only, and written at the end of a line or by a flush, so that tokens are
    /// shown as they come.
    pub fn standard() -> Self {
        let out = io::stdout();
        if before_main::is_stdout_closed() {
            Self::Closed
        } else if out.is_terminal() {
            Self::Terminal(Terminal::new(out))
        } else {
            Self::Bytes(out)
        }
    }

    /// Prints clap's help or version, which knows no strangers, with its own styles.
    pub fn print(&mut self, text: &clap::Error) -> io::Result<()> {
        self.open()?;
        text.print()
    }

    /// Writes out what is left; without it an error at the very end would be lost.
    pub fn finish(&mut self) -> io::Result<()> {
        match self {
            // Nothing was written, or the command has failed already.
            Self::Closed => Ok(()),
            _ => self.flush(),
        }
    }

    /// Where writes go.
    ///
    /// # Errors
    /// It was closed: the standard library has put `/dev/null` in its place, in which all would be lost without a word.
    fn open(&mut self) -> io::Result<&mut dyn Write> {
        match self {
            Self::Closed => Err(io::Error::new(io::ErrorKind::BrokenPipe, Closed)),
            Self::Terminal(out) => Ok(out),
            Self::Bytes(out) => Ok(out),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.open()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.open()?.flush()
    }
}

/// Why nothing can be written to a standard output that is closed.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed, or open for reading alone")]
struct Closed;

/// Ends a command that could not write its output: with a line of error, or, where the reader of a pipe went away, as
/// a filter that SIGPIPE kills, without a word.
pub fn failed(error: &io::Error) -> ExitCode {
    let is_closed = error.get_ref().is_some_and(|inner| inner.is::<Closed>());
    if error.kind() == io::ErrorKind::BrokenPipe && !is_closed {
        end_by_broken_pipe();
    } else {
        report(&format!("can't write the output: {error}"));
    }
    ExitCode::FAILURE
}

/// Raises the signal that the standard library has the process ignore.
fn end_by_broken_pipe() {
    #[cfg(unix)]
    {
        // SAFETY: the default action is no function of this program.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        // SAFETY: raising a signal touches no memory.
        unsafe { libc::raise(libc::SIGPIPE) };
    }
}

/// Tells an error in one line, whatever is in its text.
pub fn report(problem: &str) {
    note(format_args!("error: {}", problem.replace(['\n', '\r'], " ")));
}

/// A line on standard error, where nothing is obeyed, and which no name is too long for. There is nowhere to tell that it
/// can't be written.
pub fn note(line: impl Display) {
    /// Characters; long lists of names have some thousands.
    const MAX_CHARS: usize = 16 << 10;
    let line = line.to_string();
    let (text, rest) = match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => (&line[..end], "…"),
        None => (&*line, ""),
    };
    // In one piece, as standard error has no buffer.
    let line = format!("{}{rest}\n", Visible { text, keep: KEPT });
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Ends the process with one line of error where there is no memory even for small things. It allocates nothing.
#[cfg(unix)]
pub fn end_without_memory() -> ! {
    end_with(&[b"there is no memory left: close other programs, or raise this process's limit"])
}

/// Ends the process with one line of error, whose text is `parts`, and status 1. A handler of signals may call it. Threads
/// that meet the same end at once tell it once.
#[cfg(unix)]
pub fn end_with(parts: &[&[u8]]) -> ! {
    static IS_ENDING: AtomicBool = AtomicBool::new(false);
    if !IS_ENDING.swap(true, Ordering::Relaxed) {
        let line = [b"error: ".as_slice()].into_iter().chain(parts.iter().copied()).chain([b"\n".as_slice()]);
        for part in line {
            // SAFETY: `part` is that many bytes. There is nowhere to tell that it can't be written.
            unsafe { libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len()) };
        }
        // SAFETY: it runs nothing of this process any more.
        unsafe { libc::_exit(1) }
    }
    loop {
        // SAFETY: it waits for a signal; the thread that came first ends this one as well.
        unsafe { libc::pause() };
    }
}

/// Ends the process in the same way where a thread finds no memory to begin with: the standard library panics there, before
/// anything of ours runs in it.
#[cfg(unix)]
pub fn end_threads_without_memory() {
    let other = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(|text| text.contains("allocate an alternative stack")) {
            end_without_memory();
        }
        other(panic);
    }));
}

/// Makes visible what a terminal would obey.
pub struct Terminal<W> {
    out: W,
    /// The beginning of a character whose end comes with the next write.
    begun: Vec<u8>,
}

impl<W: Write> Terminal<W> {
    fn new(out: W) -> Self {
        Self { out, begun: Vec::new() }
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        write!(self.out, "{}", Visible { text, keep: KEPT })
    }
}

impl<W: Write> Write for Terminal<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.begun);
        all.extend_from_slice(bytes);
        let mut rest = &all[..];
        loop {
            match str::from_utf8(rest) {
                Ok(text) => {
                    self.show(text)?;
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    self.show(str::from_utf8(valid).unwrap_or_default())?;
                    let Some(bad) = error.error_len() else {
                        self.begun = after.to_vec();
                        break;
                    };
                    // A byte alone may be a C1 control to a terminal that reads no UTF-8.
                    self.show("\u{fffd}")?;
                    rest = &after[bad..];
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// What only the process's very beginning tells: before `main` the standard library opens `/dev/null` in the place of
/// a standard stream that is closed.
mod before_main {
    use std::sync::atomic::{AtomicBool, Ordering};

    static STDOUT_IS_CLOSED: AtomicBool = AtomicBool::new(false);

    pub fn is_stdout_closed() -> bool {
        STDOUT_IS_CLOSED.load(Ordering::Relaxed)
    }

    /// A function that the loader calls before `main`. Miri, which calls it too, knows no flags of descriptors.
    #[cfg(all(unix, not(miri)))]
    #[used]
    // SAFETY: the section holds pointers to functions of this type, which may be called with more arguments than they
    // take. The function needs nothing of what `main` finds prepared.
    #[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
    #[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
    static LOOK: extern "C" fn() = {
        extern "C" fn look() {
            // SAFETY: asking for the flags of a descriptor changes nothing, whether it is open or not.
            let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) };
            // What is open for reading alone takes no output either, and the standard library would not tell.
            let is_closed = flags == -1 || flags & libc::O_ACCMODE == libc::O_RDONLY;
            STDOUT_IS_CLOSED.store(is_closed, Ordering::Relaxed);
        }
        look
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(writes: &[&[u8]]) -> String {
        let mut terminal = Terminal::new(Vec::new());
        for bytes in writes {
            assert_eq!(terminal.write(bytes).unwrap(), bytes.len());
        }
        String::from_utf8(terminal.out).unwrap()
    }

    #[test]
    fn a_terminal_gets_whole_characters_and_no_commands() {
        let cases: [(Vec<&[u8]>, &str); 7] = [
            (vec![b"text\n"], "text\n"),
            (vec![b"\x1b", b"[2J"], "\\u{1b}[2J"),
            ("漢".as_bytes().chunks(1).collect(), "漢"),
            ("\u{9b}31m".as_bytes().chunks(1).collect(), "\\u{9b}31m"),
            ("\u{202e}x".as_bytes().chunks(2).collect(), "\\u{202e}x"),
            (vec![b"a\x9b31mb"], "a\u{fffd}31mb"),
            (vec![b"\xe6\xbc", b"x"], "\u{fffd}x"),
        ];
        for (writes, expected) in cases {
            assert_eq!(shown(&writes), expected, "{writes:?}");
        }
    }
}
