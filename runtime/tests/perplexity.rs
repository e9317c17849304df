//! Perplexity and divergence of small models against slow sums in f64 over their logits, and files of logits.

mod common;
#[path = "common/tiny.rs"]
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};

use quantloom::gguf::Gguf;
use quantloom::perplexity::{
    Base, BaseFile, Chunks, Divergence, Estimate, Perplexity, compare, evaluate, write_base,
};
use quantloom::tokenizer::EncodeOptions;
use quantloom::{CacheTypes, Error, Model};
use quantloom_kernels::Supported;
use tempfile::TempDir;

use tiny::{SHAPE, Shape, TinyModel};

/// Room for a chunk of more than one batch, 528 tokens, and a vocabulary of an odd number of tokens.
const LONG: Shape = Shape { context: 1200, ..SHAPE };

/// Letters, of which each is a token, of every kind.
fn text(len: usize) -> String {
    (0..len).map(|i| char::from(b'a' + (i * i + i / 7) as u8 % 26)).collect()
}

/// Models of one vocabulary in a folder of their own.
struct Models {
    folder: TempDir,
    base: Model,
    model: Model,
}

impl Models {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = |name: &str, shape: &Shape| {
            let path = folder.path().join(name);
            TinyModel::new(shape).write(&path);
            Model::load(path, Some(2)).unwrap()
        };
        let base = model("base.gguf", &LONG);
        // The same weights but those of one layer's gate, whose codes are random.
        let model = model("model.gguf", &Shape { except: &[("blk.1.ffn_gate", "Q8_0")], ..LONG });
        Self { folder, base, model }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn chunks(model: &Model, len: usize, context: usize) -> Chunks {
    Chunks::of_text(model, &text(len), context, usize::MAX).unwrap()
}

fn evaluated(model: &Model, chunks: &Chunks) -> Perplexity {
    evaluate(model, chunks, CacheTypes::default(), |_| Ok::<_, Error>(())).unwrap()
}

fn compared(base: Base<'_>, model: &Model, chunks: &Chunks) -> Divergence {
    compare(base, model, chunks, CacheTypes::default(), |_| Ok::<_, Error>(())).unwrap()
}

/// ln p of every token after each scored position, and the token that follows.
fn exact(model: &Model, tokens: &[u32], context: usize) -> Vec<(Vec<f64>, usize)> {
    let vocab = model.config().vocab;
    let mut all = Vec::new();
    for chunk in tokens.chunks_exact(context) {
        let mut tokens = chunk.to_vec();
        tokens[0] = 1;
        let logits = model.forward_all_with_cache(&tokens, &mut model.create_kv_cache().unwrap()).unwrap();
        for position in context / 2..context - 1 {
            let logits: Vec<f64> = logits[position * vocab..][..vocab].iter().map(|&l| l.into()).collect();
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let log_p = logits.iter().map(|logit| logit - sum.ln()).collect();
            all.push((log_p, chunk[position + 1] as usize));
        }
    }
    all
}

/// Mean and standard error, in two passes.
fn estimate(values: impl IntoIterator<Item = f64>) -> Estimate {
    let values: Vec<f64> = values.into_iter().collect();
    let count = values.len() as f64;
    let value = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|x| (x - value).powi(2)).sum();
    Estimate { value, error: (squares / count / (count - 1.0)).sqrt() }
}

#[track_caller]
fn assert_near(what: &str, ours: f64, exact: f64, tolerance: f64) {
    assert!((ours - exact).abs() <= tolerance * exact.abs().max(1e-3), "{what}: {ours}, exact {exact}");
}

#[track_caller]
fn assert_estimate(what: &str, ours: Estimate, exact: Estimate, tolerance: f64) {
    assert_near(what, ours.value, exact.value, tolerance);
    assert_near(&format!("error of {what}"), ours.error, exact.error, tolerance);
}

