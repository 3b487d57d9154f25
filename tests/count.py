#!/usr/bin/env python3
"""Reads a test runner's log and prints `passed failed skipped`, from the last summary line that a
runner used here prints: our own `N passed, N failed`, pytest's, or ctest's."""

import re
import sys

text = open(sys.argv[1], encoding="utf-8", errors="replace").read()
passed = failed = skipped = 0
summary = None
for line in text.splitlines():
    if re.search(r"\b\d+ (passed|failed|skipped|error|errors)\b", line):
        summary = line
ctest = re.search(r"(\d+)% tests passed, (\d+) tests? failed out of (\d+)", text)
if ctest:
    skipped = len(re.findall(r"\*\*\*Skipped", text))
    failed = int(ctest[2])
    passed = int(ctest[3]) - failed - skipped
elif summary:
    count = {word: int(number) for number, word in
             re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", summary)}
    passed = count.get("passed", 0)
    failed = count.get("failed", 0) + count.get("error", 0) + count.get("errors", 0)
    skipped = count.get("skipped", 0)
print(passed, failed, skipped)
