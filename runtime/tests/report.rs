//! Reports on a small model, against sums over its files made here.

#[path = "common/tiny.rs"]
mod tiny;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use quantloom::gguf::{Formats, Gguf, Tensor};
use quantloom::perplexity::{Base, Chunks, compare, evaluate, write_base};
use quantloom::quantize::Recipe;
use quantloom::report::{Comparison, Figure, Options, Progress, Report, Step, Text, figure};
use quantloom::{CacheTypes, Error, Model};
use tempfile::TempDir;

use tiny::{SHAPE, TinyModel};

const TYPES: [&str; 4] = ["Q4_0", "Q8_0", "Q6_K", "F32"];

/// A model in F32, and what is to be made of it.
fn files() -> (TempDir, PathBuf, Options) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny.gguf");
    TinyModel::new(&SHAPE).write(&model);
    let mut options = Options::new(Formats::default());
    options.recipes = TYPES.map(recipe).into();
    options.text = Some(Text { text: Some(text()), context: Some(40), chunks: 6 });
    options.threads = Some(2);
    options.rounds = 1;
    (folder, model, options)
}

fn recipe(name: &str) -> Recipe {
    Recipe::new(name, &Formats::default()).unwrap()
}

/// Letters, of which each is a token, of every kind.
fn text() -> String {
    (0..300).map(|i| char::from(b'a' + (i * i + i / 7) as u8 % 26)).collect()
}

fn measured(model: &Path, options: &Options) -> Report {
    Comparison::new(model, options).unwrap().run(|_| Ok::<_, Error>(())).unwrap()
}

/// The weights of a tensor, from its bytes.
fn weights(tensor: &Tensor) -> Vec<f64> {
    let scale = |block: &[u8]| f64::from(f16::from_le_bytes([block[0], block[1]]).to_f32());
    match tensor.ty().name() {
        "F32" => {
            let numbers = tensor.data().chunks_exact(4);
            numbers.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()).into()).collect()
        }
        "Q8_0" => {
            let blocks = tensor.data().chunks_exact(34);
            blocks.flat_map(|b| b[2..].iter().map(move |&q| scale(b) * f64::from(q as i8))).collect()
        }
        "Q4_0" => {
            let low = |b: &[u8], i: usize| if i < 16 { b[2 + i] & 15 } else { b[i - 14] >> 4 };
            let blocks = tensor.data().chunks_exact(18);
            blocks.flat_map(|b| (0..32).map(move |i| scale(b) * (f64::from(low(b, i)) - 8.0))).collect()
        }
        other => unreachable!("no file here has {other}"),
    }
}

fn tensor_bytes(path: &PathBuf) -> usize {
    Gguf::open(path).unwrap().tensors().iter().map(|tensor| tensor.data().len()).sum()
}

/// Σ (ŵ − w)² and Σ w².
fn squares(original: &Tensor, quantized: &Tensor) -> [f64; 2] {
    let pairs = weights(original).into_iter().zip(weights(quantized));
    pairs.fold([0.0; 2], |[error, sum], (w, made)| [error + (made - w).powi(2), sum + w * w])
}

#[track_caller]
fn assert_near(what: &str, ours: f64, exact: f64) {
    assert!((ours - exact).abs() <= 1e-6 * exact.abs().max(1e-3), "{what}: {ours}, exact {exact}");
}

