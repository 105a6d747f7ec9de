"""The catalogue of rules: what is printed, and what transformers and the inspector say of each mistake."""

from pitfalls import catalogue
from pitfalls.__main__ import main
from pitfalls.inspector.checking import RULES


def test_the_list_has_every_rule_once(capsys):
    assert main(["rules"]) == 0
    printed = capsys.readouterr().out
    for name in RULES:
        assert sum(line.split()[:1] == [name] for line in printed.splitlines()) == 1, name


def test_one_rule_in_full_has_its_story_mistake_fix_lesson_and_source(capsys):
    assert main(["rules", "padding-side"]) == 0
    printed = capsys.readouterr().out
    rule = RULES["padding-side"]
    code = [*rule.mistake.splitlines(), *rule.fix.splitlines()]
    for part in (rule.summary, rule.source, "lessons/06_padding_side.html", *code):
        assert part in printed
    assert main(["rules", "padding_side"]) == 0
    assert capsys.readouterr().out == printed, "the name of the function will do"


def test_an_unknown_rule_is_refused_with_the_nearest_name(capsys):
    assert main(["rules", "paddingside"]) == 2
    printed = capsys.readouterr()
    assert not printed.out and "no rule 'paddingside'" in printed.err and "'padding-side'" in printed.err


def test_a_table_keeps_the_form_of_what_it_quotes():
    row = catalogue.Comparison(
        "padding-side", "error: a | pipe and <tags> and `code`", "error", "x_y_z *stars* " + "word " * 60
    )
    line = catalogue.table([row]).splitlines()[-1]
    assert r"a \| pipe and \<tags\> and \`code\`" in line and r"x\_y\_z \*stars\*" in line
    assert line.startswith(f"| [padding-side]({RULES['padding-side'].source}) | {RULES['padding-side'].summary} |")
    assert len(line) < 700 and line.endswith("… |")


def test_what_was_heard_is_kept_for_every_rule():
    kept = catalogue.heard()
    assert sorted(row.rule for row in kept) == sorted(RULES)
    assert f"{catalogue.summary(kept)}\n" == catalogue.HEARD.read_text()
    assert {row.transformers.partition(":")[0] for row in kept} == {"nothing", "warning", "error"}
