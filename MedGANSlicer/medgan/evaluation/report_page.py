"""The look and the one script of the report page. Nothing in it is fetched: both stand in the page itself."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #59636e; --line: #d8dee4; --band: #f4f6f8;
  --accent: #0b5cad; --dot: #2f81c7; --mean: #b3420a; --good: #e4f3e6; --bad: #fdebec; --badink: #9a1b1b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e3e7eb; --soft: #9aa5b1; --line: #343b43;
  --band: #1c2126; --accent: #74b3f0; --dot: #62aae8; --mean: #f0935a; --good: #1d3524;
  --bad: #3d2023; --badink: #ffb3b3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 1180px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .4rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .4rem 0; max-width: 75ch; }
a { color: var(--accent); }
nav { margin: .8rem 0 0; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; }
.lead, .hint, figcaption, .unit, .arrow, small { color: var(--soft); }
.hint { font-size: .88rem; }
.unit { font-weight: normal; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
.sortable tr > :first-child { position: sticky; left: 0; background: var(--paper); }
.sortable thead tr > :first-child { background: var(--band); }
th, td { padding: .35rem .55rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
th, td { white-space: nowrap; }
thead th { background: var(--band); vertical-align: bottom; border-bottom: 2px solid var(--line); }
.text { text-align: left; white-space: normal; min-width: 8rem; max-width: 26rem; overflow-wrap: anywhere; }
td small { display: block; white-space: nowrap; }
.best { background: var(--good); font-weight: 600; }
.best small { font-weight: normal; }
.error { background: var(--bad); color: var(--badink); text-align: left; white-space: normal; min-width: 16rem; }
.floor { color: var(--soft); font-style: italic; }
thead button { all: unset; cursor: pointer; font-weight: 600; }
thead button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
thead button::after { content: " \\21C5"; color: var(--soft); font-weight: normal; }
th[aria-sort=ascending] button::after { content: " \\25B2"; color: var(--accent); }
th[aria-sort=descending] button::after { content: " \\25BC"; color: var(--accent); }
#filter { font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--line); border-radius: 5px;
  padding: .3rem .6rem; width: 18rem; max-width: 100%; margin: .2rem 0 .6rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 1rem 2rem; }
.plots figure, .case figure { margin: 0; min-width: 0; }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, "DejaVu Sans", sans-serif; }
svg text { fill: var(--ink); } svg .tick { fill: var(--soft); text-anchor: middle; } svg .name { text-anchor: end; }
svg .grid { stroke: var(--line); } svg .whisker { stroke: var(--soft); }
svg .box { fill: var(--band); stroke: var(--soft); } svg .median { stroke: var(--ink); stroke-width: 1.6; }
svg .dot { fill: var(--dot); fill-opacity: .65; } svg .interval { stroke: var(--mean); stroke-width: 2.4; }
svg .mean { fill: var(--mean); }
.case { border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem; margin: .8rem 0; break-inside: avoid; }
.case h3 { margin: 0 0 .4rem; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; }
.row img { display: block; width: 100%; height: auto; max-height: 340px; object-fit: contain; background: #000;
  border-radius: 4px; }
figcaption { font-size: .85rem; margin-top: .25rem; }
dt { font-weight: 600; margin-top: .7rem; } dd { margin: .1rem 0 0; max-width: 80ch; }
ul { padding-left: 1.2rem; } li { max-width: 80ch; }
footer { margin-top: 3rem; color: var(--soft); font-size: .88rem; }
@media (max-width: 620px) { body { padding: 1rem .8rem 3rem; } th, td { padding: .3rem .45rem; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --band: #f2f2f2;
  --accent: #000; --dot: #2f81c7; --mean: #b3420a; --good: #e4f3e6; --bad: #fdebec; --badink: #7a1010; }
  * { print-color-adjust: exact; } body { max-width: none; padding: 0; font-size: 10pt; }
  nav, .screen { display: none; }
  .scroll { overflow: visible; } .sortable tr > :first-child { position: static; }
  h2, h3 { break-after: avoid; } tr, figure { break-inside: avoid; }
  thead button::after { content: ""; } th[aria-sort] button::after { content: ""; } }
"""

SCRIPT = """
"use strict";
const value = (row, column) => row.cells[column] ? row.cells[column].dataset.v : undefined;
function sortBy(header) {
  const table = header.closest("table"), column = header.cellIndex, body = table.tBodies[0];
  const down = header.getAttribute("aria-sort") === "ascending";
  const numeric = header.dataset.kind === "number", sign = down ? -1 : 1;
  const missing = (text) => text === undefined || text === "";
  const rows = [...body.rows];
  rows.sort((a, b) => {
    const x = value(a, column), y = value(b, column);
    if (missing(x) || missing(y)) return missing(x) - missing(y);
    return sign * (numeric ? x - y : x.localeCompare(y, undefined, { numeric: true }));
  });
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  body.append(...rows);
}
for (const header of document.querySelectorAll("table.sortable thead th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...header.childNodes);
  header.append(button);
  button.addEventListener("click", () => sortBy(header));
}
const filter = document.getElementById("filter");
if (filter) {
  filter.hidden = false;
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of document.querySelectorAll("#cases-table tbody tr"))
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
"""


def page(title: str, body: str) -> str:
    """A whole HTML document around an escaped title and a body that is HTML already.

    The policy at its head lets the browser run this script and this style alone and fetch nothing, so that no name of
    a file, however it is made, can do anything.
    """
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(STYLE)}'; script-src '{_hash(SCRIPT)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
