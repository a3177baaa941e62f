"""The first layers of a model as a model: what goes into them does not depend on those behind."""

import json
import pathlib
import re
import shutil

from model_files import Weights, write_safetensors


def write_truncated(model, out, layers):
    """The folder `out`, with the first `layers` layers of the dense folder `model`, bit for bit."""
    config = json.loads(pathlib.Path(model, "config.json").read_text())
    if not 0 < layers <= config["num_hidden_layers"]:
        raise ValueError(f"{model} has {config['num_hidden_layers']} layers, {layers} are asked for")
    out = pathlib.Path(out)
    out.mkdir()
    (out / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}, indent=1))
    for path in pathlib.Path(model).glob("*.json"):
        if path.name != "config.json" and not path.name.endswith(".index.json"):
            shutil.copy(path, out / path.name)
    weights = Weights(model)
    kept = [name for name in weights if (found := re.search(r"\.layers\.(\d+)\.", name)) is None
            or int(found.group(1)) < layers]
    write_safetensors(out / "model.safetensors", {name: weights.raw(name) for name in kept})
