"""A Python client against the real server and a real model.

    pip install -r tests/requirements.txt
    RANKINE_BIN=build/release/rankine RANKINE_TEST_MODEL_DIR=... python3 tests/serving/test_grpc_client.py
"""

import pathlib
import subprocess
import sys
import threading
import time
import unittest

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from rankine_server import Api, Server, required_env

# Nothing below depends on how fast the server is; this only ends a wait that would last for ever.
PATIENCE_SECONDS = 120
SERVICE = "rankine.v1.Inference"
# An answer that never ends by itself within the patience of a test.
ENDLESS = {"max_tokens": 8000, "ignore_eos": True}


def wait_until(condition, what):
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(0.01)


def wait_until_empty(api):
    def empty():
        model = api.GetModel()
        return (model.kv_blocks_free == model.kv_blocks_total > 0 and model.requests_running == 0
                and model.requests_waiting == 0)
    wait_until(empty, "no request holds a block")


def collect(stream):
    """All token ids, the whole text, and the last message of a stream."""
    ids, text, last = [], "", None
    for last in stream:
        ids += last.token_ids
        text += last.text
    return ids, text, last


class GrpcClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.api = Api(cls.server.address)

    @classmethod
    def tearDownClass(cls):
        cls.api.close()
        cls.server.__exit__()

    def setUp(self):
        self.wait_until_empty()

    def wait_until_empty(self):
        wait_until_empty(self.api)

    def reason(self, name):
        return self.api.FinishReason["FINISH_REASON_" + name].number

    def check_code(self, stream, code):
        with self.assertRaises(grpc.RpcError) as caught:
            collect(stream)
        self.assertEqual(caught.exception.code(), code, caught.exception.details())
        return caught.exception.details()

    def test_streams_tokens_and_text(self):
        messages = list(self.api.Generate(text="def fibonacci(n):", max_tokens=24, ignore_eos=True))
        self.assertGreater(len(messages), 1, "the answer came in one piece")
        ids = [i for message in messages for i in message.token_ids]
        text = "".join(message.text for message in messages)
        self.assertEqual(len(ids), 24)
        self.assertEqual(text, self.api.Detokenize(token_ids=ids, skip_special=True).text)
        for message in messages[:-1]:
            self.assertEqual(message.finish_reason, 0)
            self.assertFalse(message.HasField("usage"))
        last = messages[-1]
        self.assertEqual(last.finish_reason, self.reason("LENGTH"))
        prompt = self.api.Tokenize(text="def fibonacci(n):", add_special=True).token_ids
        self.assertEqual(last.usage.prompt_tokens, len(prompt))
        self.assertEqual(last.usage.completion_tokens, 24)
        self.assertLessEqual(last.timing.queue_us, last.timing.first_token_us)
        self.assertLessEqual(last.timing.first_token_us, last.timing.total_us)

    def test_text_and_tokens_are_the_same_prompt(self):
        prompt = self.api.Tokenize(text="The sea is", add_special=True).token_ids
        by_text = collect(self.api.Generate(text="The sea is", max_tokens=8))
        by_tokens = collect(self.api.Generate(tokens={"ids": prompt}, max_tokens=8))
        self.assertEqual(by_text[:2], by_tokens[:2])

    def test_chat_answers_and_ends_by_itself(self):
        chat = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
        _, text, last = collect(self.api.Generate(chat=chat, max_tokens=64))
        self.assertIn("Paris", text)
        self.assertNotIn("<|im_end|>", text)
        self.assertEqual(last.finish_reason, self.reason("STOP_TOKEN"))

    def test_stop_string_ends_the_text_before_it(self):
        _, whole, _ = collect(self.api.Generate(text="def fibonacci(n):", max_tokens=24))
        self.assertIn("return", whole)
        _, text, last = collect(self.api.Generate(text="def fibonacci(n):", max_tokens=24, stop=["retur"]))
        self.assertEqual(text, whole[:whole.index("retur")])
        self.assertEqual(last.finish_reason, self.reason("STOP_STRING"))

    def test_a_seed_repeats_the_answer(self):
        request = {"text": "Once upon a time", "max_tokens": 16, "sampling": {"temperature": 1.0, "seed": 7}}
        first = collect(self.api.Generate(**request))[0]
        self.assertEqual(first, collect(self.api.Generate(**request))[0])
        request["sampling"]["seed"] = 8
        self.assertNotEqual(first, collect(self.api.Generate(**request))[0])

    def test_bad_fields_are_named(self):
        bad = {
            "prompt": {},
            "max_tokens": {"text": "a", "max_tokens": -1},
            "sampling.top_p": {"text": "a", "sampling": {"top_p": 1.5}},
            "sampling.temperature": {"text": "a", "sampling": {"temperature": float("nan")}},
            "tokens.ids[1]": {"tokens": {"ids": [1, 1 << 30]}},
            "chat.messages[0].role": {"chat": {"messages": [{"role": "robot", "content": "a"}]}},
            "stop[1]": {"text": "a", "stop": ["a", ""]},
        }
        for field, request in bad.items():
            with self.subTest(field):
                details = self.check_code(self.api.Generate(**request), grpc.StatusCode.INVALID_ARGUMENT)
                self.assertTrue(details.startswith(field + ":"), details)

    def test_cancel_in_decode(self):
        stream = self.api.Generate(text="Once upon a time", **ENDLESS)
        next(stream)
        # The first token may be here before the engine has told of the pass that made it.
        wait_until(lambda: self.api.GetModel().kv_blocks_free < self.api.GetModel().kv_blocks_total,
                   "the request holds blocks")
        stream.cancel()
        self.wait_until_empty()

    def test_cancel_in_prefill(self):
        ids = list(self.api.Tokenize(text="The quick brown fox jumps over the lazy dog. ").token_ids)
        stream = self.api.Generate(tokens={"ids": (ids * 1000)[:7000]}, max_tokens=8)
        wait_until(lambda: self.api.GetModel().requests_running == 1, "the prompt is computed on")
        self.assertLess(self.api.GetModel().kv_blocks_free, self.api.GetModel().kv_blocks_total)
        stream.cancel()
        self.wait_until_empty()
        with self.assertRaises(grpc.RpcError):
            next(stream)  # no token ever came

    def test_cancel_in_queue(self):
        # A request gets blocks for its whole answer when it starts, so these can't all run.
        model = self.api.GetModel()
        block_tokens = 8  # at least; see kernels/api/kv_cache.h
        running = [self.api.Generate(text="Once upon a time", **ENDLESS)]
        while self.api.GetModel().requests_waiting == 0:
            self.assertLess(len(running), model.kv_blocks_total * block_tokens)
            stream = self.api.Generate(text="Once upon a time", **ENDLESS)
            running.append(stream)
            wait_until(lambda: self.api.GetModel().requests_running
                       + self.api.GetModel().requests_waiting == len(running), "the request is admitted")
        running[-1].cancel()
        wait_until(lambda: self.api.GetModel().requests_waiting == 0, "the queue is empty")
        self.assertEqual(self.api.GetModel().requests_running, len(running) - 1)
        with self.assertRaises(grpc.RpcError):
            next(running[-1])
        for stream in running:
            stream.cancel()
        self.wait_until_empty()

    def test_deadline(self):
        self.check_code(self.api.Generate(_timeout=1.0, text="Once upon a time", **ENDLESS),
                        grpc.StatusCode.DEADLINE_EXCEEDED)
        self.wait_until_empty()

    def test_disconnect(self):
        with Api(self.server.address) as other:
            next(other.Generate(text="Once upon a time", **ENDLESS))
        self.wait_until_empty()

    def test_reflection_lists_the_services(self):
        self.assertIn(SERVICE, self.api.services)
        self.assertIn("grpc.health.v1.Health", self.api.services)

    def test_health(self):
        health = health_pb2_grpc.HealthStub(self.api.channel)
        for service in ("", SERVICE):
            status = health.Check(health_pb2.HealthCheckRequest(service=service)).status
            self.assertEqual(status, health_pb2.HealthCheckResponse.SERVING)


