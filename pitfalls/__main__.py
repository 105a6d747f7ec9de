"""`python -m pitfalls`: is this machine ready for the course? Exit status 1 where it can't run.

`python -m pitfalls rules` lists the rules of the inspector, `python -m pitfalls rules padding-side` shows one in full.
"""

import argparse
import sys


def show_rules(name: str | None, table: bool) -> int:
    from pitfalls import catalogue

    if table:
        print(catalogue.summary(catalogue.compare()))
    elif name is None:
        print(catalogue.listing())
    else:
        try:
            print(catalogue.describe(name))
        except KeyError as error:
            print(error.args[0], file=sys.stderr)
            return 2
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pitfalls", description="Is this machine ready for the course?")
    rules = parser.add_subparsers(dest="command").add_parser("rules", help="the rules of the inspector")
    rules.add_argument("rule", nargs="?", help="the name of one, such as padding-side, to see it in full")
    rules.add_argument("--table", action="store_true", help="make each mistake, and print what is said of it")
    asked = parser.parse_args(arguments)
    if asked.command == "rules":
        try:
            return show_rules(asked.rule, asked.table)
        except ImportError as error:  # the table needs the embedded model, which comes with the course
            print(error, file=sys.stderr)
            return 1
    from pitfalls.model.machine import check_machine

    return check_machine()


if __name__ == "__main__":
    sys.exit(main())
