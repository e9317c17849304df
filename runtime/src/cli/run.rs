//! `quantloom run`.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::chat::{ChatTemplate, Message};
use crate::draft::{Counts, PromptLookup};
use crate::gguf::Formats;
use crate::sample::{Sampler, SamplerOptions};
use crate::tokenizer::{EncodeOptions, SpecialTokens};
use crate::{KvCache, Model};
use serde_json::json;

use super::{CacheArgs, ModelArgs, Result, ThreadArgs, create_cache, load, note, note_two_bos, value};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    prompt: PromptArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Tokens to generate; -1 goes on until the text or the context ends
    #[arg(short, long, alias = "predict", value_name = "N", default_value = "-1", value_parser = value::token_count)]
    #[arg(allow_negative_numbers = true)]
    n_predict: usize,
    /// Tokens of context, prompt included [default: what the model has]
    #[arg(short, long, value_name = "N", value_parser = value::positive, allow_negative_numbers = true)]
    ctx_size: Option<usize>,
    #[command(flatten)]
    cache: CacheArgs,
    /// Guess up to N tokens at a time from what the context repeats, and check them together: the same text, sooner;
    /// 0 guesses none
    #[arg(long, value_name = "N", default_value = "0", value_parser = value::draft, allow_negative_numbers = true)]
    draft_ngram: usize,
    /// Use the prompt as it stands, not as a message in the model's chat form: the texts of special tokens in it
    /// become these tokens, so that it must come from someone you trust (-no-cnv)
    #[arg(long, aliases = ["no-cnv", "no-conversation"])]
    raw: bool,
    /// Print one JSON object at the end; its `text` is all of `ids`, special tokens included
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct PromptArgs {
    /// Prompt
    #[arg(value_name = "PROMPT", value_parser = value::text())]
    positional: Option<String>,
    /// Prompt
    #[arg(short, long, value_parser = value::text(), allow_hyphen_values = true)]
    prompt: Option<String>,
}

#[derive(clap::Args)]
struct SamplingArgs {
    /// Temperature; 0 always takes the most likely token
    #[arg(long, alias = "temperature", value_name = "T", default_value = "0.8", value_parser = value::temperature)]
    #[arg(allow_negative_numbers = true)]
    temp: f32,
    /// Draw from the K most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value = "40", value_parser = value::top_k)]
    #[arg(allow_negative_numbers = true)]
    top_k: usize,
    /// Draw from the most likely tokens that have the probability P together
    #[arg(long, value_name = "P", default_value = "0.95", value_parser = value::top_p)]
    #[arg(allow_negative_numbers = true)]
    top_p: f32,
    /// Seed of the draws; -1 for a random one
    #[arg(short, long, default_value = "-1", value_parser = value::seed, allow_negative_numbers = true)]
    seed: value::Seed,
}

/// Where generation ends, and how far ahead it looks.
struct Limits {
    tokens: usize,
    draft: usize,
}

/// What came out.
struct Generation {
    ids: Vec<u32>,
    /// Whether it ended because there was no room for more.
    is_context_full: bool,
    prefill: Duration,
    decode: Duration,
    drafts: Counts,
}

