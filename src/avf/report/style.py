"""How a report looks: on light and dark screens and on paper. Its digest is in the page's policy."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --card: #ffffff; --line: #dfe3e8; --text: #1b2430; --soft: #5b6675; --faint: #6b7686;
  --host: #3f6fd8; --guest: #0f9d78; --host-soft: #3f6fd833; --guest-soft: #0f9d7833;
  --good: #0b7a55; --good-soft: #dff5ec; --bad: #b3261e; --bad-soft: #fce8e6; --warn: #8a5a00; --warn-soft: #fff3d6;
  --row: #f7f8fa; --code: #f1f3f6;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --card: #1a2029; --line: #2c3542; --text: #e6eaf0; --soft: #a3aebd; --faint: #8b97a8;
    --host: #7ea2f5; --guest: #3fcb9f; --host-soft: #7ea2f52e; --guest-soft: #3fcb9f2e;
    --good: #5fd6a8; --good-soft: #12372b; --bad: #ff9a90; --bad-soft: #43201d; --warn: #f3c55c; --warn-soft: #3b2f12;
    --row: #1e2530; --code: #141a22;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 32px 20px 48px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 17px; margin: 0 0 4px; }
h3 { font-size: 14px; margin: 18px 0 6px; color: var(--soft); font-weight: 600; }
p { margin: 0 0 10px; }
.soft { color: var(--soft); }
.note { color: var(--soft); font-size: 13px; margin: 0 0 12px; }
header { margin-bottom: 22px; }
.kicker { color: var(--soft); font-size: 13px; letter-spacing: .04em; text-transform: uppercase; margin: 0 0 4px; }
.badges { margin: 10px 0 0; display: flex; gap: 8px; flex-wrap: wrap; }
.badge { border-radius: 999px; padding: 2px 11px; font-size: 13px; font-weight: 600; border: 1px solid var(--line);
  background: var(--card); }
.badge.good, .mark.good { color: var(--good); background: var(--good-soft); border-color: transparent; }
.badge.bad, .mark.bad { color: var(--bad); background: var(--bad-soft); border-color: transparent; }
.badge.warn, .mark.warn { color: var(--warn); background: var(--warn-soft); border-color: transparent; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px 22px;
  margin: 0 0 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 0 0 18px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 16px; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 2px 0 0; font-size: 22px; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile small { display: block; font-size: 12px; font-weight: 400; color: var(--faint); }
dl.tiles { padding: 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--soft); font-weight: 600; font-size: 13px; }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
tr:last-child td, tr:last-child th { border-bottom: 0; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td .note { margin: 0; }
table.facts th { width: 190px; font-weight: 500; font-size: 14px; }
code, pre, .digest { font-family: ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", "Liberation Mono", monospace;
  font-size: 12.5px; }
.digest { overflow-wrap: anywhere; }
pre { background: var(--code); border-radius: 8px; padding: 12px 14px; margin: 8px 0 0; max-height: 420px;
  overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.45; }
summary { cursor: pointer; font-weight: 600; font-size: 17px; }
.wide { overflow-x: auto; }
.chart { width: 100%; min-width: 620px; height: auto; display: block; margin: 6px 0 2px; }
.chart text { font-size: 12.5px; fill: var(--text); }
.chart .group { font-weight: 650; font-size: 13px; }
.chart text.group.host { fill: var(--host); } .chart text.group.guest { fill: var(--guest); }
.chart .number { text-anchor: end; font-variant-numeric: tabular-nums; }
.chart .number.faint { fill: var(--faint); }
.chart .tick { fill: var(--faint); font-size: 11.5px; }
.chart .middle { text-anchor: middle; } .chart .end { text-anchor: end; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart .moment { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 3 3; }
.chart .row { fill: transparent; } .chart g:hover .row { fill: var(--row); }
.chart .bar.host, .chart .dot.host { fill: var(--host); }
.chart .bar.guest, .chart .dot.guest { fill: var(--guest); }
.chart .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart .curve.host { stroke: var(--host); } .chart .curve.guest { stroke: var(--guest); }
.chart .area.host { fill: var(--host-soft); } .chart .area.guest { fill: var(--guest-soft); }
.legend { display: flex; gap: 18px; flex-wrap: wrap; color: var(--soft); font-size: 13px; margin: 0; padding: 0;
  list-style: none; }
.legend li::before { content: ""; display: inline-block; width: 11px; height: 11px; border-radius: 3px;
  margin-right: 7px; vertical-align: -1px; background: var(--host); }
.legend li.guest::before { background: var(--guest); }
.chain { list-style: none; margin: 14px 0 0; padding: 0; display: grid;
  grid-template-columns: repeat(4, 1fr); gap: 26px; }
.chain > li { position: relative; border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px;
  min-width: 0; }
.chain > li + li::before { content: "\\2192"; position: absolute; left: -22px; top: 40%; color: var(--faint);
  font-size: 18px; }
.chain h3 { margin: 0 0 6px; color: var(--text); display: flex; align-items: center; gap: 8px; }
.chain p { font-size: 13px; margin: 0 0 4px; overflow-wrap: anywhere; }
.chain .unknown { opacity: .55; }
.mark { border-radius: 999px; font-size: 12px; padding: 0 8px; font-weight: 650; }
.verdict { border-left: 4px solid var(--bad); background: var(--bad-soft); border-radius: 6px; padding: 10px 14px;
  margin: 10px 0 14px; }
.verdict.calm { border-color: var(--good); background: var(--good-soft); }
.verdict p { margin: 0; } .verdict p + p { margin-top: 6px; }
footer { color: var(--faint); font-size: 13px; padding: 0 4px; }
@media (max-width: 760px) { .chain { grid-template-columns: 1fr; } .chain > li + li::before { display: none; } }
@media print {
  :root { --page: #fff; --card: #fff; --line: #ccc; --text: #000; --soft: #333; --faint: #555;
    --host: #2d57b8; --guest: #0b7a5c; --host-soft: #2d57b822; --guest-soft: #0b7a5c22; --code: #f5f5f5;
    --good: #0b5d41; --good-soft: #e6f4ee; --bad: #9b1c14; --bad-soft: #fbeae8; --warn: #6b4600; --warn-soft: #fdf3dc; }
  body { font-size: 11pt; } main { max-width: none; padding: 0; }
  section, .tile { break-inside: avoid; border-radius: 6px; }
  section.long { break-inside: auto; }
  pre { max-height: none; } * { print-color-adjust: exact; }
}
"""
