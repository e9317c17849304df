//! Text that strangers wrote, made fit for a terminal or a line.
//!
//! A terminal obeys some characters instead of showing them: ESC and the C1 controls begin commands that move the
//! cursor, retitle the window or answer on standard input, and bidirectional controls change the order in which the
//! characters around them are read.

use std::fmt::{self, Display, Write};

/// Whether a terminal may obey `c` instead of showing it: C0 and C1 controls, DEL, and Unicode's bidirectional
/// controls and line separators.
pub(crate) fn is_command(c: char) -> bool {
    let is_bidirectional = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || is_bidirectional || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A text with the characters that a terminal may obey as Rust writes them: `\u{1b}` for ESC. Those that `keep` holds
/// stay.
pub(crate) struct Visible<'a> {
    pub text: &'a str,
    pub keep: &'a [char],
}

impl Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.chars().try_for_each(|c| {
            if is_command(c) && !self.keep.contains(&c) {
                write!(f, "{}", c.escape_default())
            } else {
                f.write_char(c)
            }
        })
    }
}

/// `text` with all characters escaped that a terminal may obey; cut after `max_chars` with an ellipsis.
pub(crate) fn one_line(text: &str, max_chars: usize) -> String {
    let (text, rest) = match text.char_indices().nth(max_chars) {
        Some((end, _)) => (&text[..end], "…"),
        None => (text, ""),
    };
    format!("{}{rest}", Visible { text, keep: &[] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_become_visible_and_text_stays() {
        let cases = [
            ("plain, ünïcode 漢字 🙂", "plain, ünïcode 漢字 🙂"),
            ("two\nlines\tand a tab", "two\nlines\tand a tab"),
            ("\u{1b}[31mred\u{1b}[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("C1: \u{9b}2J \u{90}", "C1: \\u{9b}2J \\u{90}"),
            (
                "back\u{8}space, return\r, DEL\u{7f}, NUL\0",
                "back\\u{8}space, return\\r, DEL\\u{7f}, NUL\\u{0}",
            ),
            ("\u{202e}gnp.exe\u{202c}", "\\u{202e}gnp.exe\\u{202c}"),
            ("\u{2066}a\u{2069}\u{200f}\u{61c}", "\\u{2066}a\\u{2069}\\u{200f}\\u{61c}"),
            ("line\u{2028}separator", "line\\u{2028}separator"),
            // Joiners shape letters and emoji, and move nothing.
            ("می\u{200c}خواهم 👩\u{200d}🔬", "می\u{200c}خواهم 👩\u{200d}🔬"),
        ];
        for (text, expected) in cases {
            assert_eq!(Visible { text, keep: &['\n', '\t'] }.to_string(), expected, "{text:?}");
        }
        assert_eq!(Visible { text: "a\nb\tc", keep: &[] }.to_string(), "a\\nb\\tc");
    }
}
