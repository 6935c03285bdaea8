"""mdBook preprocessor: pages that lie beside docs/ become chapters, and links to them stay links.

A policy's page needs no line in SUMMARY.md. Experiments and benches keep their answers in the README beside their settings, where a reader of the repository looks.
In the book the same pages stand under "Evidence" and "The project". Links to files that are no page of the book become
plain text, since a book has no folder around it.
"""

import json
import posixpath
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Under which heading of the summary, pattern of files.
BESIDE = [
    ("Evidence", "experiments/README.md"),
    ("Evidence", "experiments/*/README.md"),
    ("Evidence", "benches/README.md"),
    ("Evidence", "benches/*/README.md"),
    ("How to", "notebooks/README.md"),
    ("The project", "ARCHITECTURE.md"),
    ("The project", "CONTRIBUTING.md"),
    ("The project", "CHANGELOG.md"),
]
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *(```|~~~)")


def book_path(page: str) -> str:
    """Where a page of the repository is in the book: docs/ is its root."""
    return page.removeprefix("docs/") if page.startswith("docs/") else f"beside/{page}"


def outside_fences(text: str, change) -> str:
    """Applies `change` to every line that is not code."""
    lines, code = [], False
    for line in text.split("\n"):
        if FENCE.match(line):
            code = not code
        lines.append(line if code else change(line))
    return "\n".join(lines)


def relink(text: str, page: str, pages: set[str]) -> str:
    """Links of `page` (a path from the repository's root) as they must be in the book."""
    folder = posixpath.dirname(page)
    here = posixpath.dirname(book_path(page))

    def link(match: re.Match) -> str:
        words, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match.group(0)
        path, _, anchor = target.partition("#")
        full = posixpath.normpath(posixpath.join(folder, path))
        if f"{full}/README.md" in pages:
            full = f"{full}/README.md"
        if full not in pages:
            return words
        to = posixpath.relpath(book_path(full), here or ".")
        return f"[{words}]({to}{'#' + anchor if anchor else ''})"

    return outside_fences(text, lambda line: LINK.sub(link, line))


def title(text: str, fallback: str) -> str:
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return found.group(1) if found else fallback


def chapter(page: str) -> dict:
    text = (ROOT / page).read_text(encoding="utf-8")
    # Pictures lie beside their page; the book holds them in itself.
    def picture(match: re.Match) -> str:
        file = ROOT / posixpath.dirname(page) / match.group(2)
        if file.suffix == ".svg" and file.is_file():
            svg = re.sub(r"<\?xml[^>]*\?>\s*", "", file.read_text(encoding="utf-8"))
            return "\n" + re.sub(r"\n\s*", "", svg) + "\n"
        return match.group(1)

    text = outside_fences(text, lambda line: re.sub(r"!\[([^\]]*)\]\(([^)\s]+)\)", picture, line))
    return {
        "name": title(text, page),
        "content": text,
        "number": None,
        "sub_items": [],
        "path": book_path(page),
        "source_path": None,
        "parent_names": [],
        "page": page,
    }


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] == "supports":
        return
    _, book = json.load(sys.stdin)
    items = book.get("items", book.get("sections"))
    added = {}
    for heading, pattern in BESIDE:
        for file in sorted(ROOT.glob(pattern)):
            added.setdefault(heading, []).append(chapter(file.relative_to(ROOT).as_posix()))
    out, current = [], None
    for item in items + [{"PartTitle": None}]:
        if isinstance(item, dict) and "PartTitle" in item:
            out += [{"Chapter": c} for c in added.pop(current, [])]
            current = item["PartTitle"]
            if current is None:
                break
        out.append(item)
    for heading, chapters in added.items():
        out += [{"PartTitle": heading}] + [{"Chapter": c} for c in chapters]

    for item in out:
        if isinstance(item, dict) and item.get("Chapter", {}).get("path") == "policies/README.md":
            pages = sorted(p for p in ROOT.glob("docs/policies/*.md") if p.name != "README.md")
            item["Chapter"]["sub_items"] = [
                {"Chapter": chapter(p.relative_to(ROOT).as_posix())} for p in pages
            ]

    def each(items):
        for item in items:
            if isinstance(item, dict) and "Chapter" in item:
                yield item["Chapter"]
                yield from each(item["Chapter"]["sub_items"])

    chapters = list(each(out))
    pages = {c.get("page") or f"docs/{c['path']}" for c in chapters}
    for c in chapters:
        c["content"] = relink(c["content"], c.pop("page", None) or f"docs/{c['path']}", pages)
    book["items" if "items" in book else "sections"] = out
    json.dump(book, sys.stdout)


main()
