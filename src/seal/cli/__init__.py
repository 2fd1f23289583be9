"""The command line: verbs that parse, call one loop and print one report."""

from seal.cli.app import main

__all__ = ["main"]
