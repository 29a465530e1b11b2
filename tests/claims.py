"""What a report owes its reader whatever its numbers are: no number that is none, no value outside its own interval."""

import html
import re
from collections.abc import Iterable
from pathlib import Path

NUMBER = r"[+−-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?"
VALUE = re.compile(rf"({NUMBER}) ?%? \((?:95 % )?(?:interval )?({NUMBER}) ?%? to ({NUMBER}) ?%?")
RANGE = re.compile(rf"(?:between|from|within) (?:σ = )?({NUMBER}) (?:and|to) ({NUMBER})")


def check_sentences(texts: Iterable[str]) -> int:
    """Check every value that stands before its interval, and every range; returns how many there were."""
    found = 0
    for text in texts:
        assert not re.search(r"\b(nan|inf|NaT)\b", text), text
        for value in VALUE.finditer(text):
            middle, low, high = (float(number.replace("−", "-")) for number in value.groups())
            assert low <= middle <= high, value[0]
            found += 1
        for ends in RANGE.finditer(text):
            assert ends[1] != ends[2], ends[0]
    return found


def check_page(out: Path, readings: Iterable[str]) -> int:
    """The same of a written report: its sentences, the words on its page and in its figures."""
    page = (out / "index.html").read_text()
    words = html.unescape(re.sub(r"<style.*?</style>|<script.*?</script>|<[^>]+>", " ", page, flags=re.DOTALL))
    assert not re.search(r"\bnan\b", words)
    for figure in (out / "figures").glob("*.svg"):
        assert not re.search(r"<!-- .*\bnan\b.* -->", figure.read_text()), figure.name  # its texts, before their shapes
    return check_sentences(readings)