class ConcurrencyTest(unittest.TestCase):
    # In f32 throughout, where sums in another order differ by far less than the best two logits of a step.
    F32 = ("--weight-dtype", "f32", "--compute", "f32", "--kv-dtype", "f32")

    def test_concurrent_streams_give_what_each_gives_alone(self):
        with Server(*self.F32) as server, Api(server.address) as api:
            self.check_streams(api)
            wait_until_empty(api)

    def check_streams(self, api):
        topics = ["sea", "moon", "city", "river", "train", "garden", "winter", "music"]
        starts = ["The {} is", "def {}(x):", "A short poem about the {}:\n", "I have never seen the {} before"]
        prompts = [start.format(topic) for topic in topics for start in starts]
        self.assertEqual(len(prompts), 32)
        # Lengths differ, so that streams leave while others run.
        requests = [{"text": p, "max_tokens": 8 + 3 * (i % 8), "ignore_eos": True} for i, p in enumerate(prompts)]
        alone = [collect(api.Generate(**request))[:2] for request in requests]

        together = [None] * len(requests)

        def run(index):
            together[index] = collect(api.Generate(**requests[index]))[:2]

        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(requests))]
        for thread in threads:
            thread.start()
            time.sleep(0.01)  # staggered: they join a batch that is running
        most_running = 0
        for thread in threads:
            while thread.is_alive():
                most_running = max(most_running, api.GetModel().requests_running)
                thread.join(timeout=0.01)
        self.assertGreater(most_running, 1, "no two streams ever ran together")
        self.assertEqual(together, alone)


class DrainTest(unittest.TestCase):
    def test_sigterm_finishes_what_runs_and_exits_0(self):
        with Server("--drain-seconds", "600") as server, Api(server.address) as api:
            health = health_pb2_grpc.HealthStub(api.channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
            self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
            stream = api.Generate(text="Once upon a time", max_tokens=200, ignore_eos=True)
            first = next(stream)
            server.terminate()
            self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.NOT_SERVING)
            with self.assertRaises(grpc.RpcError) as caught:
                collect(api.Generate(text="too late", max_tokens=1))
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            ids, _, last = collect(stream)
            self.assertEqual(len(first.token_ids) + len(ids), 200)
            self.assertEqual(last.finish_reason, api.FinishReason["FINISH_REASON_LENGTH"].number)
            self.assertEqual(server.wait(), 0)

    def test_drain_seconds_bounds_the_wait(self):
        with Server("--drain-seconds", "1") as server, Api(server.address) as api:
            stream = api.Generate(text="Once upon a time", **ENDLESS)
            next(stream)
            server.terminate()
            with self.assertRaises(grpc.RpcError) as caught:
                collect(stream)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(server.wait(), 0)

    def test_an_address_in_use_is_a_clear_error(self):
        with Server() as server:
            second = subprocess.run([required_env("RANKINE_BIN"), "serve", required_env("RANKINE_TEST_MODEL_DIR"),
                                     "--listen", server.address], capture_output=True, text=True, timeout=120)
            self.assertNotEqual(second.returncode, 0)
            self.assertTrue(second.stderr.startswith("error: cannot listen on " + server.address), second.stderr)
            self.assertIn("in use", second.stderr)
            self.assertEqual(second.stderr.count("\n"), 1, second.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
