"""llama.cpp, by the C functions that llama-cpp-python binds: a worker as described in lib.rs."""

import ctypes
import json
import sys
import time

import numpy
import llama_cpp
from llama_cpp import llama_cpp as c

# Tokens that go through the model at a time: llama.cpp's own default for `n_ubatch`.
BATCH = 512


class Worker:
    def __init__(self):
        self.context = None
        self.next = 0

    def load(self, model, threads, context):
        file = c.llama_model_load_from_file(model.encode(), c.llama_model_default_params())
        if not file:
            raise RuntimeError("llama.cpp can't load the model")
        self.vocab = c.llama_vocab_n_tokens(c.llama_model_get_vocab(file))
        params = c.llama_context_default_params()
        params.n_ctx = context
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = threads
        self.context = c.llama_init_from_model(file, params)
        if not self.context:
            raise RuntimeError("llama.cpp can't make a context")
        return []

    def prefill(self, tokens):
        c.llama_memory_clear(c.llama_get_memory(self.context), True)
        for first in range(0, len(tokens), BATCH):
            self.run(tokens[first : first + BATCH])
        return [self.next]

    def decode(self, count):
        tokens = []
        for _ in range(count):
            self.run([self.next])
            tokens.append(self.next)
        return tokens

    def run(self, tokens):
        # The batch only points at these.
        tokens = (c.llama_token * len(tokens))(*tokens)
        status = c.llama_decode(self.context, c.llama_batch_get_one(tokens, len(tokens)))
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")
        logits = c.llama_get_logits_ith(self.context, -1)
        self.next = int(numpy.ctypeslib.as_array(logits, (self.vocab,)).argmax())


def answer(reply):
    print(json.dumps(reply), flush=True)


# Kept as long as llama.cpp may call it. Warnings and errors (levels 3 and 4) are worth reading.
log = c.llama_log_callback(lambda level, text, _: sys.stderr.buffer.write(text) if level in (3, 4) else None)
c.llama_log_set(log, ctypes.c_void_p(0))
c.llama_backend_init()
worker = Worker()
system = c.llama_print_system_info().decode().removeprefix("CPU : ")
features = [part.split(" = ")[0].strip() for part in system.split("|") if part.strip().endswith("= 1")]
version = f"of llama-cpp-python {llama_cpp.__version__}"
answer({"ready": {"version": version, "notes": " ".join(features)}})
for line in sys.stdin:
    request = json.loads(line)
    what = request.pop("do")
    started = time.perf_counter()
    try:
        tokens = getattr(worker, what)(**request)
        answer({"done": {"seconds": time.perf_counter() - started, "tokens": tokens}})
    except Exception as error:
        answer({"failed": str(error)})
