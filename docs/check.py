#!/usr/bin/env python3
"""Runs the commands of README.md and docs/*.md as they are printed, follows every link, and holds the book's summary against the pages.

    docs/check.py BIN [PAGE ...]        BIN: the folder with the built oo-sim and oo-serve

Each page is one bash session in an empty folder of its own, its blocks in order:

    ```sh               is run
    ```sh long          is not run: takes minutes or hours
    ```sh elsewhere     is not run: needs a network, a cluster, or a machine that is not this one
    ```toml mine.toml   is written to that file first; so are json, csv and others with a file's name

`cargo run --release --bin NAME -- ARGS` runs BIN/NAME, which is what it would build; other uses of cargo are left to the
gate, which runs them itself. A server is started in the background, waited for, and stopped by its pid. A command fails by
its exit code, but for `oo-sim gate`, whose codes 0 to 2 are answers, and an answer that is a problem document fails unless
the line's comment names its status. Python's standard library only.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 420  # a page; the longest takes about a minute on two free cores
FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*)$")

PRELUDE = r"""
set -uo pipefail
failed() {  # code, line: what the page must not do
    case "$BASH_COMMAND" in
        *"oo-sim gate"*) [ "$1" -le 2 ] && return ;;
    esac
    echo "line $2: exit code $1" >> "$OO_CHECK/failures"
}
trap 'failed $? $LINENO' ERR
cargo() {
    if [ "$1 $2 $3" = "run --release --bin" ] && [ "$5" = "--" ]; then
        local name=$4; shift 5; command "$name" "$@"
    else
        echo "left to the gate: cargo $*"
    fi
}
stop_server() {
    if [ -s "$OO_CHECK/server" ]; then
        kill "$(cat "$OO_CHECK/server")" 2> /dev/null
        wait "$(cat "$OO_CHECK/server")" 2> /dev/null
        : > "$OO_CHECK/server"
    fi
    return 0
}
trap stop_server EXIT
oo-serve() {
    case "${1:-}" in inspect|export|completions|man|--help|--version) command oo-serve "$@"; return ;; esac
    stop_server
    command oo-serve "$@" > "$OO_CHECK/server.out" 2> "$OO_CHECK/server.err" &
    echo $! > "$OO_CHECK/server"
    for _ in $(seq 200); do
        grep -q 'listens on' "$OO_CHECK/server.out" && return 0
        kill -0 $! 2> /dev/null || break
        sleep 0.05
    done
    cat "$OO_CHECK/server.err" >&2
    return 1
}
curl() {
    local answer; answer=$(command curl "$@") || return
    printf '%s\n' "$answer"
    if [[ $answer == *urn:oo:problem:* ]]; then
        local status=${answer##*\"status\":}; status=${status%%[,\}]*}
        echo "${BASH_LINENO[-2]} $status" >> "$OO_CHECK/problems"
    fi
}
"""


def blocks(page: Path):
    """The fenced blocks of a page: number of the first line within, info string, lines."""
    found, inside = [], None
    for number, line in enumerate(page.read_text(encoding="utf-8").split("\n"), 1):
        fence = FENCE.match(line)
        if inside is None and fence:
            inside = (fence.group(2), len(fence.group(1)), fence.group(3).strip(), number + 1, [])
        elif inside and fence and fence.group(2).startswith(inside[0]) and not fence.group(3).strip():
            found.append((inside[3], inside[2], inside[4]))
            inside = None
        elif inside:
            inside[4].append(line[inside[1]:])
    return found


def script(page: Path, folder: Path) -> str:
    """The page's commands, each on the line that it has in the page, so that a failure names that line."""
    lines: list[str] = []
    for first, info, body in blocks(page):
        words = info.split()
        if words == ["sh"]:
            lines += [""] * (first - 1 - len(lines)) + body
        elif len(words) == 2 and words[0] not in ("sh", "rust") and "." in words[1]:
            (folder / words[1]).write_text("\n".join(body) + "\n", encoding="utf-8")
        elif words[:1] == ["sh"] and words[1:] not in (["long"], ["elsewhere"]):
            raise SystemExit(f"{page}:{first}: expected sh, sh long or sh elsewhere, got `{info}`")
    return "\n".join(lines) + "\n"


def run(page: Path, programs: Path) -> list[str]:
    """Runs a page and says what went wrong."""
    with tempfile.TemporaryDirectory(prefix="oo-docs.") as temp:
        folder, notes = Path(temp, "empty"), Path(temp, "notes")
        folder.mkdir()
        notes.mkdir()
        text = script(page, folder)
        if not text.strip():
            return []
        Path(notes, "page").write_text(text, encoding="utf-8")
        Path(notes, "prelude").write_text(PRELUDE, encoding="utf-8")
        for name in ("failures", "problems"):
            Path(notes, name).touch()
        (folder / "docs").mkdir()
        # What a page may reach for by a relative path is the project's own.
        for beside in ("experiments", "benches", "notebooks", "python"):
            if (ROOT / beside).is_dir():
                (folder / beside).symlink_to(ROOT / beside)
        env = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "OO_CHECK": str(notes),
            "XDG_STATE_HOME": f"{temp}/state",
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        }
        env.pop("OO_STATE", None)
        try:
            done = subprocess.run(
                ["bash", "-c", 'source "$OO_CHECK/prelude"; source "$OO_CHECK/page"'],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
            )
            output = done.stdout.decode(errors="replace")
            wrong = Path(notes, "failures").read_text().splitlines()
        except subprocess.TimeoutExpired as late:
            output = (late.stdout or b"").decode(errors="replace")
            wrong = [f"not done after {SECONDS} s"]
        source = text.split("\n")
        for problem in Path(notes, "problems").read_text().splitlines():
            line, status = problem.split()
            if status not in source[int(line) - 1].partition("#")[2]:
                wrong.append(f"line {line}: a problem document with status {status}")
        if wrong:
            print("\n".join(output.split("\n")[-40:]))
        return wrong


