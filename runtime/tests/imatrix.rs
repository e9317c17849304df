//! Files of importance matrices: both of llama.cpp's formats, whole and damaged.

use std::fs;
use std::path::{Path, PathBuf};

use quantloom::gguf::{Gguf, GgufWriter, TensorType, Value};
use quantloom::imatrix::{Entry, Imatrix, check_target};
use tempfile::TempDir;

fn entry(sums: &[f32], counts: &[f32]) -> Entry {
    Entry { sums: sums.to_vec(), counts: counts.to_vec() }
}

fn example() -> Imatrix {
    let mut imatrix = Imatrix::default();
    (imatrix.chunks, imatrix.context) = (3, 512);
    imatrix.datasets.push("a text.txt".into());
    imatrix.entries.insert("blk.0.ffn_up.weight".into(), entry(&[1.0, 0.0, 2.5], &[1536.0]));
    imatrix.entries.insert("blk.0.exps.weight".into(), entry(&[1.0, 2.0, 3.0, 4.0], &[7.0, 0.0]));
    imatrix
}

#[test]
fn a_file_is_laid_out_as_llama_cpp_lays_it_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.gguf");
    let imatrix = example();
    imatrix.write(&path).unwrap();
    let file = Gguf::open(&path).unwrap();
    let keys: Vec<_> = file.metadata().iter().map(|(key, value)| (key, value.clone())).collect();
    let expected = [
        ("general.type", Value::from("imatrix")),
        ("imatrix.datasets", vec!["a text.txt".to_owned()].into()),
        ("imatrix.chunk_count", 3_u32.into()),
        ("imatrix.chunk_size", 512_u32.into()),
    ];
    assert_eq!(keys, expected);
    let tensors: Vec<(&str, &[usize], Vec<f32>)> = file
        .tensors()
        .iter()
        .map(|tensor| {
            assert_eq!(tensor.ty(), TensorType::F32);
            let values = tensor.data().as_chunks().0.iter().map(|value| f32::from_le_bytes(*value));
            (tensor.name(), tensor.dims(), values.collect())
        })
        .collect();
    let expected: [(&str, &[usize], Vec<f32>); 4] = [
        ("blk.0.exps.weight.in_sum2", &[2, 2], vec![1.0, 2.0, 3.0, 4.0]),
        ("blk.0.exps.weight.counts", &[1, 2], vec![7.0, 0.0]),
        ("blk.0.ffn_up.weight.in_sum2", &[3, 1], vec![1.0, 0.0, 2.5]),
        ("blk.0.ffn_up.weight.counts", &[1, 1], vec![1536.0]),
    ];
    assert_eq!(tensors, expected);

    let read = Imatrix::open(&path).unwrap();
    assert_eq!((read.path(), imatrix.path()), (Some(&*path), None));
    assert_same(&read, &imatrix, "GGUF");
}

/// All but where it was read from.
#[track_caller]
fn assert_same(a: &Imatrix, b: &Imatrix, case: &str) {
    assert_eq!(a.entries, b.entries, "{case}");
    assert_eq!((&a.datasets, a.chunks, a.context), (&b.datasets, b.chunks, b.context), "{case}");
}

/// Newer ones of llama.cpp have plain sums, too.
#[test]
fn other_tensors_are_no_matter() {
    let folder = tempfile::tempdir().unwrap();
    let path =
        gguf(&folder, &[], &[("x.in_sum2", &[1.0, 2.0]), ("x.counts", &[4.0]), ("x.in_sum", &[-1.0, 1.0])]);
    let read = Imatrix::open(path).unwrap();
    assert_eq!(read.entries.into_iter().collect::<Vec<_>>(), [("x".into(), entry(&[1.0, 2.0], &[4.0]))]);
}

/// A GGUF file with what an importance matrix has, but for changes of keys, and these vectors.
fn gguf(folder: &TempDir, changes: &[(&str, Option<Value>)], tensors: &[(&str, &[f32])]) -> PathBuf {
    let path = folder.path().join("x.gguf");
    let mut writer = GgufWriter::new(&path);
    let keys = [
        ("general.type", "imatrix".into()),
        ("imatrix.datasets", Value::from(Vec::<String>::new())),
        ("imatrix.chunk_count", 1_u32.into()),
        ("imatrix.chunk_size", 512_u32.into()),
    ];
    for (key, value) in keys {
        let change = changes.iter().find(|(changed, _)| *changed == key);
        if let Some(value) = change.map_or(Some(value), |(_, value)| value.clone()) {
            writer.metadata(key, value).unwrap();
        }
    }
    for (name, values) in tensors {
        let write =
            |out: &mut dyn std::io::Write| values.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()));
        writer.tensor(*name, &[values.len()], TensorType::F32, write).unwrap();
    }
    writer.write().unwrap();
    path
}

