"""`python -m pitfalls`: is this machine ready for the course? Exit status 1 where it can't run.

`python -m pitfalls run script.py` runs a script and says what is wrong with its generate calls.
`python -m pitfalls model NAME_OR_FOLDER` tells what a checkpoint will do to its users.
`python -m pitfalls rules` lists the rules of the inspector, `python -m pitfalls rules padding-side` shows one in full.
"""

import argparse
import json
import sys
from pathlib import Path

from pitfalls.language import _, directed


def show_machine(asked: argparse.Namespace) -> int:
    from pitfalls.model.machine import check_machine

    return check_machine()


def show_rules(asked: argparse.Namespace) -> int:
    from pitfalls import catalogue

    try:
        if asked.table:
            print(catalogue.summary(catalogue.compare()))
        else:
            print(catalogue.describe(asked.rule) if asked.rule else catalogue.listing())
    except KeyError as error:
        print(directed(error.args[0]), file=sys.stderr)
        return 2
    except ImportError as error:  # the table needs the embedded model, which comes with the course
        print(directed(str(error)), file=sys.stderr)
        return 1
    return 0


def show_model(asked: argparse.Namespace) -> int:
    from pitfalls import ModelError, inspect_model

    try:
        seen = inspect_model(asked.name)
    except ModelError as error:
        print(directed(str(error)), file=sys.stderr)
        return 2
    text = json.dumps(seen.as_dict(), indent=2) if asked.json else repr(seen)
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # markers hold signs that not all can show
    return int(asked.error and any(finding.severity == "error" for finding in seen.report))


def run_program(asked: argparse.Namespace) -> int:
    from pitfalls.inspector.anywhere import run

    only, ignore = ([name for name in names.split(",") if name] for names in (asked.only, asked.ignore))
    try:
        return run(asked.target, asked.arguments, asked.module, only, ignore, asked.error, asked.json)
    except (FileNotFoundError, ValueError) as error:
        print(directed(str(error)), file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    machine = argparse.ArgumentParser(prog="python -m pitfalls", description=_("Is this machine ready for the course?"))
    machine.set_defaults(does=show_machine)
    commands = machine.add_subparsers()

    run = commands.add_parser("run", help=_("run a script as it is, and say what is wrong with its generate calls"))
    run.add_argument(
        "-m", dest="module", action="store_true", help=_("run a module in place of a script, as python -m")
    )
    run.add_argument("--error", action="store_true", help=_("exit with 1 where an error was found"))
    run.add_argument("--json", metavar="FILE", type=Path, help=_("write what was found into this file, too"))
    run.add_argument("--ignore", metavar="RULES", default="", help=_("names of rules to leave out, with commas"))
    run.add_argument("--only", metavar="RULES", default="", help=_("names of the only rules to apply, with commas"))
    run.add_argument("target", help=_("the script or the module"))
    run.add_argument("arguments", nargs=argparse.REMAINDER, help=_("its own arguments"))
    run.set_defaults(does=run_program)

    model = commands.add_parser("model", help=_("what a checkpoint will do to its users, without loading it"))
    model.add_argument("name", help=_("a folder, or an id of the Hub such as owner/name"))
    model.add_argument("--json", action="store_true", help=_("print it as JSON"))
    model.add_argument("--error", action="store_true", help=_("exit with 1 where a finding is an error"))
    model.set_defaults(does=show_model)

    rules = commands.add_parser("rules", help=_("the rules of the inspector"))
    rules.add_argument("rule", nargs="?", help=_("the name of one, such as padding-side, to see it in full"))
    rules.add_argument("--table", action="store_true", help=_("make each mistake, and print what is said of it"))
    rules.set_defaults(does=show_rules)
    return machine


def main(arguments: list[str] | None = None) -> int:
    asked = parser().parse_args(arguments)
    return asked.does(asked)


if __name__ == "__main__":
    sys.exit(main())
