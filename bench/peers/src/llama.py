"""llama.cpp, by the C functions that llama-cpp-python binds."""

import ctypes

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

    def prefill(self, tokens):
        self.forget()
        for first in range(0, len(tokens), BATCH):
            self.run(tokens[first : first + BATCH])
        return [self.next]

    def decode(self, count):
        tokens = []
        for _ in range(count):
            self.run([self.next])
            tokens.append(self.next)
        return tokens

    def logits(self, tokens, one_by_one, file):
        self.forget()
        step = 1 if one_by_one else BATCH
        with open(file, "wb") as out:
            for first in range(0, len(tokens), step):
                batch = tokens[first : first + step]
                self.run(batch, of_each=True)
                for i in range(len(batch)):
                    out.write(self.logits_after(i).astype("<f8").tobytes())

    def forget(self):
        c.llama_memory_clear(c.llama_get_memory(self.context), True)

    def run(self, tokens, of_each=False):
        # The batch only points at these.
        count = len(tokens)
        tokens = (c.llama_token * count)(*tokens)
        wanted = (ctypes.c_int8 * count)(*[1] * count)
        batch = c.llama_batch_get_one(tokens, count)
        if of_each:
            batch.logits = wanted
        status = c.llama_decode(self.context, batch)
        if status != 0:
            raise RuntimeError(f"llama_decode returned {status}")
        self.next = int(self.logits_after(-1).argmax())

    def logits_after(self, i):
        return numpy.ctypeslib.as_array(c.llama_get_logits_ith(self.context, i), (self.vocab,))


# Kept as long as llama.cpp may call it. Warnings and errors (levels 3 and 4) are worth reading.
log = c.llama_log_callback(lambda level, text, _: sys.stderr.buffer.write(text) if level in (3, 4) else None)
c.llama_log_set(log, ctypes.c_void_p(0))
c.llama_backend_init()
system = c.llama_print_system_info().decode().removeprefix("CPU : ")
features = [part.split(" = ")[0].strip() for part in system.split("|") if part.strip().endswith("= 1")]
serve(Worker(), f"of llama-cpp-python {llama_cpp.__version__}", " ".join(features))