#[test]
fn figures_are_those_of_the_files() {
    let (folder, path, mut options) = files();
    let keep = folder.path().join("kept/here");
    options.keep = Some(keep.clone());
    options.rounds = 2;
    let report = measured(&path, &options);

    let source = Gguf::open(&path).unwrap();
    let base = Model::load(&path, Some(2)).unwrap();
    let chunks = Chunks::of_text(&base, &text(), 40, 6).unwrap();
    let run =
        |model: &Model| evaluate(model, &chunks, CacheTypes::default(), |_| Ok::<_, Error>(())).unwrap();
    assert_eq!(report.base.perplexity, Some(run(&base)));
    assert_eq!(report.base.size.file_bytes as u64, fs::metadata(&path).unwrap().len());
    assert_eq!(report.base.size.matrix_bits_per_weight, 32.0);

    let is_matrix = |tensor: &&Tensor| !tensor.name().contains("norm");
    let count = |tensor: &Tensor| tensor.dims().iter().product::<usize>();
    let all: usize = source.tensors().iter().map(count).sum();
    let matrices: usize = source.tensors().iter().filter(is_matrix).map(count).sum();
    let output = (SHAPE.embedding * SHAPE.vocab) as f64 / matrices as f64;
    assert_eq!(report.types.iter().map(|row| &*row.name).collect::<Vec<_>>(), TYPES);
    for row in &report.types {
        let name = &row.name;
        let file = keep.join(format!("tiny.{name}.gguf"));
        assert_eq!(row.path.as_ref(), Some(&file), "{name}");
        let quantized = Gguf::open(&file).unwrap();

        let bytes = fs::metadata(&file).unwrap().len() as usize;
        assert_eq!(row.size.file_bytes, bytes, "{name}");
        assert_near(&format!("{name}: bits"), row.size.bits_per_weight, 8.0 * bytes as f64 / all as f64);
        // Rows of 64 are no whole blocks of Q6_K: Q8_0 takes its place, for Q4_0's output and for Q6_K.
        let bits = match &**name {
            "Q4_0" => 4.5 * (1.0 - output) + 8.5 * output,
            "F32" => 32.0,
            _ => 8.5,
        };
        assert_near(&format!("{name}: bits of matrices"), row.size.matrix_bits_per_weight, bits);
        let shares: Vec<_> =
            row.matrices.iter().map(|share| (share.ty, share.instead_of, share.matrices)).collect();
        let expected: &[_] = match &**name {
            "Q4_0" => &[("Q4_0", None, 15), ("Q8_0", Some("Q6_K"), 1)],
            "Q8_0" => &[("Q8_0", None, 16)],
            "Q6_K" => &[("Q8_0", Some("Q6_K"), 15), ("Q8_0", None, 1)],
            _ => &[("F32", None, 16)],
        };
        assert_eq!(shares, expected, "{name}");
        assert_eq!(row.matrices.iter().map(|share| share.weights).sum::<usize>(), matrices, "{name}");

        let mut sum = [0.0; 2];
        assert_eq!(row.error.matrices.len(), 16, "{name}");
        for matrix in &row.error.matrices {
            let [original, made] =
                [&source, &quantized].map(|file| file.require_tensor(&matrix.name).unwrap());
            let of_this = squares(original, made);
            let case = format!("{name}: error of {}", matrix.name);
            assert_near(&case, matrix.relative_rms, (of_this[0] / of_this[1]).sqrt());
            assert_eq!(matrix.ty, made.ty().name(), "{case}");
            sum = [sum[0] + of_this[0], sum[1] + of_this[1]];
        }
        assert_near(&format!("{name}: error"), row.error.relative_rms, (sum[0] / sum[1]).sqrt());

        let model = Model::load(&file, Some(2)).unwrap();
        let exact =
            compare(Base::Model(&base), &model, &chunks, CacheTypes::default(), |_| Ok::<_, Error>(()));
        let (ours, exact) = (&row.divergence.as_ref().unwrap().means, exact.unwrap().means);
        assert_near(&format!("{name}: perplexity"), ours.perplexity.value, run(&model).perplexity.value);
        // The report's base is rounded to 16 bits.
        let (ours, exact) = (ours.kl_divergence.value, exact.kl_divergence.value);
        assert!((ours - exact).abs() < 1e-6 + 1e-3 * exact, "{name}: divergence {ours}, exact {exact}");
        if name == "F32" {
            assert_eq!(row.error.relative_rms, 0.0, "nothing is lost");
            assert!(exact == 0.0 && ours.abs() < 1e-6, "{ours} of nothing");
        } else {
            assert!(exact > 1e-5, "{name}: {exact}");
        }

        let speed = &row.speed;
        assert_eq!(
            [speed.prefill.tokens, speed.decode.tokens],
            [80, 32],
            "{name}: all of the context, and 32"
        );
        let rounds = |figure: &Figure| -> [f64; 2] { figure.rounds[..].try_into().unwrap() };
        let [decode, bandwidth] = [&speed.decode.tokens_per_second, &speed.read_bandwidth].map(rounds);
        for round in [0, 1] {
            let limit = bandwidth[round] / model.bytes_per_token() as f64;
            let case = format!("{name}: share in round {round}");
            assert_near(&case, speed.roofline_share.rounds[round], decode[round] / limit);
        }
        let base = &report.base.speed;
        for (what, ours, base) in
            [("prefill", &speed.prefill, &base.prefill), ("decode", &speed.decode, &base.decode)]
        {
            let [by_base, ours, base] =
                [&ours.by_base, &ours.tokens_per_second, &base.tokens_per_second].map(rounds);
            for round in [0, 1] {
                let case = format!("{name}: {what} by the base's in round {round}");
                assert_near(&case, by_base[round], ours[round] / base[round]);
                assert!(ours[round] > 0.0, "{case}");
            }
        }
        for figure in [&speed.decode.tokens_per_second, &speed.prefill.by_base, &speed.roofline_share] {
            let [least, most] =
                [f64::min, f64::max].map(|of| figure.rounds.iter().copied().reduce(of).unwrap());
            for (what, value, share) in
                [("low", figure.low, 0.25), ("median", figure.median, 0.5), ("high", figure.high, 0.75)]
            {
                assert_near(&format!("{name}: {what} of two"), value, least + share * (most - least));
            }
        }
    }
    // What the plans say, and the file of logits, which is gone: in each row a scale, a least, and 16 bits for each token.
    let models: usize = report.types.iter().map(|row| tensor_bytes(row.path.as_ref().unwrap())).sum();
    let logits =
        20 + 6 * 40 * 4 + chunks.len() * chunks.scored().len() * (8 + 2 * SHAPE.vocab.next_multiple_of(2));
    options.keep = None;
    let disk = Comparison::new(&path, &options).unwrap().disk_bytes();
    assert_eq!(disk, (models + logits) as u64);
    let left: BTreeSet<_> = fs::read_dir(&keep).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left.len(), TYPES.len(), "what is no model does not stay: {left:?}");
}