#[test]
fn a_text_is_cut_into_whole_chunks() {
    let Models { folder: _folder, base: model, .. } = &Models::new();
    let tokens = |text: &str| {
        let options = EncodeOptions { add_bos: true, add_eos: false, parse_special: false };
        model.tokenizer().encode(text, options)
    };
    let all = tokens(&text(29));
    assert_eq!(all[0], 1, "BOS, which this vocabulary asks for");
    let cases = [
        // Context, limit, chunks, scored positions.
        (8, usize::MAX, all.len() / 8, 4..7),
        (7, usize::MAX, all.len() / 7, 3..6),
        (3, usize::MAX, all.len() / 3, 1..2),
        (8, 2, 2, 4..7),
        (8, 1, 1, 4..7),
        (all.len() / 2, usize::MAX, 2, all.len() / 4..all.len() / 2 - 1),
    ];
    for (context, limit, count, scored) in cases {
        let case = format!("context {context}, {limit} at the most");
        let chunks = Chunks::of_text(model, &text(29), context, limit).unwrap();
        assert_eq!(chunks.len(), count, "{case}");
        assert_eq!(chunks.scored(), scored, "{case}");
        assert_eq!(chunks.tokens(), &all[..count * context], "{case}");
    }
    let special = Chunks::of_text(model, &"</s>".repeat(8), 8, usize::MAX).unwrap();
    assert!(!special.tokens().contains(&2), "special tokens are text: {special:?}");

    let errors = [
        (text(3), 8, "a context of 8 tokens takes a text of 16 at least, and this one has"),
        (String::new(), 512, "a context of 512 tokens takes a text of 1024 at least, and this one has 1:"),
        (text(100), 0, "a context of 0 tokens leaves none to be scored: the least is 3"),
        (text(100), 2, "a context of 2 tokens leaves none to be scored: the least is 3"),
        (text(10), 1201, "a context of 1201 tokens is more than the 1200 that the model was trained for"),
    ];
    for (text, context, expected) in errors {
        let error = Chunks::of_text(model, &text, context, usize::MAX).unwrap_err().to_string();
        assert!(error.contains(expected), "{context}: {error}");
    }
}

#[test]
fn perplexity_is_that_of_exact_sums() {
    let models = Models::new();
    let model = &models.base;
    let cases = [(8, 100), (7, 100), (3, 20), (64, 200), (529, 1100), (1101, 2300)];
    for (context, len) in cases {
        let case = format!("context {context}");
        let chunks = chunks(model, len, context);
        let exact: Vec<f64> =
            exact(model, chunks.tokens(), context).iter().map(|(log_p, token)| -log_p[*token]).collect();
        let expected = estimate(exact.iter().copied());
        let per_chunk = exact.len() / chunks.len();
        for isa in Supported::all() {
            for threads in [1, 3] {
                let case = format!("{case}, {}, {threads} threads", isa.isa());
                let gguf = Gguf::open(model.gguf().path()).unwrap();
                let model = Model::from_gguf(gguf, isa, threads).unwrap();
                let mut told = Vec::new();
                let tell = |figures: &Perplexity| {
                    told.push(figures.clone());
                    Ok::<_, Error>(())
                };
                let figures = evaluate(&model, &chunks, CacheTypes::default(), tell).unwrap();
                assert_estimate(&case, figures.nll, expected, 1e-4);
                assert_near(&case, figures.perplexity.value, expected.value.exp(), 1e-4);
                assert_near(&case, figures.perplexity.error, expected.value.exp() * expected.error, 1e-3);
                assert_eq!((figures.context, figures.scored), (context, exact.len()), "{case}");
                assert_eq!(told.len(), chunks.len(), "{case}");
                assert_eq!(told.last(), Some(&figures), "{case}");
                for (i, figures) in told.iter().enumerate().filter(|(i, _)| (i + 1) * per_chunk > 1) {
                    let so_far = estimate(exact[..(i + 1) * per_chunk].iter().copied());
                    assert_eq!(figures.chunks, i + 1, "{case}");
                    assert_estimate(&format!("{case}, chunk {i}"), figures.nll, so_far, 1e-4);
                }
            }
        }
    }
}

