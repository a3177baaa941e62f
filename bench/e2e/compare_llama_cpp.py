"""Rankine against llama.cpp on the same bits: one GGUF file, prefill and decode, in interleaved pairs.

Usage: python compare_llama_cpp.py RANKINE MODEL.gguf [--make bf16] [--pairs 7] [--threads 2] [--json]
           [--rankine-flags FLAG...]   (last: all that follows goes to `rankine bench`)

--make TYPE first rewrites MODEL with llama.cpp's own quantiser (bf16, f16) and compares on that file. Prints a
table and, with --json, the figures. The median of the paired ratios has a 95% percentile bootstrap interval.
"""

import argparse
import atexit
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import llama_cpp
import numpy as np

FTYPES = {"f16": 1, "bf16": 32}


# Kept by this reference: llama.cpp calls it as long as the process lives.
SILENT = llama_cpp.llama_log_callback(lambda *_: None)


def make(source, kind):
    folder = tempfile.mkdtemp(prefix="rankine-compare-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    out = os.path.join(folder, kind + ".gguf")
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize, params.nthread = FTYPES[kind], True, os.cpu_count()
    if llama_cpp.llama_model_quantize(source.encode(), out.encode(), ctypes.byref(params)) != 0:
        sys.exit(f"error: llama.cpp could not write {out}")
    return out


class LlamaCpp:
    """The peer's own C functions, so that Python costs nothing measurable."""

    def __init__(self, path, threads, prompt_tokens, new_tokens):
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = prompt_tokens + new_tokens + 8
        params.n_batch = params.n_ubatch = max(512, prompt_tokens)
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.prompt_tokens, self.new_tokens = prompt_tokens, new_tokens
        self.prompt = np.random.default_rng(1).integers(0, self.vocabulary, prompt_tokens)

    def decode(self, tokens):
        array = (llama_cpp.llama_token * len(tokens))(*[int(t) for t in tokens])
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(tokens))) != 0:
            sys.exit("error: llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.argmax(np.ctypeslib.as_array(logits, shape=(self.vocabulary,))))

    def run(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        start = time.perf_counter()
        token = self.decode(self.prompt)
        prefill = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(self.new_tokens):
            token = self.decode([token])
        return self.prompt_tokens / prefill, self.new_tokens / (time.perf_counter() - start)


def rankine_run(args, path):
    command = [args.rankine, "bench", path, "--json", "--repeat", "1", "--threads", str(args.threads),
               "--prompt-tokens", str(args.prompt_tokens), "--new-tokens", str(args.new_tokens)] + args.rankine_flags
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return report["models"][0], report["read_bandwidth_bytes_per_second"], report["device"]


def paired_ratio(ours, theirs):
    ratios = np.array(ours) / np.array(theirs)
    resampled = np.median(np.random.default_rng(1).choice(ratios, (2000, len(ratios))), axis=1)
    return float(np.median(ratios)), *(float(v) for v in np.percentile(resampled, [2.5, 97.5]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rankine")
    parser.add_argument("model")
    parser.add_argument("--make", choices=FTYPES)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rankine-flags", nargs=argparse.REMAINDER, default=[],
                        help="last: all that follows goes to `rankine bench`")
    args = parser.parse_args()
    llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
    path = make(args.model, args.make) if args.make else args.model
    peer = LlamaCpp(path, args.threads, args.prompt_tokens, args.new_tokens)
    peer.run()
    ours, theirs, shares, bandwidths = [], [], [], []
    for _ in range(args.pairs):
        theirs.append(peer.run())
        result, bandwidth, device = rankine_run(args, path)
        ours.append((result["prefill_tokens_per_second"], result["decode_tokens_per_second"]))
        shares.append(result["bandwidth_share"])
        bandwidths.append(bandwidth)
    report = {"device": device, "bandwidth_bytes_per_second": float(np.median(bandwidths)),
              "bandwidth_share": float(np.median(shares))}
    for index, name in enumerate(("prefill", "decode")):
        mine, peers = [o[index] for o in ours], [t[index] for t in theirs]
        median, low, high = paired_ratio(mine, peers)
        report[name] = {"rankine": float(np.median(mine)), "llama_cpp": float(np.median(peers)),
                        "ratio": median, "low": low, "high": high}
    if args.json:
        print(json.dumps(report))
        return
    print(f"{os.path.basename(path)} on {device}, {args.threads} threads, {args.pairs} pairs; "
          f"read bandwidth {report['bandwidth_bytes_per_second'] / 1e9:.1f} GB/s, of which Rankine's decode uses "
          f"{report['bandwidth_share']:.0%}")
    for name in ("prefill", "decode"):
        r = report[name]
        print(f"{name:8} tokens/s: Rankine {r['rankine']:8.1f}  llama.cpp {r['llama_cpp']:8.1f}  "
              f"ratio {r['ratio']:.2f} [{r['low']:.2f}, {r['high']:.2f}]")


if __name__ == "__main__":
    main()
