//! The files of `tests/data`, whose README says what they hold.

/// The bytes of a file.
pub fn bytes(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The f32 of a file.
pub fn floats(name: &str) -> Vec<f32> {
    bytes(name).as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
}
