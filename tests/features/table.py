"""Keeps docs/features.md honest: every row of the sheet has its line there and no other row is named,
every test and picture that the page names is in the tree, every command is one that the program
takes, and every feature has a picture.

    faults(names)     # sentences; none where all is well
    unread(latentd)   # of the commands that the program does not take
"""

import pathlib
import re
import shlex
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "features.md"
FEATURES = "| What | Command line |"


def lines_of(text, head):
    """The cells of the table that begins with `head`."""
    lines = text.split("\n")
    begins = [i for i, line in enumerate(lines) if line.startswith(head)]
    if not begins:
        return []
    body = []
    for line in lines[begins[0] + 2:]:
        if not line.startswith("|"):
            break
        body.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return body


def tests_of(cell):
    """`unit/test_a.c`, `test_b.c` (in the same folder): their paths below tests/."""
    folder = ""
    for name in re.findall(r"`([\w/]+\.(?:c|py|sh))`", cell):
        folder, _, file = name.rpartition("/") if "/" in name else (folder, "", name)
        yield f"{folder}/{file}"


def commands(text=None):
    """The `paint ...` of every row as the flags of `latentd generate`."""
    for cells in lines_of(PAGE.read_text() if text is None else text, "| Row |"):
        found = re.search(r"`(?:[^`]*; )?paint ([^`]+)`", cells[2])
        if found:
            yield cells[0].strip("`"), shlex.split(found[1].replace("\\|", "|"))


def unread(latentd, text=None):
    """The rows whose command line is refused as such. The model is not there: nothing is painted."""
    found = []
    for name, flags in commands(text):
        done = subprocess.run([latentd, "generate", "--model", "absent-model", *flags],
                              capture_output=True, text=True)
        if done.returncode == 0 or re.search("second prompt|no field|needs a value|must be", done.stderr):
            found.append(f"the command of {name} is refused: {done.stderr.strip()[:200]}")
    return found


def faults(names, text=None):
    text = PAGE.read_text() if text is None else text
    found = []
    rows, features = lines_of(text, "| Row |"), lines_of(text, FEATURES)
    named = [cells[0].strip("`") for cells in rows]
    found += [f"the row {name} has no line" for name in names if name not in named]
    found += [f"there is no row {name}" for name in named if name not in names]
    found += [] if features else ["the table of features is not there"]
    for cells in features:
        pictures = [name.strip("`") for name in cells[-1].split(", ") if name]
        files = [p for p in pictures if "." in p]
        found += [f"{cells[0]}: no picture"] * (not pictures)
        found += [f"{cells[0]}: there is no row {p}" for p in pictures if p not in files and p not in names]
        found += [f"{cells[0]}: docs/{p} is not there" for p in files if not (PAGE.parent / p).is_file()]
        found += [f"{cells[0]}: tests/{t} is not there" for t in tests_of(cells[3]) if not (ROOT / "tests" / t).is_file()]
        found += [f"{cells[0]}: no test"] * (not list(tests_of(cells[3])))
    found += [f"docs/{p} is not there" for p in re.findall(r"\]\((images/[^)]+)\)", text) if not (PAGE.parent / p).is_file()]
    return found


def plants(names):
    """Pages with one fault each, which must be found."""
    text = PAGE.read_text()
    yield text.replace(f"| `{names[0]}` |", "| `nothing` |")
    yield text.replace("(images/features.png)", "(images/nothing.png)")
    yield text.replace("unit/test_adapter.c", "unit/test_nothing.c")
    yield text.replace(FEATURES, "| Nothing |")
