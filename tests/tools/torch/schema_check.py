"""The part of JSON Schema that docs/factorization.schema.json uses; other keywords are an error, not ignored."""

import json
import re

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
IGNORED = {"$schema", "title", "description", "$defs"}


def _is_type(value, name):
    if name in ("integer", "number"):
        return isinstance(value, int if name == "integer" else (int, float)) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def problems(value, schema, root, place="$"):
    """What is wrong with the value, a list of lines."""
    if schema is True:
        return []
    found = []
    for keyword, of in schema.items():
        if keyword in IGNORED or keyword in ("patternProperties", "additionalProperties"):
            continue
        found += _check(keyword, of, value, schema, root, place)
    return found


def _check(keyword, of, value, schema, root, place):
    if keyword == "$ref":
        target = root
        for part in of.removeprefix("#/").split("/"):
            target = target[part]
        return problems(value, target, root, place)
    if keyword == "oneOf":
        fits = [problems(value, option, root, place) for option in of]
        return [] if sum(not f for f in fits) == 1 else [f"{place}: fits {sum(not f for f in fits)} of oneOf: {fits}"]
    if keyword == "properties":
        return _properties(value, schema, root, place) if isinstance(value, dict) else []
    if keyword == "items":
        items = value if isinstance(value, list) else []
        return [p for k, item in enumerate(items) for p in problems(item, of, root, f"{place}[{k}]")]
    checks = {
        "type": lambda: any(_is_type(value, t) for t in ([of] if isinstance(of, str) else of)),
        "const": lambda: value == of,
        "enum": lambda: value in of,
        "required": lambda: not isinstance(value, dict) or all(key in value for key in of),
        "minItems": lambda: not isinstance(value, list) or len(value) >= of,
        "minLength": lambda: not isinstance(value, str) or len(value) >= of,
        "minimum": lambda: not _is_type(value, "number") or value >= of,
        "maximum": lambda: not _is_type(value, "number") or value <= of,
    }
    return [] if checks[keyword]() else [f"{place}: {value!r} is not {keyword} {of}"]


def _properties(value, schema, root, place):
    found = []
    for key, item in value.items():
        if key in schema["properties"]:
            found += problems(item, schema["properties"][key], root, f"{place}.{key}")
        elif not any(re.search(pattern, key) for pattern in schema.get("patternProperties", {})) and \
                schema.get("additionalProperties") is False:
            found.append(f"{place}: unknown key {key}")
    return found


def check_file(path, schema_path):
    with open(path) as file, open(schema_path) as schema:
        schema = json.load(schema)
        return problems(json.load(file), schema, schema)