#[test]
fn another_base() {
    let (folder, path, mut options) = files();
    let base = folder.path().join("base.gguf");
    TinyModel::new(&tiny::Shape { except: &[("blk.1.ffn_gate", "Q8_0")], ..SHAPE }).write(&base);
    options.recipes = vec![recipe("F32")];
    options.base = Some(base.clone());
    let report = measured(&path, &options);
    assert_eq!(report.base.path, base);
    assert_eq!(report.base.matrices[1].ty, "Q8_0");
    assert_eq!(report.types[0].path, None);
    let means = &report.types[0].divergence.as_ref().unwrap().means;
    assert!(means.kl_divergence.value > 1e-3, "{means:?}");
    assert_eq!(report.types[0].error.relative_rms, 0.0, "that is of the model, not of the base");

    // Its logits say the same, with or without the text that they were written for.
    let model = Model::load(&base, Some(2)).unwrap();
    let chunks = Chunks::of_text(&model, &text(), 40, 6).unwrap();
    let logits = folder.path().join("base.logits");
    write_base(&model, &chunks, CacheTypes::default(), &logits, |_| Ok::<_, Error>(())).unwrap();
    options.base = Some(logits.clone());
    for text in [
        Text { text: None, context: None, chunks: usize::MAX },
        Text { text: Some(text()), context: None, chunks: usize::MAX },
        Text { text: Some(text()), context: Some(40), chunks: 6 },
    ] {
        let case = format!("{text:?}");
        options.text = Some(text);
        let of_logits = measured(&path, &options);
        assert_eq!(of_logits.types[0].divergence, report.types[0].divergence, "{case}");
        assert_eq!((&of_logits.base.path, &of_logits.base.logits), (&path, &Some(logits.clone())), "{case}");
        assert_eq!(of_logits.base.matrices[0].ty, "F32", "{case}: size and speed are the model's");
        let [ours, exact] = [&of_logits, &report].map(|report| report.base.perplexity.clone().unwrap());
        assert_eq!((ours.chunks, ours.context, ours.scored), (exact.chunks, exact.context, exact.scored));
        for (ours, exact) in [(ours.nll, exact.nll), (ours.perplexity, exact.perplexity)] {
            // They are rounded to 16 bits.
            let near = |a: f64, b: f64| (a - b).abs() < 1e-3 * b;
            assert!(
                near(ours.value, exact.value) && near(ours.error, exact.error),
                "{case}: {ours:?}, {exact:?}"
            );
        }
        assert!(of_logits.to_string().contains("of its text the logits in base.logits"), "{of_logits}");
    }
    options.text = Some(Text { text: None, context: None, chunks: 2 });
    assert_eq!(measured(&path, &options).types[0].divergence.as_ref().unwrap().means.chunks, 2);
}

