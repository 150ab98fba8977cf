"""How long a user waits for `import lapis` and `lapis --help`, beside an empty Python in the same run."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

LIMITS_SECONDS = {"import lapis": 0.1, "lapis --help": 0.5}


def seconds(code: str, runs: int) -> float:
    """The median wall time of a fresh Python that runs `code`."""
    times = []
    for _ in range(runs + 1):  # the first warms the file cache and is left out
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run each")
    parser.add_argument("--out", type=Path, default=Path("bench/results/startup.json"))
    options = parser.parse_args()
    runs = 1 if options.quick else 15
    empty = seconds("pass", runs)
    measured = {
        "import lapis": seconds("import lapis", runs) - empty,
        "lapis --help": seconds("import sys; sys.argv = ['lapis', '--help']; from lapis.cli import main; main()", runs),
    }
    print(f"empty Python {empty:.3f} s")
    for name, value in measured.items():
        print(f"{name:15} {value:.3f} s   limit {LIMITS_SECONDS[name]} s")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps({"empty_seconds": empty, "seconds": measured, "limits": LIMITS_SECONDS}, indent=2)
    )


if __name__ == "__main__":
    main()
