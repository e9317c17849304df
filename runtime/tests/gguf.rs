//! The GGUF reader against good, damaged and random files, and the writer against the reader.

use std::alloc::{GlobalAlloc, Layout, System};
use std::borrow::Cow;
use std::cell::Cell;
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::{fs, slice};

use proptest::collection::vec;
use proptest::prelude::*;
use quantloom::gguf::{Array, Formats, Gguf, GgufWriter, Metadata, Strings, TensorType, Value};
use quantloom_kernels::formats::Q4_0;
use quantloom_kernels::{BlockFormat, FORMATS, Format, FormatParts};

type TestResult = Result<(), Box<dyn Error>>;

/// Notes each thread's largest allocation.
struct Watermark;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    LARGEST.with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: every request goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Watermark {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the promises of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watermark = Watermark;

/// Parses `bytes`, checks what the reader promises of any input, and returns the text of the error.
fn parse(bytes: &[u8]) -> Result<Gguf, String> {
    LARGEST.set(0);
    let parsed = Gguf::from_bytes("bad.gguf", bytes);
    let largest = LARGEST.get();
    // The costliest item is a key: 13 bytes in the file, two table entries in memory.
    assert!(largest <= 8 * bytes.len() + (64 << 10), "{largest} bytes at once for a file of {}", bytes.len());
    match parsed {
        Ok(file) => {
            for tensor in file.tensors() {
                assert_eq!(tensor.data().len(), tensor.rows() * tensor.row_bytes(), "{tensor:?}");
                assert!(tensor.data().as_ptr().addr().is_multiple_of(file.alignment()), "{tensor:?}");
            }
            Ok(file)
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("bad.gguf: "), "{text}");
            assert!(!text.contains(char::is_control) && text.len() < 1000, "{text:?}");
            Err(text)
        }
    }
}

/// A file in pieces, so that a test can make any of them wrong.
struct Parts {
    magic: [u8; 4],
    version: u32,
    n_tensors: u64,
    n_keys: u64,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Entry>,
    alignment: usize,
    data: Vec<u8>,
}

struct Entry {
    name: Vec<u8>,
    n_dims: u32,
    dims: Vec<u64>,
    ty: u32,
    offset: u64,
}

impl Parts {
    /// A good file with a key of every shape and two tensors, the last of which ends with the file.
    fn good() -> Self {
        let keys = vec![
            key("general.architecture", 8, &string(b"llama")),
            key("flag", 7, &[1]),
            key("tokens", 9, &array(8, 2, &[string(b"<s>"), string(b"\xe2\x96\x81a")].concat())),
            key("scores", 9, &array(6, 2, &[0; 8])),
        ];
        let tensors = vec![entry("w", &[64, 2], 2, 0), entry("norm", &[8], 0, 96)];
        let (n_tensors, n_keys) = (tensors.len() as u64, keys.len() as u64);
        Self {
            magic: *b"GGUF",
            version: 3,
            n_tensors,
            n_keys,
            keys,
            tensors,
            alignment: 32,
            data: vec![1; 128],
        }
    }

