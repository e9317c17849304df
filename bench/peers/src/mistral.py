"""mistral.rs, asked and answering as `llama-bench` is: it takes text alone, and tells its own times."""

import argparse
import importlib.metadata
import json
import pathlib

from mistralrs import CompletionRequest, Runner, Which

parser = argparse.ArgumentParser()
parser.add_argument("-m", type=pathlib.Path)
parser.add_argument("-t", type=int)
parser.add_argument("-p", type=int)
parser.add_argument("-n", type=int)
parser.add_argument("-r", type=int)
parser.add_argument("-o", choices=["json"])
options = parser.parse_args()

# No prefix of an earlier prompt may be found again.
runner = Runner(which=Which.GGUF(str(options.m.parent), options.m.name), max_seqs=1, prefix_cache_n=0)


def run(words, tokens):
    """The numbers of a prompt of so many words, and of tokens generated after it."""
    request = CompletionRequest(" a" * words, "default", max_tokens=tokens, temperature=0.0, ignore_eos=True)
    return runner.send_completion_request(request).usage


# How many words make a prompt of so many tokens follows from the vocabulary. These runs are the warm-up, too.
words = options.p
for _ in range(3):
    words += options.p - run(words, 1).prompt_tokens

prompt, generated = [], []
for _ in range(options.r):
    usage = run(words, 1)
    if usage.prompt_tokens != options.p:
        raise RuntimeError(f"no prompt has {options.p} tokens: {words} words have {usage.prompt_tokens}")
    prompt.append(usage.prompt_tokens / usage.total_prompt_time_sec)
    usage = run(1, options.n)
    if usage.completion_tokens != options.n:
        raise RuntimeError(f"asked for {options.n} tokens, mistral.rs gave {usage.completion_tokens}")
    generated.append(usage.completion_tokens / usage.total_completion_time_sec)


def row(prompt, generated, speeds):
    """A test's row, of the fields that are read."""
    commit = importlib.metadata.version("mistralrs")
    speed = sum(speeds) / len(speeds)
    return {"build_commit": commit, "n_threads": options.t, "n_prompt": prompt, "n_gen": generated, "avg_ts": speed}


print(json.dumps([row(options.p, 0, prompt), row(0, options.n, generated)]))