pub fn run(args: Args, formats: &Formats, out: &mut impl Write) -> Result {
    let types = args.cache.types(formats)?;
    let path = args.model.path()?;
    let start = Instant::now();
    let model = load(path, formats, args.model.access, args.threads)?;
    let load = start.elapsed();

    let prompt = args.prompt.positional.or(args.prompt.prompt).unwrap_or_default();
    let prompt_ids = if args.raw { raw_ids(&model, &prompt) } else { chat_ids(&model, prompt)? };
    if prompt_ids.is_empty() {
        return Err("the prompt is empty and the model adds no BOS token: give a text by -p".into());
    }
    note_two_bos(model.tokenizer(), &prompt_ids);
    let context = args.ctx_size.unwrap_or(model.config().context);
    let SamplingArgs { temp: temperature, top_k, top_p, seed } = args.sampling;
    let seed = seed.unwrap_or(SamplerOptions::default().seed);
    let mut sampler = Sampler::new(SamplerOptions { temperature, top_k, top_p, seed });

    let mut show = |piece: &str| -> Result {
        if !args.json {
            out.write_all(piece.as_bytes())?;
            out.flush()?;
        }
        Ok(())
    };
    let mut cache = create_cache(&model, context, types)?;
    let limits = Limits { tokens: args.n_predict, draft: args.draft_ngram };
    let generation = generate(&model, &prompt_ids, &mut sampler, limits, &mut cache, &mut show)?;
    let Generation { ids, is_context_full, prefill, decode, drafts } = generation;
    let prompt_tps = prompt_ids.len() as f64 / prefill.as_secs_f64();
    // The first token comes of the prefill.
    let decode_tps = (ids.len() > 1).then(|| (ids.len() - 1) as f64 / decode.as_secs_f64());
    let load_ms = load.as_secs_f64() * 1e3;
    if args.json {
        let mut decoder = model.tokenizer().decoder(SpecialTokens::Render);
        let mut text: String = ids.iter().fold(String::new(), |text, &id| text + decoder.push(id));
        text += decoder.finish();
        let report = json!({
            "prompt_ids": prompt_ids,
            "ids": ids,
            "text": text,
            "load_ms": load_ms,
            "prompt_tps": prompt_tps,
            "decode_tps": decode_tps,
            "drafted": drafts.drafted,
            "accepted": drafts.accepted,
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    writeln!(out)?;
    if is_context_full {
        note(format_args!("the context of {context} tokens is full; -c sets its size"));
    }
    let rate = |tokens_per_second: f64| format!("{tokens_per_second:.1} tok/s");
    let drafts = match args.draft_ngram {
        0 => String::new(),
        _ => format!(", {} of {} drafted accepted", drafts.accepted, drafts.drafted),
    };
    note(format_args!(
        "load {load_ms:.1} ms | prompt {} tokens, {} | generated {} tokens, {}{drafts} | {} threads, {} | seed {seed}",
        prompt_ids.len(),
        rate(prompt_tps),
        ids.len(),
        decode_tps.map_or("-".into(), rate),
        model.threads(),
        model.isa().isa(),
    ));
    Ok(())
}

/// The prompt as the one message of a conversation, in the form that the model knows.
fn chat_ids(model: &Model, prompt: String) -> Result<Vec<u32>> {
    let tokenizer = model.tokenizer();
    let Some(template) = ChatTemplate::from_metadata(model.gguf().metadata(), tokenizer)? else {
        note(
            "the model has no chat template: the prompt is used as it stands, as text; --raw parses special tokens in it",
        );
        let options = EncodeOptions { add_bos: true, add_eos: true, parse_special: false };
        return Ok(tokenizer.encode(&prompt, options));
    };
    let rendered = template.render(&[Message { role: "user".into(), content: prompt }])?;
    // Many templates begin with BOS themselves.
    let bos = tokenizer.bos().and_then(|id| tokenizer.token_text(id));
    let add_bos = !bos.is_some_and(|bos| rendered.starts_with(bos));
    let options = EncodeOptions { add_bos, add_eos: true, parse_special: true };
    // What the user says is text: only the template makes control tokens.
    Ok(tokenizer.encode_with_contents(rendered.text(), rendered.contents(), options))
}

/// The prompt as it stands.
fn raw_ids(model: &Model, prompt: &str) -> Vec<u32> {
    model.tokenizer().encode(prompt, EncodeOptions { add_bos: true, add_eos: true, parse_special: true })
}

/// Continues `prompt`, giving `show` the text as it comes, without special tokens.
fn generate(
    model: &Model,
    prompt: &[u32],
    sampler: &mut Sampler,
    limits: Limits,
    cache: &mut KvCache,
    show: &mut impl FnMut(&str) -> Result,
) -> Result<Generation> {
    let mut decoder = model.tokenizer().decoder(SpecialTokens::Skip);
    let mut ids = Vec::new();

    let start = Instant::now();
    let logits = model.forward_with_cache(prompt, cache)?;
    let prefill = start.elapsed();
    let start = Instant::now();
    let mut decoding = PromptLookup::new(model, cache, prompt, limits.draft)?;
    let is_context_full = loop {
        if ids.len() == limits.tokens {
            break false;
        }
        let next = match ids.last() {
            None => sampler.sample(&logits),
            Some(_) if decoding.cache().len() == decoding.cache().capacity() => break true,
            Some(&last) => sampler.sample(decoding.forward(last)?),
        };
        ids.push(next);
        show(decoder.push(next))?;
        if model.tokenizer().is_end_of_generation(next) {
            break false;
        }
    };
    let decode = start.elapsed();
    show(decoder.finish())?;
    Ok(Generation { ids, is_context_full, prefill, decode, drafts: decoding.counts() })
}