#[test]
fn divergence_is_that_of_exact_sums() {
    let models = Models::new();
    let Models { base, model, .. } = &models;
    for (context, len) in [(8, 100), (529, 1100)] {
        let chunks = chunks(model, len, context);
        let p = exact(base, chunks.tokens(), context);
        let q = exact(model, chunks.tokens(), context);
        let both = || p.iter().zip(&q).map(|((p, token), (q, _))| (p, q, *token));
        let top = |log_p: &[f64]| (0..log_p.len()).max_by(|&a, &b| log_p[a].total_cmp(&log_p[b]));
        let divergences: Vec<f64> = both()
            .map(|(p, q, _)| {
                p.iter().zip(q).filter(|(p, _)| **p > -16.0).map(|(p, q)| p.exp() * (p - q)).sum()
            })
            .collect();
        let delta_p = || both().map(|(p, q, token)| q[token].exp() - p[token].exp());
        let nll = estimate(both().map(|(_, q, token)| -q[token]));
        let base_nll = estimate(both().map(|(p, _, token)| -p[token]));
        let log_ratio = estimate(both().map(|(p, q, token)| p[token] - q[token]));
        let same_top = estimate(both().map(|(p, q, _)| f64::from(u8::from(top(p) == top(q)))));
        let mean_square = estimate(delta_p().map(|delta| delta * delta));
        let rms = mean_square.value.sqrt();
        let difference = nll.value.exp() - base_nll.value.exp();

        let path = models.path("base.logits");
        write_base(base, &chunks, CacheTypes::default(), &path, |_| Ok::<_, Error>(())).unwrap();
        let file = BaseFile::open(&path).unwrap();
        // A code errs by up to half of 16 / 65535 in ln p.
        for (name, base, tolerance) in [("model", Base::Model(base), 1e-3), ("file", Base::File(file), 2e-3)]
        {
            let case = |what: &str| format!("{what}, context {context}, {name}");
            let Divergence { means, kl_divergences, deltas_p } = compared(base, model, &chunks);
            assert_eq!((means.chunks, means.scored), (chunks.len(), p.len()), "{}", case("counts"));
            let perplexity =
                |nll: Estimate| Estimate { value: nll.value.exp(), error: nll.value.exp() * nll.error };
            let estimates = [
                ("perplexity", means.perplexity, perplexity(nll)),
                ("base's perplexity", means.base_perplexity, perplexity(base_nll)),
                ("log ratio", means.log_ratio, log_ratio),
                ("ratio", means.ratio, perplexity(log_ratio)),
                ("divergence", means.kl_divergence, estimate(divergences.iter().copied())),
                ("Δp", means.delta_p, estimate(delta_p())),
                ("rms Δp", means.delta_p_rms, Estimate { value: rms, error: mean_square.error / 2.0 / rms }),
                ("same top", means.same_top, same_top),
            ];
            for (what, ours, exact) in estimates {
                assert_estimate(&case(what), ours, exact, tolerance);
            }
            assert_near(&case("difference"), means.difference.value, difference, tolerance);
            let error = {
                // To first order: of each token's share in both perplexities.
                let (ppl, base_ppl) = (nll.value.exp(), base_nll.value.exp());
                estimate(both().map(|(p, q, token)| base_ppl * p[token] - ppl * q[token])).error
            };
            assert_near(&case("error of the difference"), means.difference.error, error, tolerance);
            let correlation = {
                let products =
                    both().map(|(p, q, token)| (q[token] + nll.value) * (p[token] + base_nll.value));
                let count = p.len() as f64;
                products.sum::<f64>() / count / (count - 1.0) / nll.error / base_nll.error
            };
            assert_near(&case("correlation"), means.correlation, correlation, tolerance);

            let mut sorted = divergences.clone();
            sorted.sort_by(f64::total_cmp);
            assert_near(
                &case("largest divergence"),
                kl_divergences.at(100.0),
                sorted[p.len() - 1],
                tolerance,
            );
            assert_near(&case("least divergence"), kl_divergences.at(0.0), sorted[0], tolerance);
            let largest = delta_p().fold(f64::MIN, f64::max);
            assert_near(&case("largest Δp"), deltas_p.at(100.0), largest, tolerance);
            // Else the models would not tell one formula from another.
            assert!(means.kl_divergence.value > 0.01 && means.same_top.value < 1.0, "{means:?}");
        }
    }
}

#[test]
fn a_model_does_not_diverge_from_itself() {
    let models = Models::new();
    let Models { base: model, .. } = &models;
    let chunks = chunks(model, 100, 16);
    let figures = compared(Base::Model(model), model, &chunks);
    for percent in [0.0, 50.0, 100.0] {
        assert_eq!(figures.kl_divergences.at(percent), 0.0, "{percent} %");
        assert_eq!(figures.deltas_p.at(percent), 0.0, "{percent} %");
    }
    let means = &figures.means;
    assert_eq!(means.same_top, Estimate { value: 1.0, error: 0.0 });
    assert_eq!(means.delta_p_rms, Estimate { value: 0.0, error: 0.0 });
    assert_eq!(means.ratio.value, 1.0);
    assert!((means.correlation - 1.0).abs() < 1e-9, "{}", means.correlation);
    assert_near("perplexity", means.perplexity.value, evaluated(model, &chunks).perplexity.value, 1e-6);

    // In 16 bits nearly so.
    let path = models.path("self.logits");
    write_base(model, &chunks, CacheTypes::default(), &path, |_| Ok::<_, Error>(())).unwrap();
    let figures = compared(Base::File(BaseFile::open(&path).unwrap()), model, &chunks);
    assert!(figures.kl_divergences.at(100.0).abs() < 1e-4, "{:?}", figures.kl_divergences);
    assert_eq!(figures.means.same_top.value, 1.0);
}

