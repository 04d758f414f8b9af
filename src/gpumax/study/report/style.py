"""How the report looks: on a screen by day and by night, on a phone, on paper."""

from __future__ import annotations

from typing import Final, NamedTuple


class Theme(NamedTuple):
    """Colours. lines: of policies, in their order; who sees fewer colours still tells them apart, by lightness and by dashes."""

    paper: str
    card: str
    ink: str
    muted: str
    rule: str
    lines: tuple[str, ...]


LIGHT: Final = Theme(
    paper="#f6f7f9",
    card="#ffffff",
    ink="#16191d",
    muted="#565d66",
    rule="#dfe3e8",
    lines=("#005fae", "#e05a08", "#004f3d", "#c455a0", "#2b1c14", "#665c00", "#4a9bd0", "#9b8f6a"),
)
DARK: Final = Theme(
    paper="#111417",
    card="#1a1e23",
    ink="#eceff2",
    muted="#a7afb8",
    rule="#343b43",
    lines=("#4aa8ff", "#ff8a45", "#35c08f", "#ff7fd6", "#f2f4f7", "#d8e04a", "#a9c9ff", "#8e97a1"),
)
DASHES: Final = ("", "7 3", "2 3", "9 3 2 3", "4 4", "12 4", "1 4", "9 3 2 3 2 3")
"""Of the lines, in the order of their colours."""

MARKS: Final = "●■▲◆▼✚★✖"


FONT: Final = 'system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans",sans-serif'


def drawing(theme: Theme | None) -> str:
    """Rules for what is drawn. theme: its colours, for a picture that stands alone; None: those of the page around it."""
    ink, muted, rule, card = (
        (theme.ink, theme.muted, theme.rule, theme.card)
        if theme
        else ("var(--ink)", "var(--muted)", "var(--rule)", "var(--card)")
    )
    lines = theme.lines if theme else [f"var(--c{number})" for number in range(len(LIGHT.lines))]
    own = "" if theme else "svg "
    rules = [
        f"text{{fill:{ink};font:12px {FONT}}}",
        f".m{{fill:{muted}}}",
        ".b{font-weight:600}",
        f".g{{stroke:{rule};stroke-width:1;fill:none}}",
        f".a{{stroke:{muted};stroke-width:1;fill:none}}",
        f".q{{stroke:{ink};stroke-width:2.5;fill:none}}",
        f".h{{stroke:{muted};stroke-width:1;fill:{card}}}",
        f".halo{{paint-order:stroke;stroke:{card};stroke-width:3px;stroke-linejoin:round}}",
    ]
    for number, (color, dash) in enumerate(zip(lines, DASHES, strict=True)):
        dashed = f";stroke-dasharray:{dash}" if dash else ""
        rules.append(f".s{number}{{stroke:{color};fill:none;stroke-width:2;stroke-linejoin:round{dashed}}}")
        rules.append(f".f{number}{{fill:{color}}}")
        rules.append(f".l{number}{{stroke:{color};fill:none;stroke-width:1.5;stroke-linejoin:round}}")
        rules.append(f".w{number}{{fill:{color};fill-opacity:.22}}")
    rules.append(".k{stroke-width:3.2}")
    return "".join(own + rule for rule in rules)


def _variables(theme: Theme) -> str:
    colors = "".join(f"--c{number}:{color};" for number, color in enumerate(theme.lines))
    return f"--paper:{theme.paper};--card:{theme.card};--ink:{theme.ink};--muted:{theme.muted};--rule:{theme.rule};{colors}"


PAGE: Final = f"""
:root{{color-scheme:light dark;{_variables(LIGHT)}}}
@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}
*{{box-sizing:border-box}}
html{{-webkit-text-size-adjust:100%}}
body{{margin:0;background:var(--paper);color:var(--ink);font:16px/1.5 {FONT};overflow-wrap:anywhere}}
main{{max-width:820px;margin:0 auto;padding:32px 20px 48px}}
header .kind{{margin:0;color:var(--muted);font-size:14px}}
h1{{font-size:30px;line-height:1.2;letter-spacing:-.015em;margin:6px 0 10px;text-wrap:balance}}
h2{{font-size:20px;line-height:1.3;letter-spacing:-.01em;margin:0 0 4px;text-wrap:balance}}
h3{{font-size:16px;margin:24px 0 8px}}
p{{margin:0 0 10px}}
.note{{color:var(--muted);font-size:14px;line-height:1.45}}
section,figure{{background:var(--card);border:1px solid var(--rule);border-radius:10px;margin:20px 0;padding:20px}}
figcaption{{margin-bottom:14px}}
svg{{display:block;width:100%;height:auto}}
svg.narrow{{display:none}}
table{{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}}
caption{{text-align:left;color:var(--muted);padding-bottom:8px}}
th,td{{text-align:right;padding:6px 0 6px 12px;border-top:1px solid var(--rule);vertical-align:baseline;overflow-wrap:normal}}
thead th{{border-top:0;color:var(--muted);font-weight:500;font-size:13px;vertical-align:bottom}}
th:first-child,td:first-child{{text-align:left;padding-left:0}}
tbody th{{font-weight:600;overflow-wrap:anywhere}}
.bar{{display:block;height:5px;border-radius:3px;background:var(--rule);margin-top:3px;overflow:hidden}}
.bar i{{display:block;height:100%;background:var(--c0)}}
.warn{{border-left:4px solid var(--c1)}}
.n{{white-space:nowrap}}
ul{{margin:0;padding-left:20px}}
li{{margin:4px 0}}
code{{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}}
pre{{margin:8px 0 0;padding:12px;background:var(--paper);border:1px solid var(--rule);border-radius:6px;white-space:pre-wrap}}
details+details{{margin-top:8px}}
details summary{{cursor:pointer;font-weight:600}}
details[open] summary{{margin-bottom:10px}}
@media screen and (max-width:740px){{
main{{padding:20px 12px 32px}}
h1{{font-size:24px}}
h2{{font-size:18px}}
section,figure{{padding:16px 12px}}
svg.wide{{display:none}}
svg.narrow{{display:block;max-width:460px;margin:0 auto}}
table.cards thead{{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}}
table.cards,table.cards caption,table.cards tbody{{display:block;width:100%}}
table.cards tr{{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:8px 10px;border-top:1px solid var(--rule);padding:10px 0}}
table.cards th,table.cards td{{display:block;border:0;padding:0;text-align:left}}
table.cards tbody th{{grid-column:1/-1;font-size:15px}}
table.cards td::before{{content:attr(data-name);display:block;color:var(--muted);font-size:12px;line-height:1.3}}
}}
@media print{{
:root{{color-scheme:light;{_variables(LIGHT)}--paper:#fff}}
@page{{margin:13mm}}
body{{font-size:10pt;line-height:1.4}}
main{{max-width:none;padding:0}}
h1{{font-size:20pt}}
h2{{font-size:13pt}}
h3{{font-size:11pt;margin:14px 0 4px}}
.note,table,caption{{font-size:9pt}}
section,figure{{border-color:#bbb;margin:0 0 10px;padding:10px 14px}}
th,td{{padding-top:3px;padding-bottom:3px}}
figcaption{{margin-bottom:8px}}
figure,table,tr,li,.whole{{break-inside:avoid}}
h2,h3,figcaption,caption,summary{{break-after:avoid}}
thead{{display:table-header-group}}
details::details-content{{content-visibility:visible;block-size:auto}}
svg.wide{{width:92%;margin:0 auto}}
svg.wide{{display:block}}
svg.narrow{{display:none}}
}}
"""
