# SPDX-License-Identifier: MIT
"""The results as a picture: one bar per row, Godwit in units of its reference, the goal as a mark across it."""
from html import escape

BAR, GAP, LEFT, WIDE, RIGHT, TOP, FOOT = 18, 12, 190, 460, 250, 64, 40
MOST = 2.0              # of the reference; longer bars are cut off and say so
COLOURS = {"ok": "#2a7f4f", "missed": "#c0392b", "": "#5b7a99", "did not run": "#999999", "not here": "#999999"}


def x_of(ratio):
    return LEFT + WIDE * min(ratio, MOST) / MOST


def text(x, y, words, anchor="start", size=13, colour="#222"):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{escape(words)}</text>'


def rule(x, top, bottom, colour, dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x:.0f}" y1="{top}" x2="{x:.0f}" y2="{bottom}" stroke="{colour}"{dashes}/>'


def bar(j, y):
    """Name, bar, and the figures behind it."""
    parts = [text(LEFT - 10, y + BAR - 5, j.row.name, "end")]
    if j.ratio is None:
        alone = j.verdict if j.failure else j.value(j.godwit)
        return [*parts, text(LEFT + 6, y + BAR - 5, alone, colour=COLOURS[j.verdict])]
    colour = COLOURS[j.verdict]
    parts.append(f'<rect x="{LEFT}" y="{y}" width="{x_of(j.ratio) - LEFT:.0f}" height="{BAR}" fill="{colour}"/>')
    if j.row.goal and j.row.goal.of == "ratio":
        parts.append(rule(x_of(j.row.goal.most or j.row.goal.least), y - 4, y + BAR + 4, "#000"))
    words = f"{j.ratio:.2f}{' (cut off)' if j.ratio > MOST else ''}   {j.value(j.godwit)} : {j.value(j.reference)}"
    return [*parts, text(LEFT + WIDE + 10, y + BAR - 5, words, colour=colour)]


def draw(results):
    height = TOP + len(results.rows) * (BAR + GAP) + FOOT
    bottom = height - FOOT
    size = f"{results.options['size'] >> 20} MiB guest, median of {results.options['repeat']}"
    parts = [
        text(16, 26, "Godwit in units of its reference", size=17),
        text(16, 46, f"{results.machine['processor']}, {results.machine['processors']} processors, {size}; black mark: goal",
             size=12, colour="#555"),
        *(rule(x_of(r), TOP - 6, bottom, "#ccc", "" if r == 1 else "2 4") for r in (0, 0.5, 1, 1.5, 2)),
        *(text(x_of(r), bottom + 16, f"{r:g}", "middle", 12, "#555") for r in (0, 0.5, 1, 1.5, 2)),
    ]
    for i, j in enumerate(results.rows):
        parts += bar(j, TOP + i * (BAR + GAP))
    width = LEFT + WIDE + RIGHT
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" font-family="sans-serif">\n'
            f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n")


def write(path, results):
    with open(path, "w") as f:
        f.write(draw(results))
