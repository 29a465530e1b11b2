"""Try recording on every pipeline of the installed diffusers, and say what is not as the stored table has it.

    python -m tests.upstream SOURCES [SOURCES ...]            # folders of diffusers' sources, of the installed version
    python -m tests.upstream --write SOURCES [SOURCES ...]    # keeps what was found; older sources build older classes
    python -m tests.upstream --only FluxPipeline SOURCES

It takes the tiny pipelines of diffusers' own tests, which lie in its sources and not in its wheel, and stands in for
what these take from a hub. One process, one core, about ten minutes.
"""

import argparse
import gc
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before diffusers is imported: a test that wants to download is an error

from tests.upstream.fixtures import Fixtures, pipeline_classes
from tests.upstream.table import TABLE, changes, counts, read, write
from tests.upstream.trying import try_class


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sources", nargs="*", type=Path, help="folders of diffusers' sources")
    parser.add_argument("--write", action="store_true", help="keep what was found")
    parser.add_argument("--only", action="append", help="these classes alone")
    asked = parser.parse_args()
    fixtures, stored = Fixtures(asked.sources), read(TABLE)
    found = {}
    for name, kind in pipeline_classes().items():
        if asked.only and name not in asked.only:
            continue
        start = time.perf_counter()
        found[name] = row = try_class(name, kind, fixtures)
        gc.collect()
        if asked.write:  # as far as it has come
            write(TABLE, stored | found)
        print(
            f"{name}: {row.state}{', ' * bool(row.reason)}{row.reason} ({time.perf_counter() - start:.1f} s)",
            flush=True,
        )
    print(counts(found))
    told = changes({name: row for name, row in stored.items() if not asked.only or name in asked.only}, found)
    print("\n".join(told) or f"as {TABLE.name} has it")
    if asked.write:
        write(TABLE, stored | found if asked.only else found)
    elif told:
        sys.exit(1)


if __name__ == "__main__":
    main()
