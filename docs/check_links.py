"""Finds links in the documents that lead nowhere: ``python docs/check_links.py``.

Files and headings of this repository are looked up; addresses on the web are not, nor
pages that are made when the site is built: MkDocs looks those up.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
MADE = ("columns.md", "commands.md", "way_of_a_scan.svg", "way_of_a_batch.svg")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def main() -> int:
    """Prints links that lead nowhere; exits with 1 if there are any."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    lines = [line for file in sorted(files) for line in broken_links(file)]
    print("\n".join([*lines, f"{len(files)} documents, {len(lines)} broken link(s)"]))
    return 1 if lines else 0


def broken_links(document: Path) -> Iterator[str]:
    """One line of text for each link of a document that leads nowhere."""
    for link in LINK.findall(FENCE.sub("", document.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link) or link.partition("#")[0] in MADE:
            continue
        name, _, heading = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists():
            yield f"{document.name}: {link}: no such file"
        elif heading and heading not in anchors(target):
            yield f"{document.name}: {link}: no such heading"


def anchors(document: Path) -> set[str]:
    """The headings of a document as GitHub makes anchors of them."""
    text = FENCE.sub("", document.read_text("utf-8"))
    titles = re.findall(r"^#+ +(.*?) *#*$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in plain}


if __name__ == "__main__":
    sys.exit(main())
