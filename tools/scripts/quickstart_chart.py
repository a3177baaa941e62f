"""Draws what tools/quickstart.sh measured as an SVG: perplexity against bytes of weights read per token.

Usage: quickstart_chart.py FOLDER OUT.svg
"""

import json
import math
import os
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 420
LABELS = {"smollm2-135m": "dense bf16", "smollm2-135m-caldera-3.5": "Q + L R, 3.5 bits (CALDERA)",
          "smollm2-135m-int3": "plain rounding, 3.5 bits", "smollm2-135m-svd-llm-0.9": "svd-llm, keep 0.9",
          "smollm2-135m-svd-llm-0.8": "svd-llm, keep 0.8",
          "smollm2-135m-svd-llm-0.8-selective": "svd-llm, keep 0.8 in 70 linears"}
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 56, 60


def load(folder, name):
    with open(os.path.join(folder, name)) as file:
        return json.load(file)


def points(folder):
    for model in load(folder, "bench.json")["models"]:
        name = os.path.basename(model["path"])
        label = "as shipped (Q4_1)" if name.endswith(".gguf") else LABELS.get(name, name)
        yield (label, model["weight_bytes_per_token"] / 1e6, load(folder, f"eval-{name}.json"),
               model["decode_tokens_per_second"])


def axis(low, high, step):
    value = math.ceil(low / step) * step
    while value <= high:
        yield value
        value += step


def main():
    folder, out = sys.argv[1:]
    data = list(points(folder))
    x_low, x_high = min(p[1] for p in data) - 12, max(p[1] for p in data) + 12
    y_low = math.log2(min(p[2]["perplexity"] for p in data) * 0.8)
    y_high = math.log2(max(p[2]["perplexity"] for p in data) * 1.25)
    x_of = lambda v: LEFT + (v - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
    y_of = lambda v: HEIGHT - BOTTOM - (math.log2(v) - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
           'font-size="13">', f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="28" font-size="16">SmolLM2-135M: perplexity on held-out Python code against bytes '
           'read per token</text>']
    for value in axis(x_low, x_high, 20):
        svg.append(f'<line x1="{x_of(value):.1f}" x2="{x_of(value):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>'
                   f'<text x="{x_of(value):.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{value:.0f}</text>')
    for value in (4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128):
        if y_low <= math.log2(value) <= y_high:
            svg.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(value):.1f}" y2="{y_of(value):.1f}" '
                       f'stroke="#eee"/><text x="{LEFT - 8}" y="{y_of(value) + 4:.1f}" text-anchor="end">{value}</text>')
    svg.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 16}" text-anchor="middle">MB of weights read per '
               'token</text>'
               f'<text x="18" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" transform="rotate(-90 18 '
               f'{(TOP + HEIGHT - BOTTOM) / 2})">perplexity (log scale)</text>')
    for name, megabytes, perplexity, speed in data:
        x, y = x_of(megabytes), y_of(perplexity["perplexity"])
        error = perplexity["standard_error"]
        low, high = (y_of(perplexity["perplexity"] + s * error) for s in (-1, 1))
        near_right = x > WIDTH / 2
        lowest = perplexity["perplexity"] == min(p[2]["perplexity"] for p in data)
        svg.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="#1f6feb"/>'
                   f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#1f6feb"/>'
                   f'<text x="{x + (-10 if near_right else 10):.1f}" y="{y + (20 if lowest else -8):.1f}" '
                   f'text-anchor="{"end" if near_right else "start"}">{escape(name)} ({speed:.0f} tokens/s)</text>')
    svg.append("</svg>")
    with open(out, "w") as file:
        file.write("\n".join(svg) + "\n")


if __name__ == "__main__":
    main()
