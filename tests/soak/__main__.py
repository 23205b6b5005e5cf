"""`make soak`, `python -m tests.soak`: check that nothing grows in a long run. Exit with 1 if something grows."""

import argparse
import signal
import sys
from pathlib import Path

from config.common.env import BASE_DIR
from tests.soak.run import SoakFailed, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="length of the run (default: %(default)g)")
    parser.add_argument(
        "--rate", type=float, help="records/s (default: half of the sustained rate, which is measured first)"
    )
    parser.add_argument("--batch", type=int, default=1000, help="records in each request (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=BASE_DIR / "var" / "soak.csv", help="file for the samples, as CSV")
    parser.add_argument(
        "--plot", type=Path, default=BASE_DIR / "var" / "soak.svg", help="file for the samples, as a picture"
    )
    given = parser.parse_args()
    for file in (given.data, given.plot):
        file.parent.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: end all started processes
    try:
        report = run(
            minutes=given.minutes, rate=given.rate, batch=given.batch, data=given.data, picture=given.plot, aloud=True
        )
    except SoakFailed as reason:
        print(f"FAILED: {reason}")
        return 1
    print(report.text())
    print(f"samples: {given.data}\npicture: {given.plot}")
    return 1 if report.wrong or report.growing else 0


if __name__ == "__main__":
    sys.exit(main())
