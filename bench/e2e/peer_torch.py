"""PyTorch with transformers, in bf16, as a process of a comparison: see engines.py for the protocol."""

import argparse
import time

import torch
import transformers

from engines import answer_requests, read_prompt


class Torch:
    def __init__(self, path, prompt, new_tokens):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()
        self.prompt, self.new_tokens = torch.tensor([prompt]), new_tokens

    @torch.inference_mode()
    def sample(self):
        start = time.perf_counter()
        out = self.model(self.prompt, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1:].argmax(-1)
        prefill = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(self.new_tokens):
            out = self.model(token, past_key_values=out.past_key_values, use_cache=True)
            token = out.logits[:, -1:].argmax(-1)
        return {"prefill_tokens_per_second": self.prompt.shape[1] / prefill,
                "decode_tokens_per_second": self.new_tokens / (time.perf_counter() - start)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--prompt-ids", required=True)
    parser.add_argument("--new-tokens", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    answer_requests(Torch(args.model, read_prompt(args.prompt_ids), args.new_tokens))


if __name__ == "__main__":
    main()