#[test]
fn a_file_of_logits_is_laid_out_as_llama_cpp_lays_it_out() {
    let models = Models::new();
    let Models { base: model, .. } = &models;
    let vocab = model.config().vocab;
    let chunks = chunks(model, 40, 8);
    let path = models.path("base.logits");
    let figures = write_base(model, &chunks, CacheTypes::default(), &path, |_| Ok::<_, Error>(())).unwrap();
    assert_eq!(figures, evaluated(model, &chunks));
    let bytes = fs::read(&path).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(&bytes[..8], b"_logits_");
    assert_eq!([8, 12, 16].map(number), [8, vocab as u32, chunks.len() as u32]);
    let (tokens, rows) = bytes[20..].split_at(chunks.tokens().len() * 4);
    let tokens: Vec<u32> = tokens.as_chunks().0.iter().map(|token| u32::from_le_bytes(*token)).collect();
    assert_eq!(tokens, chunks.tokens());
    let width = 8 + 2 * (vocab + 1);
    let exact = exact(model, &tokens, 8);
    assert_eq!(rows.len(), exact.len() * width);
    for (row, (log_p, _)) in rows.chunks(width).zip(&exact) {
        let [scale, least] = [0, 1].map(|i| f32::from_le_bytes(row.as_chunks().0[i]));
        let codes: Vec<u16> = row[8..].as_chunks().0.iter().map(|code| u16::from_le_bytes(*code)).collect();
        assert_eq!(codes.len(), vocab + 1);
        assert_eq!(codes[vocab], 0, "padding");
        assert!(codes.contains(&u16::MAX) && codes.contains(&0));
        let largest = log_p.iter().copied().fold(f64::MIN, f64::max);
        for (&code, &exact) in codes.iter().zip(log_p) {
            let exact = exact.max(largest - 16.0);
            let ours = f64::from(scale * f32::from(code) + least);
            assert!((ours - exact).abs() < 0.51 * f64::from(scale) + 1e-5, "{ours}, {exact}, scale {scale}");
        }
    }
    let file = BaseFile::open(&path).unwrap();
    assert_eq!(file.chunks(), &chunks);
    // Again, over itself; nothing else is left.
    write_base(model, &chunks, CacheTypes::default(), &path, |_| Ok::<_, Error>(())).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(models.folder.path()).unwrap().count(), 3);
}

#[test]
fn fewer_chunks_can_be_compared_than_the_base_has() {
    let models = Models::new();
    let Models { base, model, .. } = &models;
    let all = chunks(model, 100, 8);
    let path = models.path("base.logits");
    write_base(base, &all, CacheTypes::default(), &path, |_| Ok::<_, Error>(())).unwrap();
    let mut some = all.clone();
    some.truncate(3);
    let figures = compared(Base::File(BaseFile::open(&path).unwrap()), model, &some);
    assert_eq!((figures.means.chunks, figures.means.scored), (3, 9));
    assert_estimate(
        "divergence",
        figures.means.kl_divergence,
        compared(Base::Model(base), model, &some).means.kl_divergence,
        1e-2,
    );
}

#[test]
fn progress_can_end_it() {
    let models = Models::new();
    let Models { base: model, .. } = &models;
    let chunks = chunks(model, 100, 8);
    let path = models.path("base.logits");
    let mut told = 0;
    let end = |_: &Perplexity| {
        told += 1;
        if told == 2 { Err(Error::NoTokens) } else { Ok(()) }
    };
    let error = write_base(model, &chunks, CacheTypes::default(), &path, end).unwrap_err();
    assert!(matches!(error, Error::NoTokens), "{error}");
    assert_eq!(told, 2);
    assert_eq!(fs::read_dir(models.folder.path()).unwrap().count(), 2, "no file is left");
}