/// All have their turn in a round before the next begins, and that when all else is done.
#[test]
fn speeds_are_measured_in_rounds() {
    let (_folder, path, mut options) = files();
    options.recipes.truncate(2);
    options.rounds = 3;
    let mut turns: Vec<String> = Vec::new();
    let mut last = 0;
    let comparison = Comparison::new(&path, &options).unwrap();
    let report = comparison.run(|Progress { subject, step, done, total }| {
        if step == Step::Speed {
            assert_eq!(total, 3 * 3 * 3, "{subject}");
            assert!(done == last || done == last + 1, "{subject}: {done} after {last}");
            last = done;
            if turns.last().is_none_or(|turn| turn != subject) {
                turns.push(subject.into());
            }
        } else {
            assert!(turns.is_empty(), "{subject}: {step}");
        }
        Ok::<_, Error>(())
    });
    assert_eq!(last, 27);
    assert_eq!(turns, ["base", "Q4_0", "Q8_0"].repeat(3));
    let report = report.unwrap();
    assert_eq!(report.rounds, 3);
    assert_eq!(report.base.speed.decode.by_base.rounds, [1.0; 3]);
    assert!(report.types.iter().all(|row| row.speed.prefill.tokens_per_second.rounds.len() == 3));
}

#[test]
fn tables_have_a_row_for_each_type() {
    let (_folder, path, mut options) = files();
    options.rounds = 2;
    for has_text in [true, false] {
        options.text = options.text.filter(|_| has_text);
        let report = measured(&path, &options);
        let text = report.to_string();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        let header = "type, bits per weight, of matrices, error of weights, perplexity, KL divergence, \
                      same top-1, prefill tok/s, × base, decode tok/s, × base, of roofline, matrices";
        assert_eq!(rows[0].iter().map(|cell| cell.replace(',', "")).collect::<Vec<_>>().join(", "), header);
        assert_eq!(rows.len(), 2 + 1 + TYPES.len(), "{text}");
        assert!(rows.iter().all(|row| row.len() == 13), "{text}");
        assert_eq!(rows[2][0], "base");
        assert_eq!((rows[2][8], rows[2][10], rows[2][12]), ("1.00", "1.00", "F32"));
        for (row, cells) in report.types.iter().zip(&rows[3..]) {
            assert_eq!(cells[0], row.name);
            assert_eq!(cells[1], format!("{:.3}", row.size.bits_per_weight));
            assert_eq!(cells[2], format!("{:.3}", row.size.matrix_bits_per_weight));
            for (cell, rate) in [(cells[8], &row.speed.prefill), (cells[10], &row.speed.decode)] {
                let Figure { median, low, high, .. } = rate.by_base;
                assert_eq!(cell, format!("{median:.2} [{low:.2}–{high:.2}]"), "{cells:?}");
            }
            let [low, median, high] = {
                let Figure { low, median, high, .. } = row.speed.roofline_share;
                [low, median, high].map(|share| format!("{:.0}", 100.0 * share))
            };
            assert_eq!(cells[11], format!("{median} [{low}–{high}] %"), "{cells:?}");
            match &row.divergence {
                Some(divergence) => {
                    let figures = &divergence.means;
                    let start = |value: String| value + " ± ";
                    assert!(
                        cells[4].starts_with(&start(format!("{:.3}", figures.perplexity.value))),
                        "{cells:?}"
                    );
                    assert!(
                        cells[5].starts_with(&start(format!("{:.5}", figures.kl_divergence.value))),
                        "{cells:?}"
                    );
                    let share = format!("{:.1}", 100.0 * figures.same_top.value);
                    assert!(cells[6].starts_with(&start(share)), "{cells:?}");
                }
                None => assert_eq!(cells[4..7], ["–"; 3]),
            }
        }
        assert_eq!(rows[3][12].split(" %").count(), 3, "Q4_0, and Q8_0 instead of Q6_K: {}", rows[3][12]);
        assert!(rows[3][12].ends_with("% instead of Q6_K"), "{}", rows[3][12]);
        assert!(rows[5][12].contains("% instead of Q6_K, Q8_0 "), "{}", rows[5][12]);
        assert_eq!(rows[6][3], "0 %");
        assert_eq!(text.contains("chunks of 40 tokens, of which 114 are scored"), has_text, "{text}");
    }
}

