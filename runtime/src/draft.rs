//! Prompt lookup decoding: what a text repeats is guessed from the text itself, and costs less than a pass for each
//! token.
//!
//! Code that is edited, and text that is quoted or summed up, comes again in what a model says of it. Where the last
//! tokens have stood in the context before, those that followed them there are a *draft* of what comes next. One pass
//! over the newest token and the draft gives the logits after each of them, and reads the weights from memory once.
//! While the tokens that the caller chooses are the drafted ones, their logits are there already; the first other one
//! ends the draft.
//!
//! ```text
//! context   … if x > 0 : return x … if x >     the longest suffix seen before: `if x >`
//! pass                                   > 0 : return      the newest token and what followed it there
//! chosen                                   0 : yield       two of three came true: three tokens for one pass
//! ```
//!
//! Nothing is approximate: logits are bit for bit those of decoding without drafts, so that any way of choosing tokens
//! chooses the same ones.
//! Source of the method: <https://github.com/apoorvumang/prompt-lookup-decoding>.

use std::iter::successors;
use std::mem;

use crate::alloc::{room, zeros};
use crate::{Error, KvCache, Model, Scratch};

/// The longest draft that [`PromptLookup`] makes.
pub const MAX_DRAFT: usize = 64;

/// The shortest suffix of the context that is looked up.
const MIN_NGRAM: usize = 2;
/// Longer suffixes are as good as this one.
const MAX_NGRAM: usize = 8;
/// After a draft of which nothing came true the next waits for a suffix of this length.
const SURE_NGRAM: usize = 4;
/// Places where the shortest suffix has stood that are looked at, the latest first.
const MAX_PLACES: usize = 64;
/// The length of the first draft.
const FIRST_DRAFT: usize = 2;

/// Decodes one token after the other, some of them ahead of time.
///
/// ```no_run
/// use quantloom::draft::PromptLookup;
/// use quantloom::{Model, sample};
///
/// let model = Model::load("model.gguf", None)?;
/// let mut cache = model.create_kv_cache()?;
/// let prompt = [1, 5, 9];
/// let mut token = sample::greedy(&model.forward_with_cache(&prompt, &mut cache)?);
///
/// let mut decoding = PromptLookup::new(&model, &mut cache, &prompt, 8)?;
/// for _ in 0..100 {
///     token = sample::greedy(decoding.forward(token)?);
/// }
/// # Ok::<(), quantloom::Error>(())
/// ```
#[derive(Debug)]
pub struct PromptLookup<'a> {
    model: &'a Model,
    /// Ends with the last token that the caller gave; the rest of the pass lies behind its end.
    cache: &'a mut KvCache,
    scratch: Scratch,
    context: Context,
    /// The tokens of the last pass: one that the caller gave, and the draft.
    pass: Vec<u32>,
    /// How many of them the caller has given by now.
    given: usize,
    /// The longest draft that is allowed.
    longest: usize,
    /// The longest that pays, as it seems.
    length: usize,
    counts: Counts,
}

/// How drafts have fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Forward passes.
    pub passes: usize,
    /// Tokens drafted.
    pub drafted: usize,
    /// Drafted tokens that came true.
    pub accepted: usize,
}

impl<'a> PromptLookup<'a> {
    /// Goes on after `context`, the tokens in `cache`, with drafts of up to `longest` tokens, at most [`MAX_DRAFT`]; 0
    /// makes none. All memory that decoding takes is allocated here.
    ///
    /// Drafts are taken from the context, and nothing else is: of another one fewer would come true.
    ///
    /// # Errors
    /// The context holds a token outside the vocabulary.
    pub fn new(
        model: &'a Model,
        cache: &'a mut KvCache,
        context: &[u32],
        longest: usize,
    ) -> Result<Self, Error> {
        model.check_tokens(context)?;
        let room = cache.capacity() - cache.len();
        let longest = longest.min(MAX_DRAFT).min(room.saturating_sub(1));
        // Nothing is looked up where nothing may be drafted.
        let mut known = Context::new(if longest == 0 { 0 } else { context.len() + room })?;
        if longest > 0 {
            context.iter().for_each(|&token| known.push(token));
        }
        Ok(Self {
            model,
            cache,
            scratch: model.create_scratch_for(1 + longest)?,
            context: known,
            pass: Vec::with_capacity(1 + longest),
            given: 0,
            longest,
            length: FIRST_DRAFT.min(longest),
            counts: Counts::default(),
        })
    }

    /// Adds one token to the cache; the logits `[vocab]` after it. Allocates nothing.
    ///
    /// # Errors
    /// As for [`Model::forward_with_cache`].
    pub fn forward(&mut self, token: u32) -> Result<&[f32], Error> {
        if self.pass.get(self.given) == Some(&token) {
            self.context.push(token);
            self.cache.advance(1);
            self.given += 1;
            self.counts.accepted += 1;
        } else {
            self.model.check(&[token], self.cache)?;
            self.adapt();
            let after = self.cache.len() + 1;
            self.pass.clear();
            self.pass.push(token);
            if self.longest > 0 {
                self.context.push(token);
                let longest = self.longest.min(self.cache.capacity() - after);
                self.context.draft(self.length, longest, &mut self.pass);
            }
            // Until the pass is done nothing of it may be given.
            self.given = self.pass.len();
            self.model.forward_several_with_scratch(&self.pass, self.cache, &mut self.scratch)?;
            self.cache.truncate(after);
            self.given = 1;
            self.counts.passes += 1;
            self.counts.drafted += self.pass.len() - 1;
        }
        let vocab = self.model.config().vocab;
        Ok(&self.scratch.logits()[(self.given - 1) * vocab..][..vocab])
    }

