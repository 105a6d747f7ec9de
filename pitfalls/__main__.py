"""`python -m pitfalls`: is this machine ready for the course? Exit status 1 where it can't run.

`python -m pitfalls run script.py` runs a script and says what is wrong with its generate calls.
`python -m pitfalls rules` lists the rules of the inspector, `python -m pitfalls rules padding-side` shows one in full.
"""

import argparse
import sys
from pathlib import Path


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


def run_program(asked: argparse.Namespace) -> int:
    from pitfalls.inspector.anywhere import run

    only, ignore = ([name for name in names.split(",") if name] for names in (asked.only, asked.ignore))
    try:
        return run(asked.target, asked.arguments, asked.module, only, ignore, asked.error, asked.json)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pitfalls", description="Is this machine ready for the course?")
    commands = parser.add_subparsers(dest="command")
    rules = commands.add_parser("rules", help="the rules of the inspector")
    rules.add_argument("rule", nargs="?", help="the name of one, such as padding-side, to see it in full")
    rules.add_argument("--table", action="store_true", help="make each mistake, and print what is said of it")
    run = commands.add_parser("run", help="run a script as it is, and say what is wrong with its generate calls")
    run.add_argument("-m", dest="module", action="store_true", help="run a module in place of a script, as python -m")
    run.add_argument("--error", action="store_true", help="exit with 1 where an error was found")
    run.add_argument("--json", metavar="FILE", type=Path, help="write what was found into this file, too")
    run.add_argument("--ignore", metavar="RULES", default="", help="names of rules to leave out, with commas")
    run.add_argument("--only", metavar="RULES", default="", help="names of the only rules to apply, with commas")
    run.add_argument("target", help="the script or the module")
    run.add_argument("arguments", nargs=argparse.REMAINDER, help="its own arguments")
    asked = parser.parse_args(arguments)
    if asked.command == "rules":
        try:
            return show_rules(asked.rule, asked.table)
        except ImportError as error:  # the table needs the embedded model, which comes with the course
            print(error, file=sys.stderr)
            return 1
    if asked.command == "run":
        return run_program(asked)
    from pitfalls.model.machine import check_machine

    return check_machine()


if __name__ == "__main__":
    sys.exit(main())
