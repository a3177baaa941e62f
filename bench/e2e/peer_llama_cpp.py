"""llama.cpp as a process of a comparison: see engines.py for the protocol. Its own C functions are called, so that
Python costs nothing measurable."""

import argparse
import ctypes
import sys
import time

import llama_cpp
import numpy as np

from engines import answer_requests, read_prompt

# Kept by this reference: llama.cpp calls it as long as the process lives.
SILENT = llama_cpp.llama_log_callback(lambda *_: None)


class LlamaCpp:
    def __init__(self, path, threads, prompt, new_tokens):
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            sys.exit(f"error: llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = len(prompt) + new_tokens + 8
        params.n_batch = params.n_ubatch = max(512, len(prompt))
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.prompt, self.new_tokens = prompt, new_tokens

    def decode(self, tokens):
        array = (llama_cpp.llama_token * len(tokens))(*[int(t) for t in tokens])
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(tokens))) != 0:
            sys.exit("error: llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.argmax(np.ctypeslib.as_array(logits, shape=(self.vocabulary,))))

    def sample(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        start = time.perf_counter()
        token = self.decode(self.prompt)
        prefill = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(self.new_tokens):
            token = self.decode([token])
        return {"prefill_tokens_per_second": len(self.prompt) / prefill,
                "decode_tokens_per_second": self.new_tokens / (time.perf_counter() - start)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt-ids", required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    args = parser.parse_args()
    llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
    answer_requests(LlamaCpp(args.model, args.threads, read_prompt(args.prompt_ids), args.new_tokens))


if __name__ == "__main__":
    main()
