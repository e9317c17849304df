"""The logits that a file's weights mean: the Llama architecture in float64, over what PyPI's `gguf` dequantizes."""

import functools
import importlib.metadata

import numpy
from gguf import GGUFReader
from gguf.quants import dequantize


class Worker:
    def load(self, model, threads, context):
        reader = GGUFReader(model)
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}

        def setting(key, otherwise=None):
            field = reader.fields.get(f"llama.{key}")
            return otherwise if field is None else field.contents()

        self.layers = setting("block_count")
        self.heads = setting("attention.head_count")
        self.kv_heads = setting("attention.head_count_kv", self.heads)
        self.epsilon = setting("attention.layer_norm_rms_epsilon")
        pairs = setting("rope.dimension_count", setting("embedding_length") // self.heads) // 2
        self.frequencies = setting("rope.freq_base", 10000.0) ** -(numpy.arange(pairs) / pairs)

    def logits(self, tokens, one_by_one, file):
        x = self.weights("token_embd.weight")[tokens].astype(numpy.float64)
        for layer in range(self.layers):
            part = f"blk.{layer}."
            normed = self.norm(part + "attn_norm", x)
            q, k, v = (self.product(f"{part}attn_{name}", normed) for name in "qkv")
            x = x + self.product(part + "attn_output", self.attention(q, k, v))
            normed = self.norm(part + "ffn_norm", x)
            gate, up = (self.product(f"{part}ffn_{name}", normed) for name in ("gate", "up"))
            x = x + self.product(part + "ffn_down", gate / (1 + numpy.exp(-gate)) * up)
        output = "output" if "output.weight" in self.tensors else "token_embd"
        self.product(output, self.norm("output_norm", x)).astype("<f8").tofile(file)

    # In float32, in which they are exact: much is asked of one file, and dequantizing takes longer than multiplying.
    @functools.cache
    def weights(self, name):
        tensor = self.tensors[name]
        return dequantize(tensor.data, tensor.tensor_type)

    def norm(self, name, x):
        return x / numpy.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * self.weights(name + ".weight")

    def product(self, name, x):
        return x @ self.weights(name + ".weight").T.astype(numpy.float64)

    def attention(self, q, k, v):
        count = len(q)
        q, k, v = (x.reshape(count, heads, -1) for x, heads in ((q, self.heads), (k, self.kv_heads), (v, self.kv_heads)))
        q, k = self.rotated(q), self.rotated(k)
        # Neighbouring heads share keys and values.
        k, v = (x.repeat(self.heads // self.kv_heads, axis=1) for x in (k, v))
        scores = numpy.einsum("ihd,jhd->hij", q, k) / numpy.sqrt(q.shape[-1])
        scores[:, numpy.triu(numpy.ones((count, count), bool), 1)] = -numpy.inf
        shares = numpy.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        return numpy.einsum("hij,jhd->ihd", shares, v).reshape(count, -1)

    def rotated(self, x):
        angles = numpy.arange(len(x))[:, None, None] * self.frequencies
        turned, pairs = x.copy(), len(self.frequencies)
        a, b = x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
        turned[..., 0 : 2 * pairs : 2] = a * numpy.cos(angles) - b * numpy.sin(angles)
        turned[..., 1 : 2 * pairs : 2] = a * numpy.sin(angles) + b * numpy.cos(angles)
        return turned


serve(Worker(), f"of gguf {importlib.metadata.version('gguf')}", "")
