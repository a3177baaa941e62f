"""Makes the models of a comparison: GGUF files by llama.cpp's own quantiser or of random weights, and Rankine's folders
by `rankine convert` and `rankine synth`. Each is made once and kept under its name in the work folder."""

import ctypes
import os
import pathlib
import subprocess

# llama.cpp's numbers of file types.
FTYPES = {"F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q4_K_M": 15, "BF16": 32}


class Models:
    def __init__(self, work, rankine, real_gguf=None):
        self.work, self.rankine, self.real_gguf = pathlib.Path(work), rankine, real_gguf
        self.work.mkdir(parents=True, exist_ok=True)

    def requantised(self, kind):
        """The real model rewritten by llama.cpp in that type, by all its own rules."""
        out = self.work / f"{pathlib.Path(self.real_gguf).stem.split('.')[0]}.{kind}.gguf"
        if not out.exists():
            import llama_cpp  # other models are made without it
            llama_cpp.llama_log_set(self._silent(llama_cpp), ctypes.c_void_p(0))
            params = llama_cpp.llama_model_quantize_default_params()
            params.ftype, params.allow_requantize, params.nthread = FTYPES[kind], True, os.cpu_count()
            partial = f"{out}.partial"
            failed = llama_cpp.llama_model_quantize(str(self.real_gguf).encode(), partial.encode(),
                                                    ctypes.byref(params))
            if failed:
                raise RuntimeError(f"llama.cpp could not write {out}")
            os.replace(partial, out)
        return str(out)

    def real_folder(self):
        """The real model as a bf16 folder, for PyTorch."""
        out = self.work / "real-bf16"
        if not out.exists():
            self._run("convert", self.real_gguf, str(out), "--dtype", "bf16")
        return str(out)

    def random_gguf(self, shape, layers, kind):
        out = self.work / f"{shape}-{layers or 'all'}.{kind}.gguf"
        if not out.exists():
            import synth_gguf  # needs the gguf package
            synth_gguf.write(str(out), shape, layers, kind)
        return str(out)

    def random_folder(self, shape, layers, *flags):
        name = "-".join([shape, str(layers or "all"), *flags]).replace("--", "").replace(":", "_")
        out = self.work / name
        if not out.exists():
            layer_flags = ["--layers", str(layers)] if layers else []
            self._run("synth", str(out), "--shape", shape, *layer_flags, *flags)
        return str(out)

    def _silent(self, llama_cpp):
        # Kept: llama.cpp calls it as long as the process lives.
        if not hasattr(Models, "silent"):
            Models.silent = llama_cpp.llama_log_callback(lambda *_: None)
        return Models.silent

    def _run(self, *arguments):
        result = subprocess.run([self.rankine, *arguments], capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(result.stderr.strip().splitlines()[-1].removeprefix("error: "))