/// A box around words: left, top, right, bottom. Letters are somewhat narrower than they are drawn.
fn words(node: &roxmltree::Node<'_, '_>) -> ([f64; 4], String) {
    let text = node.text().unwrap().trim().to_owned();
    let at = |name: &str| node.attribute(name).unwrap().parse::<f64>().unwrap();
    let half = 7.0 * text.chars().count() as f64 / 2.0;
    ([at("x") - half, at("y") - 11.0, at("x") + half, at("y") + 3.0], text)
}

fn overlap(a: [f64; 4], b: [f64; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

#[test]
fn figures_show_each_type_twice_and_no_name_on_another() {
    let (_folder, path, options) = files();
    let report = measured(&path, &options);
    let names = ["Q4_0", "Q4_K_M", "IQ4_NL", "IQ4_XS", "MXFP4", "NVFP4", "Q5_K_M", "Q6_K", "Q8_0", "a<b&c\""];
    let many = |at: &dyn Fn(usize) -> (f64, f64, f64)| {
        let mut report = report.clone();
        let row = report.types[0].clone();
        report.types = names
            .iter()
            .enumerate()
            .map(|(i, &name)| {
                let mut row = row.clone();
                row.name = name.into();
                let means = &mut row.divergence.as_mut().unwrap().means;
                let (divergence, bits, speed) = at(i);
                (means.kl_divergence.value, row.size.bits_per_weight) = (divergence, bits);
                means.kl_divergence.error = 0.2 * divergence;
                let rounds = vec![0.8 * speed, speed, 1.1 * speed];
                row.speed.decode.tokens_per_second =
                    Figure { median: speed, low: 0.9 * speed, high: 1.05 * speed, rounds };
                row
            })
            .collect();
        report
    };
    let mut without_text = report.clone();
    without_text.types.iter_mut().for_each(|row| row.divergence = None);
    let some = |i: usize| i as f64;
    let cases = [
        ("as measured", report.clone()),
        ("without a text", without_text),
        ("spread", many(&|i| (0.5 / 2_f64.powf(some(i)), 2.0 + 0.6 * some(i), 60.0 - 4.0 * some(i)))),
        ("all in one place", many(&|_| (0.01, 4.5, 50.0))),
        ("two places", many(&|i| (0.01 + 0.1 * some(i % 2), 4.5 + some(i % 2), 50.0))),
        ("crowded", many(&|i| (0.02 + 0.0001 * some(i), 4.5 + 0.01 * some(i * 7 % 10), 50.0 + some(i)))),
        ("many decades", many(&|i| (10_f64.powf(1.0 - some(i)), 1.5 + 0.7 * some(i), 90.0 - 8.0 * some(i)))),
        ("nothing lost", many(&|i| (0.0, 8.5 + some(i), 30.0))),
        ("some beyond", many(&|i| ([0.0, -1e-9, f64::INFINITY, 0.1][i % 4], 4.0 + some(i), 30.0 + some(i)))),
    ];
    for (case, report) in cases {
        let picture = figure(&report);
        let document = roxmltree::Document::parse(&picture).unwrap_or_else(|error| panic!("{case}: {error}"));
        let of_class = |node: &roxmltree::Node<'_, '_>, class: &str| node.attribute("class") == Some(class);
        for number in document.descendants().flat_map(|node| node.attributes()) {
            assert!(!number.value().contains("NaN") && !number.value().contains("inf"), "{case}: {number:?}");
        }
        let plots: Vec<_> = document.descendants().filter(|node| of_class(node, "plot")).collect();
        assert_eq!(plots.len(), 2, "{case}");
        for plot in plots {
            let types: Vec<_> = plot.children().filter(|node| of_class(node, "type")).collect();
            assert_eq!(types.len(), report.types.len(), "{case}");
            let mut boxes = Vec::new();
            let mut points = Vec::new();
            for (group, row) in types.iter().zip(&report.types) {
                let all =
                    |tag: &str| group.children().filter(|node| node.has_tag_name(tag)).collect::<Vec<_>>();
                let (texts, circles) = (all("text"), all("circle"));
                assert_eq!((texts.len(), circles.len()), (1, 1), "{case}: {}", row.name);
                let (area, label) = words(&texts[0]);
                assert!(label.starts_with(&row.name), "{case}: {label}");
                boxes.push((area, label));
                points.push(
                    ["cx", "cy"].map(|name| circles[0].attribute(name).unwrap().parse::<f64>().unwrap()),
                );
            }
            for (i, (area, label)) in boxes.iter().enumerate() {
                assert!(
                    area[0] > 0.0 && area[2] < 1040.0 && area[1] > 46.0,
                    "{case}: {label} is outside: {area:?}"
                );
                for (other, others) in &boxes[i + 1..] {
                    assert!(!overlap(*area, *other), "{case}: {label} and {others} overlap");
                }
                for [x, y] in &points {
                    assert!(
                        !overlap(*area, [x - 4.0, y - 4.0, x + 4.0, y + 4.0]),
                        "{case}: a point is on {label}"
                    );
                }
            }
        }
        let has = |text: &str| {
            document.descendants().any(|node| node.text().is_some_and(|words| words.trim() == text))
        };
        assert!(has("size of the file, bits per weight") && has("decoding, tokens per second"), "{case}");
        let has_text = report.types[0].divergence.is_some();
        assert_eq!(has("KL divergence from the base, nats per token"), has_text, "{case}");
        assert_eq!(has("relative RMS error of weights"), !has_text, "{case}");
    }
}

#[test]
fn progress_is_told_and_may_end_it() {
    let (folder, path, mut options) = files();
    let keep = folder.path().join("kept");
    options.keep = Some(keep.clone());
    options.recipes.truncate(1);
    let mut steps: Vec<(String, Step)> = Vec::new();
    let comparison = Comparison::new(&path, &options).unwrap();
    let finished = comparison.run(|Progress { subject, step, done, total }| {
        assert!(done <= total && total > 0, "{subject}: {done} of {total}");
        if steps.last().is_none_or(|last| *last != (subject.into(), step)) {
            assert!(done == 0 || (subject, step) == ("Q4_0", Step::Speed), "{subject}: {step}");
            steps.push((subject.into(), step));
        }
        Ok::<_, Error>(())
    });
    finished.unwrap();
    let expected = [
        ("base", Step::Text),
        ("Q4_0", Step::Quantize),
        ("Q4_0", Step::Weights),
        ("Q4_0", Step::Text),
        ("base", Step::Speed),
        ("Q4_0", Step::Speed),
    ];
    assert_eq!(steps, expected.map(|(subject, step)| (subject.into(), step)));

    for stop in expected {
        fs::remove_dir_all(&keep).unwrap();
        let comparison = Comparison::new(&path, &options).unwrap();
        let ended = comparison.run(|progress| {
            let is_here = (progress.subject, progress.step) == stop && progress.done > 0;
            if is_here { Err(Error::NoTokens) } else { Ok(()) }
        });
        let error = ended.unwrap_err();
        assert!(matches!(error, Error::NoTokens), "{stop:?}: {error}");
        let left: Vec<_> = fs::read_dir(&keep).unwrap().map(|file| file.unwrap().file_name()).collect();
        // What was whole and was to be kept is.
        let is_whole = ![("base", Step::Text), ("Q4_0", Step::Quantize)].contains(&stop);
        let expected: &[&str] = if is_whole { &["tiny.Q4_0.gguf"] } else { &[] };
        assert_eq!(left, expected, "{stop:?}");
    }
}

#[test]
fn what_can_not_be_done_is_said_before_anything_is_made() {
    let (folder, path, options) = files();
    let keep = folder.path().join("kept");
    fs::create_dir(&keep).unwrap();
    fs::write(keep.join("tiny.Q8_0.gguf"), "mine").unwrap();
    let [logits, foreign] = ["base.logits", "foreign.logits"].map(|name| folder.path().join(name));
    let other = folder.path().join("other.gguf");
    TinyModel::new(&tiny::Shape { vocab: 300, ..SHAPE }).write(&other);
    for (model, logits) in [(&path, &logits), (&other, &foreign)] {
        let model = Model::load(model, Some(1)).unwrap();
        let chunks = Chunks::of_text(&model, &text(), 40, 6).unwrap();
        write_base(&model, &chunks, CacheTypes::default(), logits, |_| Ok::<_, Error>(())).unwrap();
    }
    let case = |change: &dyn Fn(&mut Options)| {
        let mut options = options.clone();
        change(&mut options);
        options
    };
    let cases = [
        (case(&|o| o.recipes.clear()), "no type is named"),
        (case(&|o| o.recipes.push(recipe("q4_0"))), "Q4_0 is there twice"),
        (case(&|o| o.recipes[0].pure = true), ""),
        (case(&|o| o.text.as_mut().unwrap().text = None), "there is no text to score"),
        (case(&|o| o.base = Some(logits.clone())), ""),
        (
            case(&|o| (o.base, o.text) = (Some(logits.clone()), None)),
            "base.logits: holds logits, which are of use for a text alone",
        ),
        (
            case(&|o| {
                o.base = Some(logits.clone());
                o.text.as_mut().unwrap().context = Some(20);
            }),
            "base.logits: was written with a context of 40 tokens, not 20",
        ),
        (
            case(&|o| {
                o.base = Some(logits.clone());
                o.text.as_mut().unwrap().text = Some(text().replace('a', "e"));
            }),
            "base.logits: was written for another text",
        ),
        (
            case(&|o| (o.base, o.text.as_mut().unwrap().text) = (Some(foreign.clone()), None)),
            "foreign.logits: was written for 300 tokens, and ",
        ),
        (case(&|o| o.base = Some(keep.join("tiny.Q8_0.gguf"))), "it begins with \"mine\", not \"_logits_\""),
        (case(&|o| o.recipes[2].pure = true), "no whole blocks of Q6_K, 256 each"),
        (case(&|o| o.base = Some(folder.path().join("none.gguf"))), "none.gguf: "),
        (case(&|o| o.prompt = Some(81)), "a context of 81 tokens is more than the 80"),
        (case(&|o| o.generate = Some(81)), "a context of 81 tokens is more than the 80"),
        (
            case(&|o| o.text.as_mut().unwrap().context = Some(81)),
            "a context of 81 tokens is more than the 80",
        ),
        (
            case(&|o| o.text.as_mut().unwrap().text = Some(text()[..20].into())),
            "a context of 40 tokens takes a text of 80",
        ),
        (case(&|o| o.keep = Some(keep.clone())), "tiny.Q8_0.gguf: is there already"),
        (case(&|o| o.keep = Some(path.clone())), "tiny.gguf: "),
        (case(&|o| o.threads = Some(5000)), "can't start 5000 threads"),
    ];
    for (options, expected) in cases {
        match Comparison::new(&path, &options) {
            Ok(_) => assert!(expected.is_empty(), "expected {expected}"),
            Err(error) => {
                let error = error.to_string();
                assert!(!expected.is_empty() && error.contains(expected), "{error}, expected {expected}");
            }
        }
    }
    assert_eq!(fs::read_dir(&keep).unwrap().count(), 1);
}
