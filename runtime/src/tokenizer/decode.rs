//! Tokens back to text, whole characters at a time.

use super::Tokenizer;
use super::vocab::Kind;

/// What becomes of control tokens, such as `<|im_end|>`, in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialTokens {
    /// Their text is part of it.
    Render,
    /// They leave no trace.
    Skip,
}

/// Turns tokens into text as they come.
///
/// A token may end inside a character; its bytes are held back until the tokens after it complete it. The pieces
/// joined are the text of all tokens, with U+FFFD for what is not UTF-8.
#[derive(Debug)]
pub struct Decoder<'t> {
    tokenizer: &'t Tokenizer,
    special: SpecialTokens,
    /// Whether a space was put before each text between special tokens, to be left out again.
    strip_prefix: bool,
    /// Whether the next token begins such a text.
    after_special: bool,
    /// The beginning of a character, after [`push`](Self::push).
    pending: Vec<u8>,
    piece: String,
}

impl<'t> Decoder<'t> {
    /// Decodes from where [`Tokenizer::encode`] began.
    pub(super) fn from_start(tokenizer: &'t Tokenizer, special: SpecialTokens) -> Self {
        Self { strip_prefix: tokenizer.adds_space_prefix(), ..Self::continuing(tokenizer, special) }
    }

    /// Decodes what comes after tokens that are decoded already.
    pub(super) fn continuing(tokenizer: &'t Tokenizer, special: SpecialTokens) -> Self {
        Self {
            tokenizer,
            special,
            strip_prefix: false,
            after_special: true,
            pending: Vec::new(),
            piece: String::new(),
        }
    }

    /// The characters that the token `id` completes; none if it is not in the vocabulary.
    pub fn push(&mut self, id: u32) -> &str {
        self.piece.clear();
        let Some(token) = self.tokenizer.token(id) else { return &self.piece };
        let is_control = matches!(token.kind, Kind::Control | Kind::Unknown);
        let is_special = is_control || token.kind == Kind::UserDefined;
        if !is_control || self.special == SpecialTokens::Render {
            let strips = self.strip_prefix && self.after_special && !is_special;
            let bytes = token.bytes;
            self.pending.extend(bytes.strip_prefix(b" ").filter(|_| strips).unwrap_or(bytes));
        }
        self.after_special = is_special;
        self.take_characters();
        &self.piece
    }

    /// What stands for a character that no token has completed: U+FFFD, or nothing where there is none.
    pub fn finish(self) -> &'static str {
        if self.pending.is_empty() { "" } else { "\u{fffd}" }
    }

    /// Moves all but the beginning of a character from `pending` to `piece`.
    fn take_characters(&mut self) {
        let mut seen = 0;
        let mut kept = 0;
        for chunk in self.pending.utf8_chunks() {
            let invalid = chunk.invalid();
            seen += chunk.valid().len() + invalid.len();
            self.piece.push_str(chunk.valid());
            let is_beginning = str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if seen == self.pending.len() && is_beginning {
                kept = invalid.len();
            } else if !invalid.is_empty() {
                self.piece.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..seen - kept);
    }
}
