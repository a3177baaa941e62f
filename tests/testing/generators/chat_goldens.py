"""Makes tests/data/chat/goldens.json: chat templates as published, rendered by jinja2 as transformers does.

    python tests/testing/generators/chat_goldens.py GGUF

GGUF is the demo model: for its format the ids of the rendered text are kept too.
"""
import json
import pathlib
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tokenizer_goldens import encode, smollm2

OUT = pathlib.Path(__file__).resolve().parents[2] / "data" / "chat"
ALTERNATE = "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
CHECK = "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}" + ALTERNATE + "{% endif %}"
MISTRAL = ("{{ bos_token }}{% for message in messages %}" + CHECK + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
           "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token ASSISTANT_END}}{% else %}"
           "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}")
GEMMA = ("{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}" + CHECK +
         "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
         "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}"
         "{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}")
LLAMA3 = ("{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
          "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
          "{% endif %}{{ content }}{% endfor %}")
LLAMA3_PROMPT = "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
CHATML_LOOP = "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
CHATML_PROMPT = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

# As in the models' tokenizer_config.json. Inside a string of a template, \n may also be written as a line break.
TEMPLATES = {
    "chatml": ["{% for message in messages %}" + CHATML_LOOP + CHATML_PROMPT],
    "chatml-smollm2": [
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful AI assistant "
        "named SmolLM, trained by Hugging Face<|im_end|>\\n' }}{% endif %}" + CHATML_LOOP + CHATML_PROMPT],
    "llama2": [
        "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}"
        "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}" + CHECK +
        "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"],
    "llama3": [LLAMA3 + "{% if add_generation_prompt %}" + LLAMA3_PROMPT + "{% endif %}"],
    "llama3-always-prompting": [LLAMA3 + LLAMA3_PROMPT],
    "zephyr": [
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + message['content'] + eos_token }}\n"
        "{% elif message['role'] == 'system' %}\n{{ '<|system|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
        "{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n"
        "{% endif %}\n{% endfor %}"],
    "mistral": [MISTRAL.replace(" ASSISTANT_END", "")],
    "mistral-v0.1": [MISTRAL.replace(" ASSISTANT_END", " + ' ' ")],
    "mistral-system": [
        "{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] %}\n    {%- set loop_messages = messages[1:] %}\n"
        "{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n\n{{- bos_token }}\n{%- for message in loop_messages %}\n"
        "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n        {{- raise_exception('After the optional system message, "
        "conversation roles must alternate user/assistant/user/assistant/...') }}\n    {%- endif %}\n    {%- if message['role'] == 'user' %}\n"
        "        {%- if loop.first and system_message is defined %}\n            {{- ' [INST] ' + system_message + '\\n\\n' + message['content'] + ' [/INST]' }}\n"
        "        {%- else %}\n            {{- ' [INST] ' + message['content'] + ' [/INST]' }}\n        {%- endif %}\n"
        "    {%- elif message['role'] == 'assistant' %}\n        {{- ' ' + message['content'] + eos_token}}\n    {%- else %}\n"
        "        {{- raise_exception('Only user and assistant roles are supported, with the exception of an initial optional system message!') }}\n"
        "    {%- endif %}\n{%- endfor %}\n"],
    "gemma": ["{{ bos_token }}" + GEMMA],
    "gemma-without-bos": [GEMMA],
}


def say(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS = [
    say(("user", "What is the capital of France?")),
    say(("user", "def fibonacci(n):")),
    say(("system", "You are terse."), ("user", "Hello")),
    say(("user", "Hello"), ("assistant", "Hi there"), ("user", "Who are you?")),
    say(("system", "Be kind.\n"), ("user", "  padded \n"), ("assistant", "\t reply\u00a0\u3000"), ("user", "\n\nlast\x1c ")),
    say(("system", ""), ("user", "")),
    say(("user", "   ")),
    say(("system", " s "), ("user", "   ")),
    say(("user", "Hello"), ("assistant", "A complete exchange.")),
    say(("user", "日本語 😀"), ("assistant", "١٢٣"), ("user", "e\u0301 'quoted' \"double\" {{ x }} {% y %}")),
    say(("assistant", "I go first"), ("user", "No")),
    say(("user", "one"), ("user", "two")),
    say(("user", "one"), ("system", "late"), ("user", "two")),
    say(("user", "one"), ("tool", "result")),
    say(("system", "only a system message")),
    say(("system", "a"), ("system", "b"), ("user", "c")),
]


class TemplateError(Exception):
    pass


def raise_exception(message):
    raise TemplateError(message)


def render(template, messages, add_generation_prompt):
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    try:
        text = environment.from_string(template).render(messages=messages, add_generation_prompt=add_generation_prompt, bos_token="<s>", eos_token="</s>")
    except (TemplateError, jinja2.exceptions.TemplateError) as error:
        return {"error": str(error)}
    return {"text": text}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    tokenizer = smollm2(sys.argv[1])
    formats = []
    for name, templates in TEMPLATES.items():
        cases = []
        for messages in CONVERSATIONS:
            for prompt in (False, True):
                case = {"messages": messages, "add_generation_prompt": prompt, **render(templates[0], messages, prompt)}
                if name == "chatml-smollm2" and "text" in case:
                    case["ids"] = encode(tokenizer, case["text"], parse_special=True, add_special=False)
                cases.append(case)
        formats.append({"name": name, "templates": templates, "cases": cases})
    (OUT / "goldens.json").write_text(json.dumps(formats, indent=0, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
