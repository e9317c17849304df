"""Writes the fixtures of this directory; README.md says what they hold.

    pip install gguf==0.19.0 llama-cpp-python==0.3.36 && python make_fixtures.py
"""

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import dequantize, quantize

HERE = Path(__file__).parent
GGML = ctypes.CDLL(str(next((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.so"))))
F32 = np.float32

# Where each format keeps its f16 scales: those are chosen, the other bytes are random.
SCALES = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q2_K: [80, 82],
    Type.Q3_K: [108],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
    Type.IQ4_NL: [0],
    Type.IQ4_XS: [0],
    Type.TQ2_0: [64],
}

# Those with other scales, or none: any bytes of them are finite or infinite, none is NaN.
OTHERS = {
    Type.IQ2_XXS: [0],
    Type.IQ2_XS: [0],
    Type.IQ2_S: [0],
    Type.IQ3_XXS: [0],
    Type.IQ3_S: [0],
    Type.IQ1_S: [0],
    Type.TQ1_0: [52],
    Type.MXFP4: [],
    Type.NVFP4: [],
}


# Those whose quantizers search, in ggml as here.
SEARCHED = [
    Type.Q2_K,
    Type.Q3_K,
    Type.Q4_K,
    Type.Q5_K,
    Type.Q6_K,
    Type.IQ4_NL,
    Type.IQ4_XS,
]

CODEBOOKS = [Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S, Type.IQ3_XXS, Type.IQ3_S]

# Younger than gguf 0.19.0.
Q1_0 = 41
Q2_0 = 42


def weights(rng):
    """Blocks of 32 that try a quantizer's rounding and its limits."""
    noise = rng.standard_normal((16, 32))
    blocks = [noise[i] * 10.0**exponent for i, exponent in enumerate(range(-7, 5))]
    blocks += [np.zeros(32), -np.zeros(32), np.full(32, 0.37), np.full(32, -2.5)]
    one_outlier = noise[12] * 0.01
    one_outlier[19] = -70.0
    blocks += [one_outlier, -one_outlier, -np.abs(noise[13]), np.abs(noise[14])]
    # Two values share the largest magnitude: the first decides the sign of the scale.
    blocks += [np.where(np.arange(32) % 5 == 2, 3.0, -3.0), np.where(np.arange(32) % 5 == 2, -3.0, 3.0)]
    # Every value halfway between two codes: of Q4_0, of Q4_1, of Q8_0.
    ties = np.arange(32) / 2
    blocks += [ties - 8, ties.clip(0, 15), (ties * 8 - 127).clip(-127, 127)]
    # Scales that are subnormal as f16, that vanish as f16, and that are large or infinite as f16.
    blocks += [noise[i] * scale for i, scale in enumerate([3e-6, 1e-8, 1e-20, 1e-36, 5e5, 1e6, 3e6, 1e30])]
    # Codes that depend on whether a product is rounded before 8.5 is added.
    near = (rng.integers(0, 16, (4, 32)) - 8.5) * 0.1 * (1 + rng.integers(-3, 4, (4, 32)) * 2.0**-24)
    near[:, 5] = -0.8
    blocks += list(near)
    return np.array(blocks, F32)


def blocks(kind, rng, count):
    """Random and extreme blocks: any codes, and scales up to infinity and NaN."""
    size = GGML_QUANT_SIZES[kind][1]
    data = rng.integers(0, 256, (count, size), np.uint8)
    data[0] = 0
    data[1] = 0xFF
    extremes = np.array([1, -1, 6e-8, -6e-8, 6.1e-5, 65504, -65504, -0.0, np.inf, -np.inf, np.nan], np.float16)
    for place, offset in enumerate((SCALES | OTHERS)[kind]):
        scales = (rng.standard_normal(count) * 0.02).astype(np.float16)
        picked = min(len(extremes), count - 3)
        scales[2 : 2 + picked] = np.roll(extremes, 3 * place)[:picked]
        scales[:2] = [0.5, -0.25]
        data[:, offset : offset + 2] = scales.view(np.uint8).reshape(count, 2)
    return data


def ggml_quantize(kind, x, importance=None):
    """What ggml's own quantizer makes of f32 rows of one block, or of as many columns as there are in `importance`."""
    length, size = GGML_QUANT_SIZES[kind]
    columns = length if importance is None else len(importance)
    x = np.ascontiguousarray(x, F32).reshape(-1, columns)
    out = np.zeros((x.size // length, size), np.uint8)
    function = GGML.ggml_quantize_chunk
    function.restype = ctypes.c_size_t
    int64 = ctypes.c_int64
    written = function(
        ctypes.c_int(kind),
        x.ctypes.data_as(ctypes.c_void_p),
        out.ctypes.data_as(ctypes.c_void_p),
        int64(0),
        int64(len(x)),
        int64(columns),
        None if importance is None else importance.ctypes.data_as(ctypes.c_void_p),
    )
    assert written == out.nbytes
    return out


def by_ggml(name, length, data):
    """ggml's own dequantizer, for what PyPI's gguf lacks."""
    data = np.ascontiguousarray(data)
    out = np.empty(len(data) * length, F32)
    dequantize_row = getattr(GGML, f"dequantize_row_{name}")
    dequantize_row(
        data.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(out.size)
    )
    return out


def main():
    rng = np.random.default_rng(4)
    np.seterr(all="ignore")

    x = weights(rng)
    (HERE / "weights.f32").write_bytes(x.tobytes())
    for kind in [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]:
        expected = ggml_quantize(kind, x)
        # numpy keeps the sign of a maximum of -0, which ggml loses.
        zero = (x == 0).all(axis=1)
        assert (expected == quantize(x, kind))[~zero].all(), kind
        (HERE / f"{kind.name.lower()}.quantized").write_bytes(expected.tobytes())

    for kind in SCALES:
        length = GGML_QUANT_SIZES[kind][0]
        data = blocks(kind, rng, 32 if length == 32 else 6)
        (HERE / f"{kind.name.lower()}.blocks").write_bytes(data.tobytes())
        (HERE / f"{kind.name.lower()}.f32").write_bytes(dequantize(data, kind).astype(F32).tobytes())

    data = rng.integers(0, 256, (8, 18), np.uint8)
    data[:, :2] = rng.standard_normal(8).astype(np.float16).view(np.uint8).reshape(8, 2)
    (HERE / "q2_0.blocks").write_bytes(data.tobytes())
    (HERE / "q2_0.f32").write_bytes(by_ggml("q2_0", 64, data).tobytes())

    # 2 bits, to whole blocks: gguf has no quantizer for the second.
    (HERE / "tq2_0.quantized").write_bytes(ggml_quantize(Type.TQ2_0, x.ravel()[:1024]).tobytes())
    GGML_QUANT_SIZES[Q2_0] = (64, 18)
    (HERE / "q2_0.quantized").write_bytes(ggml_quantize(Q2_0, x.ravel()[:1152]).tobytes())

    shape = (16, 256)
    heavy = rng.standard_t(3, shape)
    distributions = {
        "gaussian": rng.standard_normal(shape) * 0.02,
        "uniform": rng.uniform(-0.05, 0.05, shape),
        "heavy_tailed": heavy * 0.01,
        "channels": rng.standard_normal(shape) * np.exp(rng.standard_normal(256)) * 0.02,
    }
    importance = np.exp(rng.standard_normal(256)).astype(F32)
    (HERE / "importance.f32").write_bytes(importance.tobytes())
    errors = ["format,distribution,weighted,squared error"]
    for name, x in distributions.items():
        x = x.astype(np.float16)
        (HERE / f"{name}.f16").write_bytes(x.tobytes())
        x = x.astype(F32)
        for kind in SEARCHED + CODEBOOKS:
            GGML.ggml_quantize_init(ctypes.c_int(kind))
            # Of the codebooks ggml takes some with importance only.
            for weighted in [True] if kind in CODEBOOKS else [False, True]:
                back = dequantize(ggml_quantize(kind, x, importance if weighted else None), kind).reshape(shape)
                squares = (x.astype(np.float64) - back) ** 2 * (importance if weighted else 1)
                errors.append(f"{kind.name},{name},{weighted},{squares.sum():.6e}".replace("True", "true").replace("False", "false"))
    (HERE / "ggml_errors.csv").write_text("\n".join(errors) + "\n")

    for kind in OTHERS:
        # Every byte is a scale once: of MXFP4's in each block, of NVFP4's four of them.
        data = blocks(kind, rng, {Type.MXFP4: 256, Type.NVFP4: 64}.get(kind, 6))
        if kind == Type.MXFP4:
            data[:, 0] = np.arange(256)
        if kind == Type.NVFP4:
            data[:, :4] = np.arange(256).reshape(64, 4)
        kind_name = kind.name.lower()
        (HERE / f"{kind_name}.blocks").write_bytes(data.tobytes())
        (HERE / f"{kind_name}.f32").write_bytes(dequantize(data, kind).astype(F32).tobytes())

    data = rng.integers(0, 256, (8, 18), np.uint8)
    data[:, :2] = np.array([1, -1, 0.37, 6e-8, 65504, np.inf, -np.inf, np.nan], np.float16).view(np.uint8).reshape(8, 2)
    (HERE / "q1_0.blocks").write_bytes(data.tobytes())
    (HERE / "q1_0.f32").write_bytes(by_ggml("q1_0", 128, data).tobytes())

    # The formats of one rule that came later.
    x = np.frombuffer((HERE / "weights.f32").read_bytes(), F32)
    GGML_QUANT_SIZES[Q1_0] = (128, 18)
    for kind, name in [(Type.MXFP4, "mxfp4"), (Type.NVFP4, "nvfp4"), (Type.TQ1_0, "tq1_0"), (Q1_0, "q1_0")]:
        length = GGML_QUANT_SIZES[kind][0]
        whole = x[: x.size // length * length]
        (HERE / f"{name}.quantized").write_bytes(ggml_quantize(kind, whole).tobytes())


if __name__ == "__main__":
    main()
