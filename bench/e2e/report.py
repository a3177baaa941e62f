"""Results of compare.py as Markdown tables and an SVG chart."""

import json
import pathlib
from xml.sax.saxutils import escape

ENGINE_COLORS = {"Rankine": "#1f6feb", "llama.cpp": "#8b949e", "PyTorch": "#e8710a"}
WIDTH, LEFT, BAR, GAP, GROUP_GAP = 900, 250, 16, 4, 34


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def ratio_text(ratio):
    return "{:.2f} [{:.2f}, {:.2f}]".format(*ratio) if ratio else ""


def header(results):
    suite = results["suite"]
    lines = [f"# {suite}" if suite else "", ""]
    machine = f"{results['cpu']}, {results['threads']} threads"
    if results["roofline"]:
        row = results["roofline"]["rows"][-1]
        levels = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in row["bytes_per_second"].items())
        peaks = ", ".join(f"{name} {value / 1e9:.0f}" for name, value in row["operations_per_second"].items())
        machine += f" ({results['roofline']['isa']}). Read bandwidth in GB/s: {levels}. Peak in Gop/s: {peaks}"
    lines += [machine + ".", "",
              f"A prompt of {results['prompt_tokens']} tokens, then {results['new_tokens']} new ones; medians of "
              f"{results['rounds']} rounds in which the engines of a table take turns. Ratios are medians of paired "
              "ratios with their 95% interval."]
    if suite:
        gguf = " --gguf MODEL.gguf" if suite == "smollm2" else f" --layers {results['layers']}"
        flags = f" --only '{results['only']}'" if results.get("only") else ""
        flags += f" --isa {results['isa']}" if results.get("isa") else ""
        lines += ["", f"Made by `python bench/e2e/compare.py build/release/rankine --suite {suite}{gguf}{flags} "
                      f"--rounds {results['rounds']} --prompt-tokens {results['prompt_tokens']} "
                      f"--new-tokens {results['new_tokens']} --out FOLDER`."]
    return lines if suite else lines[2:]


def row(entry, group):
    if "error" in entry:
        return [entry["label"], entry["error"]] + [""] * (8 if group["by_bytes"] else 5)
    weights = entry.get("weight_bytes_per_token")
    bandwidth = entry.get("read_bandwidth_bytes_per_second")
    share = f"{entry['bandwidth_share']:.0%} of {bandwidth / 1e9:.1f}" if bandwidth else ""
    cells = [entry["label"], f"{weights / 1e6:.1f}" if weights else "",
             f"{entry['prefill_tokens_per_second']:.1f}", ratio_text(entry.get("prefill_ratio")),
             f"{entry['decode_tokens_per_second']:.1f}", ratio_text(entry.get("decode_ratio")), share]
    if group["by_bytes"]:
        of_bytes = entry.get("bytes_ratio")
        gain = entry["decode_ratio"][0] / of_bytes if of_bytes and "decode_ratio" in entry else None
        cells += [f"{of_bytes:.2f}" if of_bytes else "", f"{gain:.2f}" if gain else ""]
        of_roofline = entry.get("roofline_ratio")
        cells += [f"{entry['decode_ratio'][0] / of_roofline:.2f}" if of_roofline else ""]
    return cells


def table(group):
    titles = ["", "MB/token", "prefill/s", f"ratio to {group['baseline']}", "decode/s",
              f"ratio to {group['baseline']}", "of bandwidth, GB/s"]
    if group["by_bytes"]:
        titles += ["byte ratio", "speed-up / byte ratio", "speed-up / roofline's"]
    lines = [f"## {group['title']}", "", "| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    return lines + ["| " + " | ".join(row(entry, group)) + " |" for entry in group["entries"]]


def markdown(results):
    lines = header(results)
    if results["suite"]:
        lines += ["", f"![tokens per second]({results['suite']}.svg)"]
    for group in results["groups"]:
        lines += ["", *table(group)]
    return "\n".join(lines)


def bar(x, y, width, color, label):
    return (f'<rect x="{x:.1f}" y="{y}" width="{max(width, 1):.1f}" height="{BAR}" fill="{color}"/>'
            f'<text x="{x + width + 5:.1f}" y="{y + BAR - 4}">{escape(label)}</text>')


def panel(entries, y, x, width, what, baseline):
    """Bars of a group for prefill or decode, from x on; the longest has `width`."""
    rates = {e["label"]: e.get(f"{what}_tokens_per_second", 0) for e in entries}
    most = max([*rates.values(), 1e-9])
    svg = []
    for entry in entries:
        rate, ratio = rates[entry["label"]], entry.get(f"{what}_ratio")
        text = f"{rate:.1f}" if rate >= 1 else "not run"
        if ratio and entry["label"] != baseline:
            text += f" ({ratio[0]:.2f} x)"
        svg.append(bar(x, y, rate / most * width, ENGINE_COLORS[entry["engine"]], text))
        y += BAR + GAP
    return svg


def chart(results):
    svg, y = [], 64
    half = (WIDTH - LEFT) / 2
    for group in results["groups"]:
        svg.append(f'<text x="20" y="{y}" font-weight="bold">{escape(group["title"])}</text>')
        y += 10
        for what, x in (("decode", LEFT), ("prefill", LEFT + half)):
            svg += panel(group["entries"], y, x, half - 110, what, group["baseline"])
        for entry in group["entries"]:
            svg.append(f'<text x="{LEFT - 8}" y="{y + BAR - 4}" text-anchor="end">{escape(entry["label"])}</text>')
            y += BAR + GAP
        y += GROUP_GAP - GAP
    return [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" '
            'font-size="12">', f'<rect width="{WIDTH}" height="{y}" fill="white"/>',
            f'<text x="20" y="24" font-size="16">{escape(results["suite"])}: tokens per second (x: to the baseline of '
            'the group)</text>',
            f'<text x="{LEFT}" y="44">decode</text><text x="{LEFT + half:.0f}" y="44">prefill</text>', *svg, "</svg>"]


def write(results, folder):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = results["suite"]
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / f"{name}.md").write_text(markdown(results) + "\n")
    (folder / f"{name}.svg").write_text("\n".join(chart(results)) + "\n")


def rewrite(folder):
    """The tables and charts of all results in a folder."""
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        results = json.loads(path.read_text())
        if "suite" in results:
            write(results, folder)
