//! What both fuzz targets do with a vocabulary: as a user would, checking what is promised of any input.

use quantloom::chat::{ChatTemplate, Message};
use quantloom::gguf::Metadata;
use quantloom::tokenizer::{EncodeOptions, SpecialTokens, Tokenizer};

/// Makes a tokenizer and a chat template of `metadata` where that is possible, and takes the conversation and
/// then `text` through them. The tokens of `text`.
pub fn speak(metadata: &Metadata, conversation: &[Message], text: &str) -> Option<Vec<u32>> {
    let tokenizer = Tokenizer::from_metadata(metadata).map_err(check_error).ok()?;
    let template = ChatTemplate::from_metadata(metadata, &tokenizer).map_err(check_error).ok().flatten();
    if let Some(template) = template {
        match template.render(conversation) {
            Ok(prompt) if prompt.text().len() < 4096 => _ = round_trip(&tokenizer, prompt.text(), true),
            Ok(_) => {}
            Err(error) => check_error(error),
        }
    }
    round_trip(&tokenizer, text, true);
    Some(round_trip(&tokenizer, text, false))
}

fn round_trip(tokenizer: &Tokenizer, text: &str, parse_special: bool) -> Vec<u32> {
    let ids = tokenizer.encode(text, EncodeOptions { add_bos: true, add_eos: true, parse_special });
    for &id in &ids {
        assert!((id as usize) < tokenizer.vocab_size(), "token {id} of {text:?}");
        assert!(tokenizer.token_bytes(id).is_some());
        tokenizer.is_end_of_generation(id);
    }
    for special in [SpecialTokens::Skip, SpecialTokens::Render] {
        let whole = tokenizer.decode(&ids, special);
        let mut decoder = tokenizer.decoder(special);
        let mut parts: String = ids.iter().map(|&id| decoder.push(id).to_owned()).collect();
        parts += decoder.finish();
        assert!(is_without_prefixes(&whole, &parts), "{whole:?} of {parts:?}");
    }
    ids
}

/// Whether `whole` is `parts` without some of its spaces: a SentencePiece vocabulary puts one before each text
/// between special tokens, and a generation keeps them.
fn is_without_prefixes(whole: &str, parts: &str) -> bool {
    let mut kept = whole.chars().peekable();
    parts.chars().all(|c| kept.next_if_eq(&c).is_some() || c == ' ') && kept.next().is_none()
}

/// An error is one line for people.
pub fn check_error(error: impl std::error::Error) {
    let text = error.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
}
