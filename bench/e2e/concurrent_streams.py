"""Throughput of many concurrent greedy streams of `rankine serve` against one stream alone, in one run.

Usage: python concurrent_streams.py RANKINE MODEL [--streams 32] [--new-tokens 64] [--json] [-- SERVER FLAGS...]

Each prompt is first answered alone; then all arrive staggered, 10 ms apart. Both rates count new tokens from the first
request to the last token. Checks that each stream's tokens are those it gives alone (greedy in f32, the default here:
elsewhere rounding may swap near ties, so give --allow-differences with other server flags) and that all KV blocks
return to the pool. Needs tests/requirements.txt.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "serving"))
from rankine_server import Api, Server

F32 = ["--weight-dtype", "f32", "--compute", "f32", "--kv-dtype", "f32"]
STAGGER_SECONDS = 0.01
TOPICS = ["sea", "moon", "city", "river", "train", "garden", "winter", "music"]
STARTS = ["The {} is", "def {}(x):", "A short poem about the {}:\n", "I have never seen the {} before"]


def prompt_of(index):
    text = STARTS[index // len(TOPICS) % len(STARTS)].format(TOPICS[index % len(TOPICS)])
    lap = index // (len(TOPICS) * len(STARTS))
    return f"{lap}. {text}" if lap else text


def answer(api, prompt, new_tokens):
    stream = api.Generate(text=prompt, max_tokens=new_tokens, ignore_eos=True)
    return [token for message in stream for token in message.token_ids]


def alone(api, prompts, new_tokens):
    """The tokens of each, and the seconds that each took."""
    answers, seconds = [], []
    for prompt in prompts:
        start = time.perf_counter()
        answers.append(answer(api, prompt, new_tokens))
        seconds.append(time.perf_counter() - start)
    return answers, seconds


def together(api, prompts, new_tokens):
    """The tokens of each, and the seconds from the first arrival to the last token."""
    answers = [None] * len(prompts)

    def run(index):
        answers[index] = answer(api, prompts[index], new_tokens)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(prompts))]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
        time.sleep(STAGGER_SECONDS)
    for thread in threads:
        thread.join()
    return answers, time.perf_counter() - start


def wait_for_blocks(api, patience_seconds=10):
    """Blocks in use after the last answer; they are freed within a step of it."""
    end = time.monotonic() + patience_seconds
    while True:
        model = api.GetModel()
        in_use = model.kv_blocks_total - model.kv_blocks_free
        if in_use == 0 or time.monotonic() > end:
            return in_use, model
        time.sleep(0.01)


def measure(api, args):
    prompts = [prompt_of(i) for i in range(args.streams)]
    answer(api, prompts[0], args.new_tokens)  # warms up
    expected, seconds = alone(api, prompts, args.new_tokens)
    got, all_seconds = together(api, prompts, args.new_tokens)
    in_use, model = wait_for_blocks(api)
    one = args.new_tokens / statistics.median(seconds)
    many = sum(len(tokens) for tokens in got) / all_seconds
    return {"device": model.device, "streams": args.streams, "new_tokens": args.new_tokens,
            "alone_tokens_per_second": one, "together_tokens_per_second": many, "ratio": many / one,
            "streams_that_differ": sum(a != b for a, b in zip(expected, got)), "kv_blocks_in_use": in_use}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("rankine")
    parser.add_argument("model")
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--allow-differences", action="store_true")
    parser.add_argument("--json", action="store_true")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:split])
    if args.streams < 1 or args.new_tokens < 1:
        parser.error("--streams and --new-tokens must be positive")
    os.environ["RANKINE_BIN"], os.environ["RANKINE_TEST_MODEL_DIR"] = args.rankine, args.model
    with Server(*(sys.argv[split + 1:] or F32)) as server, Api(server.address) as api:
        report = measure(api, args)
    if args.json:
        print(json.dumps(report))
    else:
        print(f"{report['device']}; {args.streams} greedy streams of {args.new_tokens} new tokens\n"
              f"alone    {report['alone_tokens_per_second']:8.1f} tokens/s (median stream)\n"
              f"together {report['together_tokens_per_second']:8.1f} tokens/s\n"
              f"ratio    {report['ratio']:8.2f}")
    if report["kv_blocks_in_use"]:
        sys.exit(f"error: {report['kv_blocks_in_use']} KV blocks were not freed")
    if report["streams_that_differ"] and not args.allow_differences:
        sys.exit(f"error: {report['streams_that_differ']} streams gave other tokens than alone")


if __name__ == "__main__":
    main()
