"""Define the CSS of page and picture, for phone, desktop and print, light and dark. Uses the reader's fonts."""

from typing import Final

_DAY: Final = """
--ground: #ffffff; --raised: #f4f5f7; --ink: #1b1f24; --dim: #57606a; --rule: #d0d7de;
--good: #1a7f37; --fair: #855400; --bad: #b42318; --quiet: #57606a; --open: #fff8c5; --accent: #0550ae;
"""
_NIGHT: Final = """
--ground: #14171b; --raised: #1f242a; --ink: #e6e9ed; --dim: #a0a9b4; --rule: #3a424b;
--good: #4cc26a; --fair: #e0b040; --bad: #ff8177; --quiet: #a0a9b4; --open: #3d3512; --accent: #7cb7ff;
"""
_SANS: Final = 'system-ui, "Hiragino Sans", "Noto Sans CJK JP", "Noto Sans JP", "Yu Gothic", sans-serif'
_MONO: Final = 'ui-monospace, Menlo, Consolas, "Noto Sans Mono CJK JP", monospace'

STYLE: Final = f"""
:root {{ {_DAY} color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{ :root {{ {_NIGHT} }} }}
* {{ box-sizing: border-box; }}
body {{ margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.65 {_SANS}; overflow-wrap: anywhere; }}
main {{ max-width: 1080px; margin: 0 auto; padding: 24px 20px 64px; }}
h1 {{ font-size: 1.5rem; line-height: 1.35; margin: 0 0 24px; }}
h1 code {{ display: block; font-size: 1rem; font-weight: 400; background: none; padding: 4px 0 0; color: var(--dim); }}
h2 {{ font-size: 1.15rem; margin: 40px 0 12px; padding-bottom: 6px; border-bottom: 1px solid var(--rule); }}
h1 .both [lang=en], h2 .both [lang=en] {{ color: var(--dim); font-weight: 400; margin-left: .6em; }}
.both [lang=ja] + [lang=en] {{ color: var(--dim); font-size: .875em; margin-left: .5em; }}
dl {{ display: grid; grid-template-columns: minmax(9rem, 15rem) 1fr; gap: 6px 20px; margin: 12px 0; }}
dt {{ color: var(--dim); }}
dt .both [lang=ja] {{ color: var(--ink); }}
dd {{ margin: 0; min-width: 0; }}
code, pre {{ font-family: {_MONO}; font-size: .8125rem; }}
code {{ background: var(--raised); border-radius: 4px; padding: 1px 5px; unicode-bidi: isolate; }}
pre {{ background: var(--raised); border-radius: 6px; padding: 12px 14px; white-space: pre-wrap; line-height: 1.5; }}
.foreign {{ unicode-bidi: isolate; }}
.several > * {{ display: inline-block; max-width: 100%; margin: 0 .8em 2px 0; }}
.badge {{ display: inline-block; border: 1.5px solid; border-radius: 999px; padding: 0 .7em; margin-right: .6em; }}
.good {{ color: var(--good); }} .fair {{ color: var(--fair); }} .bad {{ color: var(--bad); }}
.quiet {{ color: var(--quiet); }}
.remark {{ border-left: 4px solid; padding: 8px 14px; margin: 12px 0; background: var(--raised); }}
.remark > * {{ color: var(--ink); }}
.open {{ display: inline-block; background: var(--open); border: 1.5px dashed var(--fair); border-radius: 6px;
  padding: 2px 12px; }}
.more {{ color: var(--dim); font-size: .875rem; }}
table {{ width: 100%; border-collapse: collapse; font-size: .875rem; margin: 16px 0; }}
th, td {{ text-align: left; vertical-align: top; padding: 6px 10px 6px 0; border-bottom: 1px solid var(--rule);
  line-height: 1.5; }}
th {{ font-weight: 600; word-break: keep-all; }}
th .both [lang=ja] + [lang=en], td > .both [lang=ja] + [lang=en] {{ display: block; margin: 0; font-weight: 400; }}
.figure, .badge, td .badge + .both {{ white-space: nowrap; }}
th, td > .both {{ overflow-wrap: normal; }}
td {{ font-variant-numeric: tabular-nums; }}
tr {{ break-inside: avoid; }}
figure {{ margin: 16px 0; overflow-x: auto; }}
figure svg {{ display: block; min-width: 760px; width: 100%; height: auto; }}
figcaption {{ color: var(--dim); font-size: .875rem; }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px; }}
@media screen and (max-width: 700px) {{
  main {{ padding: 16px 14px 48px; }}
  dl {{ grid-template-columns: 1fr; gap: 0; }}
  dd {{ margin-bottom: 10px; }}
  thead {{ position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }}
  table, tbody, tr, td {{ display: block; }}
  tr {{ border: 1px solid var(--rule); border-radius: 8px; padding: 6px 12px; margin-bottom: 10px; }}
  td {{ display: grid; grid-template-columns: 6.5rem minmax(0, 1fr); gap: 0 10px; border: 0; padding: 3px 0; }}
  td > * {{ justify-self: start; max-width: 100%; }}
  td::before {{ content: attr(data-name); color: var(--dim); font-size: .75rem; line-height: 1.75; }}
  .figure {{ white-space: normal; }}
  td:has(> :empty) {{ display: none; }}
}}
@media print {{
  :root {{ {_DAY} }}
  body {{ font-size: 10pt; }}
  table {{ font-size: 7.5pt; }}
  main {{ max-width: none; padding: 0; }}
  h2 {{ break-after: avoid; }}
  figure {{ overflow: visible; break-inside: avoid; }}
  figure svg {{ min-width: 0; }}
  * {{ print-color-adjust: exact; }}
}}
"""

PICTURE_STYLE: Final = f"""
.timeline {{ {_DAY} --done: #2f6fce; font-family: {_SANS}; }}
@media (prefers-color-scheme: dark) {{ .timeline {{ {_NIGHT} --done: #5b9bf3; }} }}
@media print {{ .timeline {{ {_DAY} --done: #2f6fce; }} }}
.timeline .ground {{ fill: var(--ground); }}
.timeline .band {{ fill: var(--raised); }}
.timeline text {{ fill: var(--ink); font-size: 12px; paint-order: stroke; stroke: var(--ground); stroke-width: 3px;
  stroke-linejoin: round; }}
.timeline .small {{ font-size: 11px; }}
.timeline .dim {{ fill: var(--dim); }}
.timeline .strong {{ font-weight: 700; }}
.timeline .end {{ text-anchor: end; }}
.timeline .middle {{ text-anchor: middle; }}
.timeline text.inside {{ fill: var(--ground); stroke: none; }}
.timeline .tick {{ stroke: var(--rule); }}
.timeline .bar {{ fill: var(--done); stroke: var(--done); }}
.timeline .incomplete {{ fill: var(--fair); stroke: var(--fair); }}
.timeline .failed {{ fill: var(--bad); stroke: var(--bad); }}
.timeline .cut-off, .timeline .under-way {{ fill: none; stroke: var(--dim); stroke-dasharray: 3 2; }}
.timeline .cached {{ fill: none; stroke: var(--dim); stroke-width: 1.5; }}
.timeline .moment {{ stroke-width: 1.5; }}
.timeline .frozen {{ stroke: var(--accent); }}
.timeline .none-left {{ stroke: var(--good); }}
.timeline text.frozen {{ fill: var(--accent); stroke: var(--ground); stroke-width: 3px; }}
.timeline text.none-left {{ fill: var(--good); stroke: var(--ground); stroke-width: 3px; }}
"""
