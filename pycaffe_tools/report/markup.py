"""A report as a list of blocks, written as one HTML file and as Markdown.

The HTML file holds everything it shows: style inline, pictures as data URIs.
It is laid out for a phone (wide tables scroll by themselves) and for print.
Equal blocks are equal bytes.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import List, NamedTuple, Sequence, Union

from .tables import Table


class Heading(NamedTuple):
    """A heading of level 1 (the page's title) to 3."""

    level: int
    text: str


class Paragraph(NamedTuple):
    """Plain text."""

    text: str


class Bullets(NamedTuple):
    """A list of plain texts."""

    items: List[str]


class Picture(NamedTuple):
    """A PNG file below the page's folder, with a caption that also says what is seen."""

    path: str
    caption: str


class Verdict(NamedTuple):
    """A claim with its verdict, which is also the name of its colour."""

    verdict: str
    text: str
    details: List[str]


class Listing(NamedTuple):
    """Long text in lines, folded away under a summary."""

    summary: str
    lines: List[str]


Block = Union[Heading, Paragraph, Bullets, Table, Picture, Verdict, Listing]

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 70rem; color: #1b1b1b; background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif;
  overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0 1rem; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 0.6rem; border-bottom: 1px solid #ccc; padding-bottom: 0.2rem; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.4rem; }
.scroll { overflow-x: auto; margin: 0.4rem 0 1.2rem; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
table { overflow-wrap: normal; }
.caption { font-weight: 600; font-size: 0.92rem; margin: 1.4rem 0 0.3rem; }
th, td { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
td.long { white-space: normal; min-width: 14rem; }
thead th { border-bottom: 2px solid #555; vertical-align: bottom; white-space: normal; }
figure { margin: 1rem 0 1.5rem; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { font-size: 0.88rem; color: #444; margin-top: 0.4rem; }
.claim { border-left: 0.4rem solid #888; padding: 0.1rem 0 0.1rem 0.8rem; margin: 1rem 0; }
.claim p { margin: 0.15rem 0; }
.claim .numbers { font-size: 0.88rem; color: #333; }
.verdict { font-weight: 700; }
.reproduced, .holds { border-color: #1a7f37; } :is(.reproduced, .holds) .verdict { color: #1a7f37; }
.not-reproduced, .does-not-hold { border-color: #b42318; } :is(.not-reproduced, .does-not-hold) .verdict { color: #b42318; }
.undecided { border-color: #8a6100; } .undecided .verdict { color: #8a6100; }
details { margin: 0.6rem 0; } summary { cursor: pointer; }
pre { font-size: 0.75rem; line-height: 1.4; white-space: pre-wrap; background: #f5f5f5; padding: 0.6rem; }
@media (max-width: 40rem) { body { font-size: 15px; padding: 0.7rem; } th, td { padding: 0.25rem 0.4rem; } }
@media print {
  @page { size: A4; margin: 15mm; }
  body { font-size: 10pt; max-width: none; padding: 0; }
  .scroll { overflow: visible; } table { font-size: 7.5pt; width: 100%; } th, td { padding: 1mm 1.2mm; }
  th:first-child, td:first-child { position: static; }
  figure img { max-height: 205mm; width: auto; margin: 0 auto; }
  figure, .claim, tr { break-inside: avoid; } h2, h3, .caption { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; opacity: 1; }
  pre { font-size: 6pt; background: none; padding: 0; }
}
"""


def html(title: str, blocks: Sequence[Block], folder: Path) -> str:
    """The page as one self-contained HTML file; pictures are read below ``folder``."""
    body = "\n".join(_html_block(block, folder) for block in blocks)
    return (f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
            f"<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n")


def _html_block(block: Block, folder: Path) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{escape(block.text)}</p>"
    if isinstance(block, Bullets):
        return "<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in block.items) + "\n</ul>"
    if isinstance(block, Table):
        return _html_table(block)
    if isinstance(block, Picture):
        data = base64.b64encode((folder / block.path).read_bytes()).decode("ascii")
        return (f'<figure><img alt="{escape(block.caption)}" src="data:image/png;base64,{data}">'
                f"<figcaption>{escape(block.caption)}</figcaption></figure>")
    if isinstance(block, Verdict):
        details = "".join(f'<p class="numbers">{escape(line)}</p>' for line in block.details)
        return (f'<div class="claim {block.verdict.replace(" ", "-")}"><p><span class="verdict">{escape(block.verdict)}'
                f"</span>: {escape(block.text)}</p>{details}</div>")
    return (f"<details><summary>{escape(block.summary)}</summary>\n<pre>" + escape("\n".join(block.lines))
            + "</pre></details>")


def _html_table(table: Table) -> str:
    def cell(text: str) -> str:
        return f'<td class="long">{escape(text)}</td>' if len(text) > 40 else f"<td>{escape(text)}</td>"
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in table.head)
    rows = "\n".join("<tr>" + "".join(cell(text) for text in row) + "</tr>" for row in table.rows)
    return (f'<p class="caption">{escape(table.title)}</p>\n'
            f'<div class="scroll" tabindex="0"><table aria-label="{escape(table.name)}">\n<thead><tr>{head}</tr>'
            f"</thead>\n<tbody>\n{rows}\n</tbody></table></div>")


def markdown(blocks: Sequence[Block]) -> str:
    """The page as Markdown; pictures are linked."""
    return "\n\n".join(_markdown_block(block) for block in blocks) + "\n"


def _markdown_block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Paragraph):
        return block.text
    if isinstance(block, Bullets):
        return "\n".join(f"- {item}" for item in block.items)
    if isinstance(block, Table):
        return f"**{block.title}**\n\n{block.as_markdown()}"
    if isinstance(block, Picture):
        return f"![{block.caption}]({block.path})\n\n*{block.caption}*"
    if isinstance(block, Verdict):
        return "\n".join([f"- **{block.verdict}**: {block.text}", *(f"  - {line}" for line in block.details)])
    text = "\n".join(block.lines)
    return f"<details><summary>{escape(block.summary)}</summary>\n\n```\n{text}\n```\n\n</details>"