    fn add_key(&mut self, bytes: Vec<u8>) {
        self.keys.push(bytes);
        self.n_keys += 1;
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = self.magic.to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend(self.n_tensors.to_le_bytes());
        out.extend(self.n_keys.to_le_bytes());
        out.extend(self.keys.concat());
        for Entry { name, n_dims, dims, ty, offset } in &self.tensors {
            out.extend(string(name));
            out.extend(n_dims.to_le_bytes());
            out.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
            out.extend(ty.to_le_bytes());
            out.extend(offset.to_le_bytes());
        }
        out.resize(out.len().next_multiple_of(self.alignment), 0);
        out.extend(&self.data);
        out
    }
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

fn key(name: &str, value_type: u32, value: &[u8]) -> Vec<u8> {
    [&string(name.as_bytes()), &value_type.to_le_bytes()[..], value].concat()
}

fn array(element_type: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    [&element_type.to_le_bytes()[..], &len.to_le_bytes(), elements].concat()
}

fn entry(name: &str, dims: &[u64], ty: u32, offset: u64) -> Entry {
    Entry { name: name.into(), n_dims: dims.len() as u32, dims: dims.to_vec(), ty, offset }
}

#[test]
fn good_files_are_read() -> TestResult {
    for version in [2, 3] {
        let file = parse(&Parts { version, ..Parts::good() }.bytes())?;
        assert_eq!((file.version(), file.alignment()), (version, 32));
        assert_eq!(file.metadata().require_str("general.architecture")?, "llama");
        let tokens = file.metadata().require_strings("tokens")?;
        assert_eq!(*tokens, ["<s>", "▁a"].into_iter().collect());
        assert_eq!(file.metadata().iter().map(|(key, _)| key).collect::<Vec<_>>()[1], "flag");
        let w = file.require_tensor("w")?;
        assert_eq!((w.cols(), w.rows(), w.row_bytes(), w.ty().name()), (64, 2, 36, "Q4_0"));
        let norm = file.require_tensor("norm")?.clone();
        let len = file.file_len();
        drop(file);
        assert_eq!((norm.dims(), norm.ty()), (&[8][..], TensorType::F32));
        assert_eq!(
            (norm.data(), norm.range()),
            (&[1; 32][..], len - 32..len),
            "a tensor keeps the map alive"
        );
    }
    Ok(())
}

type Damage = fn(&mut Parts);

#[test]
fn damage_is_named() {
    #[rustfmt::skip]
    let cases: &[(&str, Damage, &[&str])] = &[
        ("magic", |f| f.magic = *b"GG\nX", &[r#"is not a GGUF file: it begins with "GG\nX""#]),
        ("version 0", |f| f.version = 0, &["version 0"]),
        ("version 1", |f| f.version = 1, &["version 1", "2 and 3 are read", "convert"]),
        ("version 4", |f| f.version = 4, &["version 4"]),
        ("big-endian", |f| f.version = 3_u32.swap_bytes(), &["big-endian"]),

        ("tensor count", |f| f.n_tensors = u64::MAX, &["header claims 18446744073709551615 tensors"]),
        ("tensor count, product overflow", |f| f.n_tensors = 1 << 59, &["header claims 576460752303423488 tensors"]),
        ("key count", |f| f.n_keys = u64::MAX - 1, &["header claims 18446744073709551614 keys"]),
        ("one key too many", |f| f.n_keys += 1, &["name of tensor 0", "truncated"]),

        ("key length", |f| f.keys[1][..8].fill(0xff), &["name of key 1", "needs 18446744073709551615 bytes", "truncated"]),
        ("key not UTF-8", |f| f.keys[1][8] = 0xff, &["name of key 1 is not valid UTF-8"]),
        ("key twice", |f| f.add_key(key("flag", 7, &[0])), &["key `flag` occurs twice"]),
        ("value type", |f| f.add_key(key("k", 13, &[0; 8])), &["key `k` has the unknown value type 13"]),
        ("string length", |f| f.add_key(key("k", 8, &[0xff; 8])), &["key `k`", "needs 18446744073709551615 bytes"]),
        ("boolean", |f| f.add_key(key("k", 7, &[2])), &["key `k` is the boolean 2"]),
        ("array length", |f| f.add_key(key("k", 9, &array(6, u64::MAX, &[]))), &["key `k` claims 18446744073709551615 elements"]),
        ("array length, product overflow", |f| f.add_key(key("k", 9, &array(12, 1 << 61, &[0; 8]))), &["key `k` claims 2305843009213693952 elements"]),
        ("array element type", |f| f.add_key(key("k", 9, &array(77, 0, &[]))), &["key `k` has the unknown value type 77"]),
        ("array of arrays", |f| f.add_key(key("k", 9, &array(9, 1, &array(0, 0, &[])))), &["key `k` is an array of arrays"]),
        ("array string length", |f| f.add_key(key("k", 9, &array(8, 2, &[string(b"x"), vec![0xff; 8]].concat()))), &["element 1 of key `k`"]),
        ("array boolean", |f| f.add_key(key("k", 9, &array(7, 3, &[0, 1, 9]))), &["element 2 of key `k` is the boolean 9"]),
        ("name with a line break", |f| f.add_key(key("a\nb", 99, &[])), &[r"key `a\nb` has"]),
        ("endless name", |f| f.add_key(key(&"x".repeat(5000), 99, &[])), &["xxx…` has"]),

        ("alignment 0", |f| f.add_key(key("general.alignment", 4, &[0; 4])), &["key `general.alignment` is 0; expected a power of two from 8"]),
        ("alignment 4", |f| f.add_key(key("general.alignment", 4, &[4, 0, 0, 0])), &["key `general.alignment` is 4;"]),
        ("alignment 48", |f| f.add_key(key("general.alignment", 4, &[48, 0, 0, 0])), &["key `general.alignment` is 48;"]),
        ("alignment 2^31", |f| f.add_key(key("general.alignment", 4, &[0, 0, 0, 0x80])), &["key `general.alignment` is 2147483648;", "to 65536"]),
        ("alignment 2^32", |f| f.add_key(key("general.alignment", 10, &(1_u64 << 32).to_le_bytes())), &["key `general.alignment` is 4294967296 (u64); expected an integer"]),
        ("alignment a string", |f| f.add_key(key("general.alignment", 8, &string(b"32"))), &[r#"key `general.alignment` is "32" (string); expected an integer"#]),

        ("tensor name not UTF-8", |f| f.tensors[1].name = vec![0xff], &["name of tensor 1 is not valid UTF-8"]),
        ("tensor twice", |f| f.tensors[1].name = b"w".to_vec(), &["tensor `w` occurs twice"]),
        ("no dimensions", |f| f.tensors[0].n_dims = 0, &["tensor `w` has 0 dimensions; expected 1 to 4"]),
        ("five dimensions", |f| f.tensors[0].n_dims = 5, &["tensor `w` has 5 dimensions"]),
        ("endless dimensions", |f| f.tensors[0].n_dims = u32::MAX, &["tensor `w` has 4294967295 dimensions"]),
        ("dimension 0", |f| f.tensors[0].dims[1] = 0, &["tensor `w` has the shape [64, 0]; no dimension may be 0"]),
        ("weights overflow", |f| f.tensors[0].dims = vec![1 << 40, 1 << 40], &["tensor `w`", "too large"]),
        ("bytes overflow", |f| f.tensors[1].dims = vec![1 << 62], &["tensor `norm`", "too large"]),
        ("product overflows to 0", |f| f.tensors[1].dims = vec![u64::MAX / 2 + 1; 1], &["tensor `norm`", "too large"]),
        ("half a block", |f| f.tensors[0].dims[0] = 48, &["tensor `w` has rows of 48 weights; Q4_0 needs a multiple of its block of 32"]),
        ("type not built", |f| f.tensors[0].ty = 29, &["tensor `w` has type IQ1_M (29), which this build does not read; it reads F32, F16, BF16, Q4_0,"]),
        ("type taken back", |f| f.tensors[0].ty = 4, &["tensor `w` has the unknown type 4"]),
        ("type unknown", |f| f.tensors[0].ty = 999, &["tensor `w` has the unknown type 999"]),
        ("type of a fork", |f| f.tensors[0].ty = 144, &["tensor `w` has ik_llama.cpp's type IQ4_KS (144)"]),
        (
            "type of a fork that another build reads",
            |f| f.tensors[0].ty = 139,
            &["IQ4_K (139), which a build with `--features more-formats` reads"],
        ),
        ("type of rows side by side", |f| f.tensors[0].ty = 212, &["ik_llama.cpp's type 212, rows of another type"]),
        ("offset unaligned", |f| f.tensors[1].offset = 100, &["tensor `norm`: offset 100 is not a multiple of the alignment 32"]),
        ("offset beyond", |f| f.tensors[1].offset = 128, &["tensor `norm`: data [", "lies outside the file", "truncated"]),
        ("offset overflow", |f| f.tensors[1].offset = u64::MAX - 31, &["tensor `norm`: data [", "lies outside the file"]),
        ("overlap", |f| f.tensors[1].offset = 64, &["tensor `norm`: its data overlaps that of tensor `w`"]),
        ("same place", |f| f.tensors[1].offset = 0, &["overlaps"]),
        ("data missing", |f| f.data.clear(), &["tensor `w`: data [", "truncated"]),
    ];
    for (case, damage, fragments) in cases {
        let mut parts = Parts::good();
        damage(&mut parts);
        let text = parse(&parts.bytes()).expect_err(case);
        for fragment in *fragments {
            assert!(text.contains(fragment), "{case}: {text}\nlacks: {fragment}");
        }
    }
}

/// A sparse file is as long as it claims to be.
#[test]
#[cfg(target_pointer_width = "64")]
fn claims_of_a_sparse_file_are_limited() -> TestResult {
    const FILE_LEN: u64 = 80 << 30;
    let header = |n_tensors: u64, n_keys: u64, rest: &[u8]| {
        [b"GGUF\x03\0\0\0", &n_tensors.to_le_bytes()[..], &n_keys.to_le_bytes(), rest].concat()
    };
    let long = (60_u64 << 30).to_le_bytes();
    let strings = key("k", 9, &array(8, 9_000_000_000, &[]));
    let numbers = key("k", 9, &array(6, 9_000_000_000, &[]));
    let cases = [
        (header(2_000_000_000, 0, &[]), "the header claims 2000000000 tensors; the most is 65536"),
        (header(0, 2_000_000_000, &[]), "the header claims 2000000000 keys; the most is 65536"),
        (header(65_536, 0, &[]), "tensor `` has 0 dimensions"),
        (header(0, 65_536, &[]), "key `` occurs twice"),
        (header(0, 1, &long), "the name of key 0 claims 64424509440 bytes; the most is 16777216"),
        (header(1, 0, &long), "the name of tensor 0 claims 64424509440 bytes; the most is"),
        (header(0, 1, &key("k", 8, &long)), "key `k` claims 64424509440 bytes; the most is"),
        (header(0, 1, &strings), "key `k` claims 9000000000 elements; the most is 134217728"),
        (header(0, 1, &numbers), "key `k` claims 9000000000 elements; the most is"),
        (header(0, 1, &key("k", 9, &array(8, 2, &long))), "element 0 of key `k` claims 64424509440 bytes"),
        (header(0, 1, &key("k", 9, &array(8, 1 << 27, &u64::MAX.to_le_bytes()))), "element 0 of key `k`"),
    ];
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("sparse.gguf");
    for (bytes, fragment) in cases {
        fs::write(&path, bytes)?;
        fs::OpenOptions::new().write(true).open(&path)?.set_len(FILE_LEN)?;
        LARGEST.set(0);
        let text = Gguf::open(&path).expect_err(fragment).to_string();
        assert!(text.contains(fragment), "{text}\nlacks: {fragment}");
        assert!(LARGEST.get() <= 2 << 20, "{} bytes at once: {text}", LARGEST.get());
    }
    Ok(())
}

#[test]
fn truncation_at_any_byte_is_an_error() {
    let good = Parts::good().bytes();
    for len in 0..good.len() {
        let text = parse(&good[..len]).expect_err("a part of a file");
        assert!(
            ["truncated", "empty"].iter().any(|word| text.contains(word)),
            "{len} of {} bytes: {text}",
            good.len()
        );
    }
}

#[test]
fn only_the_formats_asked_for_are_read() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.gguf");
    fs::write(&path, Parts::good().bytes())?;
    let text = Gguf::open_with(&path, &Formats::NONE).expect_err("no formats").to_string();
    assert!(text.ends_with("Q4_0 (2), which this build does not read; it reads F32, F16, BF16"), "{text}");
    Gguf::open_with(&path, &Formats::NONE.with(&[Q4_0::FORMAT])?)?;
    Ok(())
}

#[test]
fn formats_that_can_not_be_told_apart_are_refused() {
    macro_rules! named {
        ($name:literal, $id:expr) => {{
            static FORMAT: Format =
                Format::new(FormatParts { name: $name, gguf_id: $id, ..*Q4_0::FORMAT.parts() });
            &FORMAT
        }};
    }
    let cases = [
        (named!("q4_0", None), "a second format called q4_0"),
        (named!("f16", None), "a second format called f16"),
        (named!("Mine", Some(2)), "Mine has the GGUF number 2, which is that of Q4_0"),
        (named!("Mine", Some(30)), "Mine has the GGUF number 30, which is that of BF16"),
        // Known to ggml, if not here.
        (named!("Mine", Some(29)), "Mine has the GGUF number 29, which is that of IQ1_M"),
    ];
    for (format, expected) in cases {
        let text = Formats::default().with(&[format]).expect_err(expected).to_string();
        assert!(text.starts_with(expected), "{text:?}, expected {expected:?}");
    }
    let good = [named!("IQ1_M", Some(29)), named!("Mine", Some(133)), named!("Unnumbered", None)];
    let formats = Formats::default().with(&good).expect("all differ");
    assert_eq!(formats.tensor_type("mine").and_then(TensorType::gguf_id), Some(133));
    assert!(formats.with(&good[1..2]).is_err(), "twice the same");
}

#[test]
fn what_is_no_file_is_refused() -> TestResult {
    let folder = tempfile::tempdir()?;
    let empty = folder.path().join("empty.gguf");
    fs::write(&empty, [])?;
    let absent = folder.path().join("absent.gguf");
    let cases = [
        (empty.as_path(), "the file is empty"),
        (&absent, "No such file"),
        (folder.path(), "is not a regular file"),
    ];
    for (path, fragment) in cases {
        let error = Gguf::open(path).expect_err(fragment);
        assert_eq!(error.path(), path);
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}: ", path.display())), "{text}");
        assert!(!cfg!(unix) || text.contains(fragment), "{text}");
    }
    Ok(())
}

#[test]
fn a_vocabulary_without_tensors_is_read() -> TestResult {
    let file = Gguf::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/llama-spm-vocab.gguf"))?;
    assert!(file.tensors().is_empty());
    let metadata = file.metadata();
    assert_eq!(metadata.require_str("tokenizer.ggml.model")?, "llama");
    assert_eq!(metadata.require_u32("tokenizer.ggml.bos_token_id")?, 1);
    let tokens = metadata.require_strings("tokenizer.ggml.tokens")?;
    assert_eq!((tokens.len(), tokens.get(1)), (32_000, Some(&b"<s>"[..])));
    assert_eq!(metadata.require_f32s("tokenizer.ggml.scores")?.len(), tokens.len());
    assert_eq!(metadata.require_i32s("tokenizer.ggml.token_type")?.len(), tokens.len());
    Ok(())
}

#[test]
fn getters_convert_what_fits_and_name_what_does_not() -> TestResult {
    let mut metadata = Metadata::new("m.gguf");
    metadata.insert("byte", 7_u8)?;
    metadata.insert("wide", 7_i64)?;
    metadata.insert("negative", -1_i32)?;
    metadata.insert("large", 1_u64 << 32)?;
    metadata.insert("double", 0.5_f64)?;
    metadata.insert("text", "x")?;
    metadata.insert("unsigned", vec![1_u32, 2])?;
    metadata.insert("too large", vec![u32::MAX])?;
    metadata.insert("words", vec!["a".to_owned()])?;

    assert_eq!(metadata.u32("byte")?, Some(7));
    assert_eq!(metadata.require_u32("wide")?, 7);
    assert_eq!(metadata.u32("absent")?, None);
    assert_eq!(metadata.require_f32("double")?, 0.5);
    assert_eq!(metadata.require_i32s("unsigned")?, Cow::Borrowed(&[1, 2]));
    assert_eq!(metadata.strings("words")?, Some(&["a"].into_iter().collect()));
    assert_eq!(metadata.bool("absent")?, None);

    let cases = [
        (metadata.require_u32("absent").err(), "m.gguf: key `absent` is missing"),
        (
            metadata.u32("negative").err(),
            "m.gguf: key `negative` is -1 (i32); expected an integer from 0 to 4294967295",
        ),
        (
            metadata.u32("large").err(),
            "m.gguf: key `large` is 4294967296 (u64); expected an integer from 0 to 4294967295",
        ),
        (
            metadata.f32("text").err(),
            r#"m.gguf: key `text` is "x" (string); expected a floating-point number"#,
        ),
        (metadata.bool("byte").err(), "m.gguf: key `byte` is 7 (u8); expected a boolean"),
        (metadata.str("words").err(), "m.gguf: key `words` is [1 × string] (array); expected a string"),
        (
            metadata.i32s("too large").err(),
            "m.gguf: key `too large` is [1 × u32] (array); expected an array of i32",
        ),
        (metadata.insert("text", "y").err(), "m.gguf: key `text` occurs twice"),
    ];
    for (error, text) in cases {
        assert_eq!(error.expect(text).to_string(), text);
    }
    Ok(())
}

#[test]
fn what_is_written_is_read() -> TestResult {
    let values: Vec<Value> = vec![
        u8::MAX.into(),
        i8::MIN.into(),
        u16::MAX.into(),
        i16::MIN.into(),
        u32::MAX.into(),
        i32::MIN.into(),
        f32::MIN_POSITIVE.into(),
        true.into(),
        "▁é\n\0".into(),
        u64::MAX.into(),
        i64::MIN.into(),
        f64::MAX.into(),
        vec![0_u8, 255].into(),
        vec![-128_i8, 127].into(),
        vec![0_u16, 65535].into(),
        vec![i16::MIN].into(),
        vec![u32::MAX; 3].into(),
        vec![i32::MIN; 3].into(),
        vec![0.5_f32, f32::INFINITY].into(),
        vec![true, false].into(),
        vec![String::new(), "x".into()].into(),
        vec![u64::MAX].into(),
        vec![i64::MIN].into(),
        vec![f64::MIN].into(),
        Value::Array(Array::String(Strings::default())),
    ];
    let folder = tempfile::tempdir()?;
    for alignment in [None, Some(8_u32), Some(4096)] {
        let path = folder.path().join("model.gguf");
        let mut writer = GgufWriter::new(&path);
        for (i, value) in values.iter().enumerate() {
            writer.metadata(format!("key.{i}"), value.clone())?;
        }
        if let Some(alignment) = alignment {
            writer.metadata("general.alignment", alignment)?;
        }
        let formats = FORMATS.iter().map(|&format| TensorType::Quantized(format));
        let types: Vec<_> =
            [TensorType::F32, TensorType::F16, TensorType::BF16].into_iter().chain(formats).collect();
        for (i, &ty) in types.iter().enumerate().filter(|(_, ty)| ty.gguf_id().is_some()) {
            let byte = i as u8;
            writer.tensor(format!("t.{i}"), &[256, 3, 1, 2], ty, move |out| {
                let bytes = 256 * 3 * 2 / ty.block_len() * ty.block_bytes();
                (0..bytes).try_for_each(|_| out.write_all(slice::from_ref(&byte)))
            })?;
        }
        writer.write()?;

        let file = Gguf::open(&path)?;
        assert_eq!(file.version(), 3);
        assert_eq!(file.alignment(), alignment.unwrap_or(32) as usize);
        assert!(file.file_len().is_multiple_of(file.alignment()));
        for (i, value) in values.iter().enumerate() {
            assert_eq!(file.metadata().get(&format!("key.{i}")), Some(value));
        }
        for (i, &ty) in types.iter().enumerate().filter(|(_, ty)| ty.gguf_id().is_some()) {
            let tensor = file.require_tensor(&format!("t.{i}"))?;
            assert_eq!((tensor.ty(), tensor.dims(), tensor.rows()), (ty, &[256, 3, 1, 2][..], 6));
            assert!(tensor.data().iter().all(|&byte| byte == i as u8), "{tensor:?}");
        }
    }
    Ok(())
}

#[test]
fn a_failed_write_leaves_what_was_there() -> TestResult {
    type Data = fn(&mut dyn Write) -> io::Result<()>;
    let cases: [(Data, &str); 3] = [
        (|_| Err(io::Error::other("no more data")), "no more data"),
        (|out| out.write_all(&[0; 12]), "tensor `t`: 12 bytes were supplied, expected 16"),
        (|out| out.write_all(&[0; 17]), "tensor `t`: 17 bytes were supplied, expected 16"),
    ];
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.gguf");
    fs::write(&path, "precious")?;
    for (data, fragment) in cases {
        let mut writer = GgufWriter::new(&path);
        writer.tensor("t", &[4], TensorType::F32, data)?;
        let text = writer.write().expect_err(fragment).to_string();
        assert!(text.contains(fragment), "{text}");
        assert_eq!(fs::read(&path)?, b"precious");
        assert_eq!(fs::read_dir(&folder)?.count(), 1, "no temporary file stays");
    }
    Ok(())
}

#[test]
fn the_writer_refuses_what_the_reader_would() -> TestResult {
    let empty: fn(&mut dyn Write) -> io::Result<()> = |_| Ok(());
    let q4_0 = FORMATS.iter().find(|format| format.name == "Q4_0").expect("Q4_0 is declared");
    let mut writer = GgufWriter::new("m.gguf");
    writer.tensor("t", &[4], TensorType::F32, empty)?;
    writer.metadata("general.alignment", 7_u32)?;
    let cases = [
        (writer.metadata("general.alignment", 8_u32).err(), "key `general.alignment` occurs twice"),
        (writer.tensor("t", &[4], TensorType::F32, empty).err(), "tensor `t` occurs twice"),
        (writer.tensor("a", &[], TensorType::F32, empty).err(), "tensor `a` has 0 dimensions"),
        (writer.tensor("b", &[1; 5], TensorType::F32, empty).err(), "tensor `b` has 5 dimensions"),
        (writer.tensor("c", &[4, 0], TensorType::F32, empty).err(), "tensor `c` has the shape [4, 0]"),
        (writer.tensor("d", &[usize::MAX], TensorType::F16, empty).err(), "too large"),
        (
            writer.tensor("e", &[33], TensorType::Quantized(q4_0), empty).err(),
            "a multiple of its block of 32",
        ),
        (writer.write().err(), "key `general.alignment` is 7"),
    ];
    for (error, fragment) in cases {
        let text = error.expect(fragment).to_string();
        assert!(text.starts_with("m.gguf: ") && text.contains(fragment), "{text}");
    }
    Ok(())
}

/// One small change of a file: at a place (modulo its length) a byte is changed, put in or taken out.
fn edits() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    vec((any::<usize>(), 0..3_u8, prop_oneof![any::<u8>(), Just(0), Just(0xff)]), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_do_no_harm(head in 0..=24_usize, tail in vec(any::<u8>(), 0..600)) {
        let mut bytes = Parts::good().bytes();
        bytes.truncate(head);
        bytes.extend(tail);
        parse(&bytes).ok();
    }

    #[test]
    fn random_damage_does_no_harm(edits in edits()) {
        let mut bytes = Parts::good().bytes();
        for (place, edit, byte) in edits {
            let place = place % bytes.len();
            match edit {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        parse(&bytes).ok();
    }
}
