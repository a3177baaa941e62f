"""Starts the real `rankine serve` and makes stubs from its reflection service."""

import os
import queue
import signal
import subprocess
import threading
import time

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

START_SECONDS = 120  # loading a model on a busy machine
STOP_SECONDS = 120


def required_env(name):
    value = os.environ.get(name)
    if not value:
        raise RuntimeError(f"set {name}: the rankine program, or the folder of a converted model")
    return value


class Server:
    """A server process; `address` is where it listens. Use as a context manager."""

    def __init__(self, *flags):
        command = [required_env("RANKINE_BIN"), "serve", required_env("RANKINE_TEST_MODEL_DIR"),
                   "--listen", "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self.reader.start()
        self.address = self._wait_until_listening(lines)

    def _read(self, lines):
        for line in self.process.stdout:
            lines.put(line)
        lines.put(None)

    def _wait_until_listening(self, lines):
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                line = lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                self.process.kill()
                raise RuntimeError("the server did not say that it listens")
            if line.startswith("listening on "):
                return line.removeprefix("listening on ").strip()

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        return self.process.wait(timeout=STOP_SECONDS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()


class Api:
    """rankine.v1.Inference over one connection, from reflection."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        database = ProtoReflectionDescriptorDatabase(self.channel)
        self.services = list(database.get_services())
        pool = descriptor_pool.DescriptorPool(database)
        service = pool.FindServiceByName("rankine.v1.Inference")
        for method in service.methods:
            self._add(method)
        self.FinishReason = pool.FindEnumTypeByName("rankine.v1.FinishReason").values_by_name

    def _add(self, method):
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        make = self.channel.unary_stream if method.name == "Generate" else self.channel.unary_unary
        call = make(f"/rankine.v1.Inference/{method.name}",
                    request_serializer=request.SerializeToString,
                    response_deserializer=response.FromString)
        # Keyword arguments that begin with an underscore go to the call, all others are fields.
        def invoke(_timeout=None, **fields):
            return call(request(**fields), timeout=_timeout)
        setattr(self, method.name, invoke)

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