#[test]
fn bad_files_of_logits_are_named() {
    let models = Models::new();
    let Models { base: model, .. } = &models;
    let chunks = chunks(model, 40, 8);
    let path = models.path("base.logits");
    write_base(model, &chunks, CacheTypes::default(), &path, |_| Ok::<_, Error>(())).unwrap();
    let good = fs::read(&path).unwrap();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let opened: &[(&str, Vec<u8>, &str)] = &[
        ("empty", vec![], "is no file of a base model's logits: it begins with \"\", not \"_logits_\""),
        ("a page", b"<html></html>".to_vec(), "it begins with \"<html></\""),
        ("the magic alone", good[..8].to_vec(), "has 8 bytes, and the header alone takes 20"),
        ("cut in the header", good[..19].to_vec(), "has 19 bytes, and the header alone takes 20"),
        ("cut in the tokens", good[..60].to_vec(), "has 60 bytes, and "),
        ("cut by a byte", good[..good.len() - 1].to_vec(), "it was not written to its end"),
        ("a byte too long", [&good[..], b"x"].concat(), "bytes are asked for by its header"),
        ("context 0", with(8, &[0; 4]), "asked for by its header"),
        ("a huge context", with(8, &[0xff; 4]), "asked for by its header"),
        ("a huge vocabulary", with(12, &[0xff; 4]), "asked for by its header"),
        ("huge in all", with(8, &[0xff; 12]), "asked for by its header"),
        (
            "a context that scores nothing",
            [&with(8, &[2, 0, 0, 0, 7, 1, 0, 0, 1, 0, 0, 0])[..28]].concat(),
            "holds no logits",
        ),
        ("no chunks", [&with(16, &[0; 4])[..20]].concat(), "holds no logits"),
        (
            "no vocabulary",
            [&with(12, &[0; 4])[..20 + 5 * 8 * 4], &[0; 5 * 3 * 8]].concat(),
            "holds no logits",
        ),
    ];
    for (case, bytes, expected) in opened {
        fs::write(&path, bytes).unwrap();
        let error = BaseFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("base.logits: ") && error.contains(expected), "{case}: {error}");
    }
    let compared: &[(&str, Vec<u8>, &str)] = &[
        ("another token", with(28, &[9, 0, 0, 0]), "its token 2 is 9, and the text's "),
        ("a token that is none", with(28, &[0xff; 4]), "its token 2 is 4294967295"),
        (
            "infinite",
            with(20 + chunks.tokens().len() * 4, &f32::INFINITY.to_le_bytes()),
            "holds logits that are no numbers",
        ),
        ("no number", with(20 + chunks.tokens().len() * 4, &[0xff; 8]), "holds logits that are no numbers"),
    ];
    for (case, bytes, expected) in compared {
        fs::write(&path, bytes).unwrap();
        let base = Base::File(BaseFile::open(&path).unwrap());
        let error = compare(base, model, &chunks, CacheTypes::default(), |_| Ok::<_, Error>(()));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("base.logits: ") && error.contains(expected), "{case}: {error}");
    }
    // A token that is none, where there is no text to tell.
    fs::write(&path, with(28, &[0xff; 4])).unwrap();
    let file = BaseFile::open(&path).unwrap();
    let chunks = file.chunks().clone();
    let error = compare(Base::File(file), model, &chunks, CacheTypes::default(), |_| Ok::<_, Error>(()));
    assert!(matches!(error, Err(Error::Token { token: u32::MAX, .. })), "{error:?}");
}

