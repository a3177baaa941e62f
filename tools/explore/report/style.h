// The look of the report, and the script that sorts its table.
#pragma once

#include <string_view>

namespace rankine {

// The palette is Okabe and Ito's, which colour-blind readers tell apart, with its lightness fitted
// to each background; shapes say the same once more.
inline constexpr std::string_view kReportStyle = R"css(
:root { color-scheme: light dark; --page: #f6f7f9; --panel: #ffffff; --ink: #1c2127; --soft: #5c6670;
  --rule: #dde1e6; --grid: #e9ecef; --heat: #0b5cad; --accent: #0b5cad;
  --c0: #4a525b; --c1: #0072b2; --c2: #c44e00; --c3: #00805f; --c4: #b0508c; --c5: #9a6b00; --c6: #2b8fc4; --c7: #6a4fb3; }
@media (prefers-color-scheme: dark) { :root { --page: #14171a; --panel: #1d2125; --ink: #e8eaed; --soft: #a3acb5;
  --rule: #363c43; --grid: #2b3036; --heat: #6db8ff; --accent: #7cc0ff;
  --c0: #b9c1c9; --c1: #5ab4f0; --c2: #ff8f4d; --c3: #3ecf9f; --c4: #eb9bcb; --c5: #e8bb4a; --c6: #8ad4ff; --c7: #b8a2ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 0 0 4px; overflow-wrap: anywhere; }
p { margin: 0 0 12px; max-width: 76ch; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.notice { border-left: 4px solid var(--c2); padding: 8px 12px; background: var(--panel); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; margin: 18px 0 20px; }
.tile, section { background: var(--panel); border: 1px solid var(--rule); border-radius: 10px; }
.tile { padding: 12px 14px; min-width: 0; }
.tile b { display: block; font-size: 20px; line-height: 1.3; overflow-wrap: anywhere; }
.tile span { color: var(--soft); font-size: 13px; }
section { padding: 18px 20px; margin: 0 0 18px; }
section > p { color: var(--soft); font-size: 14px; }
svg { display: block; width: 100%; height: auto; font-family: inherit; }
.narrow { display: none; }
@media (max-width: 700px) { .wide { display: none; } .narrow { display: block; }
  main { padding: 18px 10px 40px; } section { padding: 14px 12px; } }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); gap: 0 18px; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(230px, 100%), 1fr)); gap: 14px; }
.small h3 { font-size: 13px; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; font-size: 13px; margin: 0 0 8px; padding: 0; list-style: none; }
.legend svg { display: inline-block; width: 12px; height: 12px; margin-right: 5px; vertical-align: -1px; }
.ramp { display: inline-block; width: 90px; height: 9px; border-radius: 5px; margin: 0 6px; }
text { fill: var(--ink); }
.tick { fill: var(--soft); font-size: 12px; } .title { fill: var(--soft); font-size: 12.5px; }
.name { font-size: 12px; } .best { font-weight: 600; }
.grid { stroke: var(--grid); } .axis { stroke: var(--soft); } .leader { stroke: var(--soft); stroke-width: 0.7; }
.frontier { fill: none; stroke: var(--accent); stroke-width: 1.6; stroke-dasharray: 5 3; opacity: 0.75; }
.line { fill: none; stroke: currentColor; stroke-width: 1.8; stroke-linejoin: round; }
.bar { stroke: currentColor; stroke-width: 1.4; opacity: 0.65; }
.mark { fill: currentColor; stroke: var(--panel); stroke-width: 1; } .dominated { fill-opacity: 0.55; }
.cell, .scale { fill: var(--heat); }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); }
.c4 { color: var(--c4); } .c5 { color: var(--c5); } .c6 { color: var(--c6); } .c7 { color: var(--c7); }
.t0 { fill: var(--c0); } .t1 { fill: var(--c1); } .t2 { fill: var(--c2); } .t3 { fill: var(--c3); }
.t4 { fill: var(--c4); } .t5 { fill: var(--c5); } .t6 { fill: var(--c6); } .t7 { fill: var(--c7); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: 6px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--panel); }
th.left, td.left { text-align: left; }
td.words { text-align: left; white-space: normal; min-width: 220px; overflow-wrap: anywhere; }
th button { all: unset; cursor: pointer; white-space: normal; }
th button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " \2191"; } th[aria-sort=descending] button::after { content: " \2193"; }
tr.best td:first-child { font-weight: 600; } tr.best td:first-child::after { content: " \2605"; color: var(--accent); }
.error { color: var(--soft); font-size: 12px; }
code { font: 12.5px ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--soft); }
)css";

// Without < and &, so that the page is XML as well.
inline constexpr std::string_view kReportScript = R"js(
document.querySelectorAll("table.sortable th button").forEach(function (button) {
  button.addEventListener("click", function () {
    var head = button.parentNode, row = head.parentNode, table = head.closest("table");
    var column = Array.prototype.indexOf.call(row.children, head);
    var rising = head.getAttribute("aria-sort") !== "ascending";
    Array.prototype.forEach.call(row.children, function (cell) { cell.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    var value = function (line) { return line.children[column].getAttribute("data-value"); };
    var order = function (a, b) {
      var left = value(a), right = value(b);
      if (left === "" || right === "") { return (left === "" ? 1 : 0) - (right === "" ? 1 : 0); }
      var numbers = !isNaN(left) ? !isNaN(right) : false;
      var difference = numbers ? Number(left) - Number(right) : left.localeCompare(right);
      return rising ? difference : -difference;
    };
    var body = table.tBodies[0];
    Array.from(body.rows).sort(order).forEach(function (line) { body.appendChild(line); });
  });
});
)js";

}  // namespace rankine
