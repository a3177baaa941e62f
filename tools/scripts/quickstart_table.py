"""Prints the table of tools/quickstart.sh from the JSON that `rankine eval`, `bench` and `factorize` wrote.

Usage: quickstart_table.py GGUF FOLDER
"""

import json
import os
import sys


def load(folder, name):
    with open(os.path.join(folder, name)) as file:
        return json.load(file)


def main():
    gguf, folder = sys.argv[1:]
    bench = load(folder, "bench.json")
    print(f"SmolLM2-135M-Instruct on {bench['device']}, read bandwidth "
          f"{bench['read_bandwidth_bytes_per_second'] / 1e9:.1f} GB/s")
    print(f"{'model':36} {'MB/token':>8} {'perplexity on code':>18} {'x dense':>8} {'prefill/s':>9} {'decode/s':>8} "
          f"{'of bw':>6} {'decode ratio [95%]':>18}")
    # The model as shipped is row 0; ratios are to the dense one, which is measured first.
    models = sorted(bench["models"], key=lambda model: not model["path"].endswith(".gguf"))
    dense_perplexity = load(folder, f"eval-{os.path.basename(bench['models'][0]['path'])}.json")["perplexity"]
    for model in models:
        name = os.path.basename(model["path"])
        perplexity = load(folder, f"eval-{name}.json")
        ratio = model["decode_ratio"]
        if name == os.path.basename(gguf):
            name = "as shipped: Q4_1, 5 bits a weight"
        shown = f"{perplexity['perplexity']:.2f} +- {perplexity['standard_error']:.2f}"
        print(f"{name:36} {model['weight_bytes_per_token'] / 1e6:8.1f} {shown:>18} "
              f"{perplexity['perplexity'] / dense_perplexity:8.2f} "
              f"{model['prefill_tokens_per_second']:9.0f} {model['decode_tokens_per_second']:8.1f} "
              f"{model['bandwidth_share']:6.0%} {ratio['median']:5.2f} [{ratio['low']:.2f}, {ratio['high']:.2f}]")
    print("\nThe shipped model runs at its own 4 bits, with activations quantised to 8 bits as they come. It is the row to beat.\n"
          "caldera-3.5 is Q + L R (CALDERA): a 3-bit Q, and L R in 4 bits, fitted to what the layers read; int3 is plain\n"
          "rounding at the same 3.5 bits a weight. svd-llm is rank alone, costly on a model this small; selective: in the 70\n"
          "linears that lose least. caldera-3.5 and int3 have the 8-bit embedding of the shipped file.")


if __name__ == "__main__":
    main()