#[test]
fn a_base_must_fit() {
    let models = Models::new();
    let Models { base: model, .. } = &models;
    let path = models.path("base.logits");
    let written = chunks(model, 40, 8);
    write_base(model, &written, CacheTypes::default(), &path, |_| Ok::<_, Error>(())).unwrap();
    let with_shape = |name: &str, shape: &Shape| {
        TinyModel::new(shape).write(&models.path(name));
        Model::load(models.path(name), Some(1)).unwrap()
    };
    let larger = with_shape("larger.gguf", &Shape { vocab: 300, ..LONG });
    let short = with_shape("short.gguf", &Shape { context: 7, ..LONG });
    let renamed = {
        let mut tiny = TinyModel::new(&LONG);
        let (_, tokens) = tiny.keys.iter_mut().find(|(key, _)| key == "tokenizer.ggml.tokens").unwrap();
        let texts = (0..LONG.vocab as u32).map(|id| model.tokenizer().token_text(id).unwrap().to_owned());
        let mut texts: Vec<String> = texts.collect();
        texts[262] = "▁other".into();
        *tokens = texts.into();
        tiny.write(&models.path("renamed.gguf"));
        Model::load(models.path("renamed.gguf"), Some(1)).unwrap()
    };
    let file = || Base::File(BaseFile::open(&path).unwrap());
    let cases = [
        ("another vocabulary", file(), &larger, chunks(model, 40, 8), "was written for 263 tokens, and "),
        ("another context", file(), model, chunks(model, 40, 7), "a context of 8 tokens, not 7"),
        ("more chunks", file(), model, chunks(model, 80, 8), "has 5 chunks, not 10"),
        ("a longer context than trained for", file(), &short, written.clone(), "more than the 7"),
        ("a larger model", Base::Model(&larger), model, written.clone(), "larger.gguf: has 300 tokens, and "),
        ("another token", Base::Model(&renamed), model, written.clone(), "token 262 is \"▁other\", and in "),
        ("a short base", Base::Model(&short), model, written.clone(), "more than the 7"),
    ];
    for (case, base, model, chunks, expected) in cases {
        let error = compare(base, model, &chunks, CacheTypes::default(), |_| Ok::<_, Error>(()));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{case}: {error}");
    }
}

#[test]
fn what_is_no_file_of_logits_is_not_overwritten() {
    let models = Models::new();
    let Models { base: model, .. } = &models;
    let chunks = chunks(model, 40, 8);
    let write = |path: &Path| {
        write_base(model, &chunks, CacheTypes::default(), path, |_| Ok::<_, Error>(()))
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let before = fs::read(models.path("model.gguf")).unwrap();
    let cases = [models.path("model.gguf"), models.folder.path().into(), "/dev/null".into()];
    for path in cases.iter().filter(|path| path.exists()) {
        let error = write(path).unwrap_err();
        assert!(error.contains("to compare with it, add --kl-divergence"), "{}: {error}", path.display());
    }
    assert_eq!(fs::read(models.path("model.gguf")).unwrap(), before);
    let error = write(&models.path("no/such/folder/x")).unwrap_err();
    assert!(error.contains("no/such/folder"), "{error}");
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let models = Models::new();
    let mut tiny = TinyModel::new(&LONG);
    let output = tiny.tensors.iter_mut().find(|tensor| tensor.name == "output.weight").unwrap();
    output.data[400..404].copy_from_slice(&f32::NAN.to_le_bytes());
    tiny.write(&models.path("damaged.gguf"));
    let damaged = Model::load(models.path("damaged.gguf"), Some(1)).unwrap();
    let model = &models.model;
    let chunks = chunks(model, 40, 8);
    let none = CacheTypes::default();
    let results = [
        evaluate(&damaged, &chunks, none, |_| Ok::<_, Error>(())).map(|_| ()),
        compare(Base::Model(&damaged), model, &chunks, none, |_| Ok::<_, Error>(())).map(|_| ()),
        compare(Base::Model(model), &damaged, &chunks, none, |_| Ok::<_, Error>(())).map(|_| ()),
    ];
    for result in results {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("damaged.gguf: tensor `output.weight` holds NaN at index 100"), "{error}");
    }
}

#[test]
fn perplexity_is_that_of_llama_cpp() {
    let Some(model) = common::default_model() else { return };
    let model = Model::load(model, Some(2)).unwrap();
    let text = include_str!("../../LICENSE-APACHE");
    // What llama.cpp's formulas make of its own logits. Both engines quantize activations, each in its way, which
    // moves a perplexity by less than a hundredth: a tenth of its standard error.
    for (context, chunks, nll, error) in [(512, 4, 2.763_372, 0.090_168), (256, 8, 2.876_165, 0.094_449)] {
        let case = format!("context {context}");
        let text = text.strip_suffix('\n').unwrap();
        let ours = evaluated(&model, &Chunks::of_text(&model, text, context, usize::MAX).unwrap());
        println!("{case}: {:.6} ± {:.6}", ours.nll.value, ours.nll.error);
        assert_eq!((ours.chunks, ours.scored), (chunks, chunks * (context / 2 - 1)), "{case}");
        assert!((ours.nll.value - nll).abs() < 0.01, "{case}: {}, {nll}", ours.nll.value);
        assert!((ours.nll.error - error).abs() < 0.002, "{case}: {}, {error}", ours.nll.error);
    }
}
