"""The engines of a comparison, each a process with its model loaded that takes its turn when asked: Rankine, llama.cpp
and PyTorch.

Protocol, as `rankine bench --on-request` has it: the process prints {"ready": true}; for each line that it reads it
prefills the prompt, decodes, and prints {"samples": [{"prefill_tokens_per_second", "decode_tokens_per_second", ...}]};
at the end of its input it prints a report and exits.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = {"llama.cpp": HERE / "peer_llama_cpp.py", "PyTorch": HERE / "peer_torch.py"}


def read_prompt(path):
    return [int(word) for word in pathlib.Path(path).read_text().split()]


def answer_requests(engine):
    """The peers' side of the protocol."""
    engine.sample()  # warms up
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        print(json.dumps({"samples": [engine.sample()]}), flush=True)
        print(json.dumps({"ready": True}), flush=True)
    print(json.dumps({}))


class EngineError(Exception):
    """An engine that cannot run its model; the message is its own."""


class Engine:
    """One process. `kind` is "Rankine" or a key of SCRIPTS."""

    def __init__(self, kind, rankine, model, settings, flags=()):
        command = [rankine, "bench", model, "--json", "--on-request"] if kind == "Rankine" else \
            [sys.executable, str(SCRIPTS[kind]), model]
        command += ["--threads", str(settings["threads"]), "--prompt-ids", settings["prompt_ids"],
                    "--new-tokens", str(settings["new_tokens"]), *flags]
        if kind == "Rankine" and settings.get("isa"):
            command += ["--isa", settings["isa"]]
        self.errors = tempfile.TemporaryFile("w+")
        environment = dict(os.environ, TOKENIZERS_PARALLELISM="false")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, env=environment)
        self.report = {}
        self._expect("ready")

    def _expect(self, key):
        line = self.process.stdout.readline()
        if line and key in (answer := json.loads(line)):
            return answer[key]
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        lines = [text for text in self.errors.read().splitlines() if text.strip()]
        errors = [text for text in lines if text.startswith("error: ")] or lines[-1:] or ["it ended without a word"]
        raise EngineError(errors[-1].removeprefix("error: "))

    def sample(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        sample = self._expect("samples")[0]
        self._expect("ready")
        return sample

    def close(self):
        """Ends the process; what Rankine says of its model is in `report` then."""
        if self.process.poll() is None:
            self.process.stdin.close()
            lines = self.process.stdout.read().splitlines()
            self.process.wait()
            models = json.loads(lines[-1]).get("models", []) if lines else []
            self.report = models[0] if models else {}
        self.process.stdout.close()
        self.errors.close()
