"""How the report looks: light and dark, narrow and wide, on paper.

One colour speaks: ``--tail`` always means the long tail, and nothing else has it.
"""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fdfcfa; --ink: #1d1c1a; --soft: #66635c; --faint: #dcd8cf; --mid: #97928a;
  --panel: #f5f2ec; --tail: #c2410c; --tail-ground: #fbe6d9;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #171614; --ink: #ece9e2; --soft: #a8a399; --faint: #35322d; --mid: #77726a;
    --panel: #201e1b; --tail: #fb923c; --tail-ground: #3d2413;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 60rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: .5rem 0 .25rem; letter-spacing: -.01em; }
h2 {
  font-size: 1.25rem; margin: 3rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--faint);
}
h3 { font-size: 1rem; margin: 1.75rem 0 .25rem; }
p, ul, dl { max-width: 44rem; margin: .5rem 0; }
a { color: inherit; text-underline-offset: .15em; }
code { font-size: .9em; overflow-wrap: anywhere; }
.lead, figcaption, caption, .note { color: var(--soft); }
.tail { color: var(--tail); }
mark { background: var(--tail-ground); color: var(--tail); padding: 0 .3em; border-radius: .2em; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0; max-width: none;
}
.tiles div { background: var(--panel); border-radius: .4rem; padding: .7rem .9rem; }
.tiles dt { font-size: .8rem; color: var(--soft); line-height: 1.3; }
.tiles dd { margin: .15rem 0 0; font-size: 1.5rem; font-variant-numeric: tabular-nums; }
.tiles small { display: block; font-size: .75rem; color: var(--soft); }
figure { margin: 1rem 0 1.5rem; }
figcaption { font-size: .875rem; margin-top: .35rem; max-width: 44rem; }
.pair {
  display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(19rem, 100%), 1fr));
}
svg { display: block; width: 100%; height: auto; max-width: 31rem; overflow: visible; }
svg text { font: 11px ui-sans-serif, system-ui, sans-serif; fill: var(--ink); }
svg .tick, svg .axis, svg .quiet { fill: var(--soft); }
svg .grid { stroke: var(--faint); stroke-width: 1; }
svg .base { stroke: var(--mid); stroke-width: 1; }
svg .line { fill: none; stroke: var(--ink); stroke-width: 1.8; }
svg .guide { fill: none; stroke: var(--mid); stroke-width: 1; stroke-dasharray: 4 3; }
svg .guide-tail { stroke: var(--tail); stroke-width: 1.2; stroke-dasharray: 4 3; }
svg .lead { stroke: var(--faint); }
svg .whisker { stroke: var(--mid); stroke-width: 1.4; }
svg .bar, svg .dot { fill: var(--mid); }
svg .strong { fill: var(--ink); stroke: var(--ink); }
svg .hollow { fill: var(--paper); stroke: var(--ink); stroke-width: 1.5; }
svg .tailbar { fill: var(--tail); }
svg text.tail { fill: var(--tail); }
svg .points, svg .points-tail { fill: none; stroke-width: 2; stroke-linecap: round; }
svg .points { stroke: var(--mid); opacity: .75; }
svg .points-tail { stroke: var(--tail); opacity: .75; }
svg .region { font-weight: 600; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
.key {
  display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; margin: .25rem 0;
  font-size: .875rem; color: var(--soft);
}
.key svg { width: .8rem; display: inline-block; vertical-align: -.05rem; margin-right: .35rem; }
.table { overflow-x: auto; margin: .75rem 0 1.25rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .25rem 0; }
th, td { padding: .28rem .7rem .28rem 0; text-align: left; vertical-align: top; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
tbody th { font-weight: 500; }
tbody tr { border-top: 1px solid var(--faint); }
.numbers td, .numbers thead th + th { text-align: right; white-space: nowrap; }
.numbers small { color: var(--soft); font-size: .92em; }
.numbers tbody th { white-space: nowrap; }
.cards {
  display: grid; gap: .25rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr));
}
.cards table { width: 100%; }
.cards caption { color: var(--ink); font-weight: 600; }
.cards caption small { display: block; color: var(--soft); font-weight: 400; }
.cards td:first-of-type { text-align: right; white-space: nowrap; width: 3.5rem; }
details summary { cursor: pointer; color: var(--soft); margin: .5rem 0; }
@media (max-width: 34rem) {
  body { padding: 1rem .9rem 3rem; }
  svg text { font-size: 13px; }
}
@media print {
  :root {
    --paper: #fff; --ink: #000; --soft: #444; --faint: #ccc; --mid: #888; --panel: #f4f4f4;
    --tail: #b03a06; --tail-ground: #fff;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  figure, tr, .tiles div { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  .table { overflow: visible; }
}
"""
