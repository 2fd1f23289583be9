"""The command line: verbs that parse, call one loop and print one report."""

import sys


def main() -> None:
    """The console script. Interrupted while the verbs are still loaded, it ends as it does later."""
    try:
        from seal.cli.app import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()
