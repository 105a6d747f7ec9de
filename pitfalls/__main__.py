"""`python -m pitfalls`: is this machine ready for the course? Exit status 1 where it can't run.

`python -m pitfalls rules` lists the rules of the inspector, `python -m pitfalls rules padding-side` shows one in full.
`python -m pitfalls model NAME_OR_FOLDER` tells what a checkpoint will do to its users.
"""

import argparse
import json
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


def show_model(name: str, as_json: bool, strict: bool) -> int:
    from pitfalls import ModelError, inspect_model

    try:
        seen = inspect_model(name)
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2
    text = json.dumps(seen.as_dict(), indent=2) if as_json else repr(seen)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # markers hold signs that not all can show
    return int(strict and any(finding.severity == "error" for finding in seen.report))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pitfalls", description="Is this machine ready for the course?")
    commands = parser.add_subparsers(dest="command")
    rules = commands.add_parser("rules", help="the rules of the inspector")
    rules.add_argument("rule", nargs="?", help="the name of one, such as padding-side, to see it in full")
    rules.add_argument("--table", action="store_true", help="make each mistake, and print what is said of it")
    model = commands.add_parser("model", help="what a checkpoint will do to its users, without loading it")
    model.add_argument("name", help="a folder, or an id of the Hub such as owner/name")
    model.add_argument("--json", action="store_true", help="print it as JSON")
    model.add_argument("--error", action="store_true", help="exit with 1 where a finding is an error")
    asked = parser.parse_args(arguments)
    if asked.command == "model":
        return show_model(asked.name, asked.json, asked.error)
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