    /// The cache, which ends with the last token given.
    pub fn cache(&self) -> &KvCache {
        self.cache
    }

    /// How drafts have fared so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A draft that came true makes the next twice as long, another one makes it as long as this should have been.
    fn adapt(&mut self) {
        let drafted = self.pass.len().saturating_sub(1);
        let accepted = self.given.saturating_sub(1);
        if drafted > 0 {
            self.length = if accepted == drafted { 2 * accepted } else { accepted };
        }
    }
}

/// The tokens so far, and where each has stood with those before it: hash chains, as in compressors of the LZ77 family.
///
/// A place is the number of tokens up to the end of an n-gram; 0 is none.
#[derive(Debug)]
struct Context {
    tokens: Vec<u32>,
    /// The latest place of the n-grams of a hash.
    latest: Vec<usize>,
    /// For each place the one before with the same hash.
    earlier: Vec<usize>,
}

impl Context {
    /// With room for `capacity` tokens.
    fn new(capacity: usize) -> Result<Self, Error> {
        const WHAT: &str = "the tokens that drafts are looked up in";
        let mut earlier = room(WHAT, 1 + capacity)?;
        earlier.push(0);
        let latest = zeros(WHAT, capacity.next_power_of_two())?;
        Ok(Self { tokens: room(WHAT, capacity)?, latest, earlier })
    }

    fn push(&mut self, token: u32) {
        self.tokens.push(token);
        let earlier = self.tokens.last_chunk::<MIN_NGRAM>().map_or(0, |ngram| {
            let slot = hash(ngram) & (self.latest.len() - 1);
            mem::replace(&mut self.latest[slot], self.tokens.len())
        });
        self.earlier.push(earlier);
    }

    /// Adds to `pass` what may come next: `length` tokens, or where that is 0 one, if it is likely; at most `longest`.
    fn draft(&self, length: usize, longest: usize, pass: &mut Vec<u32>) {
        let Some((place, ngram)) = self.find() else { return };
        let length = if length == 0 && ngram >= SURE_NGRAM { 1 } else { length }.min(longest);
        let end = self.tokens.len();
        let given = pass.len();
        for next in place..place + length {
            // A text that goes round may go on so.
            pass.push(if next < end { self.tokens[next] } else { pass[given + next - end] });
        }
    }

    /// Where the longest suffix that has stood before did so last, and its length.
    fn find(&self) -> Option<(usize, usize)> {
        let places = successors(self.earlier.last().copied(), |&place| Some(self.earlier[place]));
        let mut best = None;
        let mut longest = MIN_NGRAM - 1;
        for place in places.take_while(|&place| place > 0).take(MAX_PLACES) {
            let pairs = self.tokens[..place].iter().rev().zip(self.tokens.iter().rev()).take(MAX_NGRAM);
            let len = pairs.take_while(|(earlier, last)| earlier == last).count();
            if len > longest {
                (best, longest) = (Some((place, len)), len);
            }
        }
        best
    }
}

/// Multiplicative; the upper half is the well mixed one.
fn hash(ngram: &[u32; MIN_NGRAM]) -> usize {
    let joined = ngram.iter().fold(0, |joined, &token| joined << 32 | u64::from(token));
    (joined.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_are_what_followed_the_longest_suffix_the_last_time() {
        /// A name, the context, the length that pays, the longest allowed, the draft.
        type Case = (&'static str, &'static [u32], usize, usize, &'static [u32]);
        #[rustfmt::skip]
        let cases: [Case; 13] = [
            ("nothing", &[], 4, 8, &[]),
            ("one token", &[1], 4, 8, &[]),
            ("one token twice", &[1, 1], 4, 8, &[]),
            ("nothing twice", &[1, 2, 3, 4, 5], 4, 8, &[]),
            ("one token is too short", &[1, 2, 3, 9, 3], 4, 8, &[]),
            ("two tokens", &[1, 2, 3, 4, 5, 1, 2], 3, 8, &[3, 4, 5]),
            ("the last of equals", &[1, 2, 3, 1, 2, 4, 1, 2], 1, 8, &[4]),
            ("the longest before the last", &[9, 1, 2, 3, 1, 2, 4, 9, 1, 2], 1, 8, &[3]),
            ("no more than is allowed", &[1, 2, 3, 4, 5, 1, 2], 4, 2, &[3, 4]),
            ("round and round", &[1, 2, 1, 2], 5, 8, &[1, 2, 1, 2, 1]),
            ("one token over and over", &[7, 7, 7], 3, 8, &[7, 7, 7]),
            ("no luck so far, and short", &[1, 2, 3, 4, 9, 1, 2, 3], 0, 8, &[]),
            ("no luck so far, but long", &[1, 2, 3, 4, 9, 1, 2, 3, 4], 0, 8, &[9]),
        ];
        for (case, tokens, length, longest, expected) in cases {
            let mut context = Context::new(tokens.len()).unwrap();
            tokens.iter().for_each(|&token| context.push(token));
            let mut pass = vec![5];
            context.draft(length, longest, &mut pass);
            assert_eq!(pass[1..], *expected, "{case}: {tokens:?}");
        }
    }

    #[test]
    fn n_grams_of_one_hash_are_told_apart() {
        // Two slots for all n-grams.
        let mut context = Context::new(2).unwrap();
        for token in (0..60).chain([0, 1]) {
            context.push(token);
        }
        assert_eq!(context.find(), Some((2, 2)));
        context.push(3);
        assert_eq!(context.find(), None);
    }
}
