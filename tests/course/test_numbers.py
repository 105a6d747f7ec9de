"""A number in a lesson's text is computed in that lesson, or its paragraph says where it comes from."""

import re

import pytest

from tools.lessons import LESSONS, code_cells, output_text, read

NUMBER = re.compile(r"(?<![\w.,/-])\d[\d,]*(?:\.\d+)?(?![\w/]|\.\d)")
NOT_PROSE = re.compile(
    r"```.*?```|`[^`]*`|<details>.*?</details>|\[[^\]]*\]\([^)]*\)|https?://\S+|^#.*$|^\*★.*$|^\*\d+ minutes.*$"
    r"|[Ll]essons? \d+(?:(?:,| to| and) \d+)*|(?:exercise|step|exam) \d+|\b\d+[- ]bits?\b",
    flags=re.DOTALL | re.MULTILINE,
)
SOURCE = re.compile(r"https?://|\bsource:|model card|config\.json|[Mm]easured (?:once|on)|\bsince\b.*\bversion\b")
SMALL = 12  # counts of what stands on the page: two texts, three formats


def numbers(text: str) -> set[float]:
    return {float(found.replace(",", "")) for found in NUMBER.findall(text)}


def known(path) -> set[float]:
    """All numbers in the code of a lesson, in its outputs and in the claims that its tests hold."""
    cells = code_cells(read(path))
    told = "\n".join(
        "\n".join(
            [
                cell.source,
                output_text(cell),
                *_alts(cell),
                *cell.metadata.get("nbmake", {}).get("post_cell_execute", []),
            ]
        )
        for cell in cells
    )
    return {float(found.replace(",", "").replace("_", "")) for found in re.findall(r"\d[\d,_]*(?:\.\d+)?", told)}


def _alts(cell) -> list[str]:
    return [output.get("metadata", {}).get("image/png", {}).get("alt", "") for output in cell.outputs]


def is_known(number: float, known: set[float]) -> bool:
    """Itself, rounded, or as a share in per cent."""
    rounded = {round(other, digits) for other in known for digits in (0, 1, 2)}
    return bool({number, number / 100} & (known | rounded))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_numbers_in_the_text_are_computed_or_have_a_source(path):
    told = known(path)
    lost = []
    for cell in read(path).cells[1:]:
        if cell.cell_type == "markdown":
            prose = NOT_PROSE.sub(lambda part: "https://" if "http" in part[0] else " ", cell.source)
            for paragraph in re.split(r"\n\s*\n|\n(?=\||- )", prose):
                found = numbers(paragraph)
                if not SOURCE.search(paragraph):
                    lost += [(n, paragraph[:90]) for n in sorted(found) if n > SMALL and not is_known(n, told)]
    assert not lost, "\n".join(f"{number:g}: {paragraph}" for number, paragraph in lost)