def heading_anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mdBook and the usual hosts make them."""
    anchors, code = set(), False
    for line in page.read_text(encoding="utf-8").split("\n"):
        if FENCE.match(line):
            code = not code
        elif not code and (found := re.match(r"#+ (.+)", line)):
            words = re.sub(r"[^\w\- ]", "", found.group(1).lower())
            anchors.add(words.replace(" ", "-"))
    return anchors


def links(page: Path) -> list[str]:
    """Links of a page that lead nowhere."""
    wrong, code = [], False
    for number, line in enumerate(page.read_text(encoding="utf-8").split("\n"), 1):
        if FENCE.match(line):
            code = not code
        if code:
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            to = page.parent / path if path else page
            if not to.exists():
                wrong.append(f"line {number}: no {target}")
            elif anchor and to.suffix == ".md" and anchor not in heading_anchors(to):
                wrong.append(f"line {number}: no heading for {target}")
    return wrong


def unlisted() -> list[str]:
    """Pages of docs/ that the book's summary leaves out."""
    listed = set(re.findall(r"\]\(([^)]+)\)", (ROOT / "docs/SUMMARY.md").read_text(encoding="utf-8")))
    pages = {p.name for p in ROOT.glob("docs/*.md")} - {"SUMMARY.md"}
    return sorted(pages - listed)


def main() -> int:
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    programs = Path(sys.argv[1]).resolve()
    for name in ("oo-sim", "oo-serve"):
        if not (programs / name).is_file():
            print(f"{programs}/{name} is not there: cargo build --release --bins")
            return 2
    if not shutil.which("curl"):
        print("curl is not there: apt-get install curl")
        return 2
    every = sorted(
        p
        for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")]
        if "target" not in p.parts
    )
    asked = [Path(p).resolve() for p in sys.argv[2:]]
    # Those of experiments and benches are long by their nature, and have checks of their own.
    commands = asked or [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    wrong = 0
    for name in unlisted():
        print(f"docs/SUMMARY.md: no line for {name}")
        wrong += 1
    for page in asked or every:
        for why in links(page):
            print(f"{page.relative_to(ROOT)}: {why}")
            wrong += 1
    for page in commands:
        print(f"+ {page.relative_to(ROOT)}", flush=True)
        for why in run(page, programs):
            print(f"{page.relative_to(ROOT)}: {why}")
            wrong += 1
    print(f"{len(commands)} pages run, {wrong} faults")
    return 1 if wrong else 0


sys.exit(main())
