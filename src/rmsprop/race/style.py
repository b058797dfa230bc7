"""The report's style sheet: one column, large figures, light and dark, and print."""

CSS = """
:root{color-scheme:light dark;--ink:#1c1e21;--muted:#5c6169;--grid:#e2e4e8;--paper:#ffffff;--page:#f6f7f9;
--own:#e9f6f1;--bad:#a3260f;--sans:system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
@media (prefers-color-scheme: dark){:root{--ink:#eceef1;--muted:#a4aab4;--grid:#353a42;--paper:#1b1e23;--page:#121417;
--own:#17332b;--bad:#ff9c85}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:17px/1.6 var(--sans)}
main{max-width:1180px;margin:0 auto;padding:3rem 1.5rem 4rem}
h1{font-size:clamp(1.9rem,4vw,2.7rem);line-height:1.15;margin:.2rem 0 1rem;letter-spacing:-.015em}
h2{font-size:1.35rem;margin:3rem 0 .8rem}
p,li,dd{max-width:75ch}
.kicker{margin:0;color:var(--muted);font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.9rem}
.verdict{font-size:1.25rem;line-height:1.5;margin:0 0 2rem;padding-left:1rem;border-left:4px solid var(--rmsprop)}
.partial{color:var(--bad);font-weight:600}
.scroll{overflow-x:auto;background:var(--paper);border:1px solid var(--grid);border-radius:10px}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.8rem 1rem 0;color:var(--muted);font-size:.9rem}
th,td{padding:.6rem .75rem;text-align:right;white-space:nowrap;border-top:1px solid var(--grid)}
thead th{border-top:0;color:var(--muted);font-weight:600;font-size:.85rem;vertical-align:bottom}
th:first-child{text-align:left;font-weight:600}
th small{display:block;color:var(--muted);font-weight:400;font-size:.8rem;padding-left:46px;white-space:normal;
min-width:13rem}
td small{display:block;color:var(--muted);font-size:.8rem}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--paper);border:1px solid var(--grid);border-radius:10px;
padding:1rem;font:.95rem/1.5 ui-monospace,"DejaVu Sans Mono",monospace}
tr.own{background:var(--own)}
.bad{color:var(--bad);font-size:.85rem}
ul{padding-left:1.2rem}
.notes{color:var(--muted);font-size:.92rem}
.key{width:38px;height:14px;margin-right:8px;vertical-align:-1px;fill:none;stroke:currentColor;stroke-width:2}
.key .mark{fill:currentColor}
.legend{display:flex;flex-wrap:wrap;gap:.4rem 1.6rem;list-style:none;margin:0 0 1rem;padding:0;font-size:.95rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:1.2rem}
figure{margin:0;padding:1rem 1rem .6rem;background:var(--paper);border:1px solid var(--grid);border-radius:10px}
figure>svg{width:100%;height:auto;display:block}
figcaption{color:var(--muted);font-size:.9rem;line-height:1.45;padding:.5rem .3rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.5rem;font-size:.95rem}
dt{color:var(--muted)}dd{margin:0}
code{font-family:ui-monospace,"DejaVu Sans Mono",monospace;font-size:.9em}
footer{margin-top:3rem;color:var(--muted);font-size:.92rem}
@media print{body{background:none;font-size:11pt}figure,.scroll{break-inside:avoid}}
"""
