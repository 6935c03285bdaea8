"""Writes notebooks as HTML pages that need no network: `python export.py NOTEBOOK.py ... --out FOLDER`.

Marimo's own export loads its program from the network when the page is opened. These pages hold what the cells showed:
text, tables and charts as SVG, in the order of the cells.
"""

import argparse
import html
import importlib.util
import os
import sys
from pathlib import Path

import altair as alt
import polars as pl
import vl_convert

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
table { border-collapse: collapse; font-size: 0.85rem; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: 0.25rem 0.6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
"""


def number(value) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else html.escape(str(value))


def table(frame: pl.DataFrame) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in frame.columns)
    rows = "".join("<tr>" + "".join(f"<td>{number(v)}</td>" for v in row) + "</tr>" for row in frame.iter_rows())
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def shown(output) -> str:
    """What a cell showed, as HTML without scripts."""
    if output is None:
        return ""
    if isinstance(output, pl.DataFrame):
        return table(output)
    if isinstance(output, alt.TopLevelMixin):
        return vl_convert.vegalite_to_svg(output.to_json())
    if hasattr(output, "text"):
        return output.text
    return f"<pre>{html.escape(str(output))}</pre>"


def page(notebook: Path) -> str:
    spec = importlib.util.spec_from_file_location(notebook.stem, notebook)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    outputs, _ = module.app.run()
    body = "\n".join(f"<section>{shown(output)}</section>" for output in outputs if output is not None)
    title = html.escape((module.__doc__ or notebook.stem).split(":")[0])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes notebooks as HTML pages that need no network.")
    parser.add_argument("notebooks", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("."), help="folder to write to")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    args.out.mkdir(parents=True, exist_ok=True)
    for notebook in args.notebooks:
        path = args.out / f"{notebook.stem}.html"
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(page(notebook), encoding="utf-8")
        temporary.replace(path)
        print(path)


if __name__ == "__main__":
    main()