#[test]
fn what_is_wrong_with_a_gguf_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let good: &[(&str, &[f32])] = &[("x.in_sum2", &[1.0, 2.0]), ("x.counts", &[4.0])];
    type Case<'a> = (&'a [(&'a str, Option<Value>)], &'a [(&'a str, &'a [f32])], &'a str);
    let cases: &[Case] = &[
        (&[("general.type", None)], good, ""),
        (
            &[("general.type", Some("model".into()))],
            good,
            "is no importance matrix, but a GGUF file of the type \"model\"",
        ),
        (&[("imatrix.chunk_count", None)], good, "key `imatrix.chunk_count` is missing"),
        (&[("imatrix.chunk_size", Some("512".into()))], good, "key `imatrix.chunk_size` is "),
        (&[("imatrix.datasets", None)], good, "key `imatrix.datasets` is missing"),
        (&[], &[], "holds no entries"),
        (&[], &[("x.in_sum2", &[1.0])], "tensor `x.counts` is missing"),
        (&[], &[("x.counts", &[1.0])], "tensor `x.counts` counts sums that are not there"),
        (
            &[],
            &[("x.in_sum2", &[1.0]), ("x.counts", &[1.0, 2.0])],
            "entry `x` has sums for 1 matrices, and counts for 2",
        ),
        (
            &[],
            &[("x.in_sum2", &[1.0, f32::NAN]), ("x.counts", &[1.0])],
            "entry `x` has NaN among its sums, at index 1",
        ),
        (
            &[],
            &[("x.in_sum2", &[-0.5]), ("x.counts", &[1.0])],
            "entry `x` has -0.5 among its sums, at index 0",
        ),
        (&[], &[("x.in_sum2", &[1.0]), ("x.counts", &[f32::INFINITY])], "entry `x` has inf among its counts"),
    ];
    for (changes, tensors, problem) in cases {
        let path = gguf(&folder, changes, tensors);
        assert_problem(&path, problem);
    }
    let path = folder.path().join("x.gguf");
    let mut writer = GgufWriter::new(&path);
    for (key, value) in [("imatrix.chunk_count", 1_u32), ("imatrix.chunk_size", 512)] {
        writer.metadata(key, value).unwrap();
    }
    writer.metadata("imatrix.datasets", Vec::<String>::new()).unwrap();
    writer.tensor("x.in_sum2", &[2], TensorType::F16, |out| out.write_all(&[0; 4])).unwrap();
    writer.tensor("x.counts", &[1], TensorType::F32, |out| out.write_all(&[0; 4])).unwrap();
    writer.write().unwrap();
    assert_problem(&path, "tensor `x.in_sum2` is F16; those of importance matrices are F32");
}

/// An empty problem is none.
#[track_caller]
fn assert_problem(path: &Path, problem: &str) {
    match Imatrix::open(path) {
        Ok(imatrix) => assert_eq!(problem, "", "{imatrix:?}"),
        Err(error) => {
            let text = error.to_string();
            assert!(!problem.is_empty() && text.contains(problem), "{text}, expected {problem}");
            assert!(text.starts_with(path.to_str().unwrap()) && text.lines().count() == 1, "{text}");
        }
    }
}

/// A file of the older format: entries of name, chunks and values, then what stands at its end.
fn legacy(entries: &[(&str, i32, &[f32])], end: &[&[u8]]) -> Vec<u8> {
    let number = |n: usize| (n as i32).to_le_bytes();
    let mut bytes = number(entries.len()).to_vec();
    for (name, chunks, values) in entries {
        bytes.extend(number(name.len()));
        bytes.extend(name.bytes());
        bytes.extend(chunks.to_le_bytes());
        bytes.extend(number(values.len()));
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    end.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

#[test]
fn the_older_format_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.dat");
    let entries: &[(&str, i32, &[f32])] = &[("b", 3, &[3.0, 6.0]), ("a", 0, &[1.0])];
    let mut expected = Imatrix::default();
    expected.entries.insert("a".into(), entry(&[1.0], &[1.0]));
    expected.entries.insert("b".into(), entry(&[3.0, 6.0], &[3.0]));
    let chunks = 12_i32.to_le_bytes();
    let name = [&5_i32.to_le_bytes()[..], b"x.txt"].concat();
    let unnamed = 0_i32.to_le_bytes();
    for end in [&[][..], &[&chunks[..]], &[&chunks, &unnamed], &[&chunks, &name]] {
        expected.chunks = if end.is_empty() { 0 } else { 12 };
        expected.datasets = if end.contains(&&*name) { vec!["x.txt".into()] } else { vec![] };
        fs::write(&path, legacy(entries, end)).unwrap();
        let read = Imatrix::open(&path).unwrap();
        assert_same(&read, &expected, &format!("{end:?}"));
        assert_eq!(read.path(), Some(&*path));
    }
}

#[test]
fn what_is_wrong_with_an_older_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.dat");
    let good = legacy(&[("ab", 1, &[1.0, 2.0])], &[&1_i32.to_le_bytes(), &1_i32.to_le_bytes(), b"t"]);
    // Where what stands in it: 0 entries, 4 length, 8 name, 10 chunks, 14 values, 18 and 22, 26 chunks, 30 length.
    let with = |at: usize, number: i32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    let largest = i32::MAX;
    let cases = [
        (b"".to_vec(), "the number of entries, at byte 0, is past the end of the file at 0"),
        (b"abc".to_vec(), "the number of entries, at byte 0, is past the end"),
        (
            b"<html><body>not an importance matrix</body></html>".to_vec(),
            "is no importance matrix: neither GGUF nor of llama.cpp's older format, whose first number is that of entries, here 1836345404",
        ),
        (with(0, 0), "is that of entries, here 0"),
        (with(0, -1), "is that of entries, here -1"),
        (with(0, largest), "is that of entries, here 2147483647"),
        (with(0, 2), "is that of entries, here 2"),
        (
            legacy(&[("a", 1, &[1.0]), ("b", 1, &[1.0; 20])], &[])[..50].to_vec(),
            "the number of values of entry `b`, at byte 30, is 20, and 16 bytes are left",
        ),
        (with(4, 0), "the number of values of entry ``, at byte 12, is 131072, and"),
        (with(4, -2), "the length of the name of entry 0, at byte 4, is -2, and"),
        (
            with(4, largest),
            "the length of the name of entry 0, at byte 4, is 2147483647, and 27 bytes are left",
        ),
        (with(8, -1), "the name of entry 0 is not valid UTF-8"),
        (with(14, 0), "entry `ab` has no values"),
        (with(14, -1), "the number of values of entry `ab`, at byte 14, is -1, and"),
        (
            with(14, largest),
            "the number of values of entry `ab`, at byte 14, is 2147483647, and 17 bytes are left",
        ),
        (with(18, f32::NAN.to_bits() as i32), "entry `ab` has NaN among its sums, at index 0"),
        (with(22, (-1.0_f32).to_bits() as i32), "entry `ab` has -1 among its sums, at index 1"),
        (with(30, -1), "the length of the name of the text, at byte 30, is -1"),
        (
            with(30, largest),
            "the length of the name of the text, at byte 30, is 2147483647, and 1 bytes are left",
        ),
        (legacy(&[("a", 1, &[1.0]), ("a", 1, &[1.0])], &[]), "entry `a` occurs twice"),
        (
            legacy(&[(&"a".repeat(4097), 1, &[1.0])], &[]),
            "the name of entry 0 has 4097 bytes; the most is 4096",
        ),
    ];
    for (bytes, problem) in cases {
        fs::write(&path, bytes).unwrap();
        assert_problem(&path, problem);
    }
    // Cut anywhere but where it may end: after the entries, and after the number of chunks.
    for len in (0..good.len()).filter(|len| ![26, 30].contains(len)) {
        fs::write(&path, &good[..len]).unwrap();
        assert!(Imatrix::open(&path).is_err(), "{len} bytes");
    }
    assert_problem(folder.path(), "is not a regular file");
    assert_problem(&folder.path().join("none"), "none: ");
}

/// Files as long as they like: what they claim to hold is not set aside.
#[cfg(unix)]
#[test]
fn hostile_lengths_set_nothing_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imatrix.dat");
    let mut bytes = legacy(&[("a", 1, &[])], &[]);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&i32::MAX.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    assert_problem(&path, "the values up to those of `a` are more than 268435456");
}

#[test]
fn only_importance_matrices_are_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let [path, other] = ["imatrix.gguf", "model.gguf"].map(|name| folder.path().join(name));
    check_target(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of the check");
    example().write(&path).unwrap();
    example().write(&path).unwrap();
    fs::write(&other, "precious").unwrap();
    let nowhere = folder.path().join("missing").join("imatrix.gguf");
    for (path, problem) in [
        (&other, "model.gguf: is there, and no importance matrix"),
        (&nowhere, "missing"),
        (&folder.path().to_owned(), "is there, and no importance matrix"),
    ] {
        for result in [check_target(path), example().write(path)] {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}, expected {problem}");
        }
    }
    assert_eq!(fs::read(&other).unwrap(), b"precious");
}
