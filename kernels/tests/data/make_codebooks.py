"""Writes src/codebooks.rs: the codebooks of ggml's IQ formats, as gguf has them.

    pip install gguf==0.19.0 && python make_codebooks.py
"""

from pathlib import Path

from gguf import quants

# Format, bits of a level, weights of an entry.
BOOKS = [("IQ2_XXS", 2, 8), ("IQ2_XS", 2, 8), ("IQ2_S", 2, 8), ("IQ3_XXS", 3, 4), ("IQ3_S", 3, 4), ("IQ1_S", 2, 8)]

HEAD = '''//! The codebooks of ggml's formats: which vectors of a few levels a code selects. They are what training found, and
//! follow no rule.
//!
//! An entry is one number here, the lowest bits of which select the level of its first weight.
//! `tests/data/make_codebooks.py` wrote this file.

/// Entries of `WEIGHTS` weights, whose levels are selected by `bits` bits each.
const fn unpack<const WEIGHTS: usize, const ENTRIES: usize>(
    packed: [u16; ENTRIES],
    bits: usize,
    levels: &[i8],
) -> [[i8; WEIGHTS]; ENTRIES] {
    let mut book = [[0; WEIGHTS]; ENTRIES];
    let mut entry = 0;
    while entry < ENTRIES {
        let mut weight = 0;
        while weight < WEIGHTS {
            let level = packed[entry] as usize >> (bits * weight) & ((1 << bits) - 1);
            book[entry][weight] = levels[level];
            weight += 1;
        }
        entry += 1;
    }
    book
}
'''


def main():
    text = HEAD
    for name, bits, weights in BOOKS:
        kind = getattr(quants, name)
        kind.init_grid()
        levels = [int(level) for level in kind.grid_map]
        rows = kind.grid.reshape(-1, weights)
        packed = [sum(levels.index(int(w)) << (bits * i) for i, w in enumerate(row)) for row in rows]
        text += f"\n/// Of {name}.\n"
        text += f"pub const {name}: [[i8; {weights}]; {len(rows)}] = unpack(\n    [\n"
        per_line = 12
        for first in range(0, len(packed), per_line):
            text += "        " + ", ".join(f"{entry:#06x}" for entry in packed[first : first + per_line]) + ",\n"
        text += f"    ],\n    {bits},\n    &{levels},\n);\n"
    (Path(__file__).parents[2] / "src" / "codebooks.rs").write_text(text)


if __name__ == "__main__":
    main()
