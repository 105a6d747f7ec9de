"""`python -m tools.greedy`: every greedy generate call of the lessons, for tests/slow/test_cpus.py to make again.

Runs the lessons whose code has changed since, in one kernel each (about a minute a lesson), and writes greedy.json: of
each row the prompt's ids, its mask, and the new ids. Only calls of the embedded model as it is stored, in which nothing
but the model decides: no sampling, no beams, no penalties, no constraints.
"""

import json
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tools.lessons import LESSONS, ROOT, code_cells, fingerprint, output_text, read

CALLS = ROOT / "tools" / "greedy.json"
RECORD = """
import functools, json, torch
from transformers import GenerationMixin

greedy_rows = []
HARMLESS = {"inputs", "input_ids", "attention_mask", "max_new_tokens", "max_length", "min_new_tokens", "do_sample",
            "temperature", "top_p", "top_k", "streamer", "tokenizer", "stop_strings", "eos_token_id", "pad_token_id",
            "use_cache", "cache_implementation", "prompt_lookup_num_tokens", "output_logits", "output_scores",
            "return_dict_in_generate", "logits_processor", "stopping_criteria"}

def is_greedy(model, given):
    modules = [type(one).__module__ for one in given.get("logits_processor") or []]
    whole = model.config.num_hidden_layers == 30 and getattr(model.config, "quantization_config", None) is None
    as_stored = whole and str(model.dtype) == "torch.float32" and not model.training
    as_stored = as_stored and bool((model.model.norm.weight != 1).any())  # ones, where weights are random
    looks = all(name.startswith("pitfalls.inspector") for name in modules)  # and returns the scores as they are
    alone = not given.get("do_sample") and not model.generation_config.do_sample
    return as_stored and alone and set(given) <= HARMLESS and looks

def recording(generate, inside=[]):
    @functools.wraps(generate)
    def recorded(model, *args, **kwargs):
        given = {**({"inputs": args[0]} if args else {}), **kwargs}
        if inside or len(args) > 1 or not is_greedy(model, given):
            return generate(model, *args, **kwargs)
        inside.append(True)
        try:
            output = generate(model, *args, **kwargs)
        finally:
            inside.clear()
        ids = given.get("inputs", given.get("input_ids"))
        mask = given.get("attention_mask")
        if mask is None:  # generate masks pads itself, where they can't be ends
            config = {**model.generation_config.to_dict(), **given}
            hides = config["pad_token_id"] not in torch.as_tensor(config["eos_token_id"]).flatten()
            mask = (ids != config["pad_token_id"]).long() if hides else torch.ones_like(ids)
        news = getattr(output, "sequences", output)[:, ids.shape[1]:].tolist()
        for prompt, seen, new in zip(ids.tolist(), mask.tolist(), news):
            # behind the end stand pads, which are end tokens too: where something else can stop a row, leave out both
            end = new.index(2) + (not given.keys() & {"stop_strings", "stopping_criteria"}) if 2 in new else len(new)
            row = [prompt, seen, new[:end], bool(given.get("min_new_tokens"))]
            if row not in greedy_rows and 0 not in new:  # 0 is what logits that are no numbers give
                greedy_rows.append(row)
        return output
    return recorded

GenerationMixin.generate = recording(GenerationMixin.generate)
"""


def own_code(path: Path) -> str:
    """The fingerprint of a lesson's code, without the setup cell that all share."""
    notebook = read(path)
    notebook.cells.remove(code_cells(notebook)[0])
    return fingerprint(notebook)


def rows(path: Path) -> list:
    """What a lesson's greedy calls were given, and what they wrote."""
    notebook = read(path)
    setup = notebook.cells.index(code_cells(notebook)[0])
    notebook.cells.insert(setup + 1, nbformat.v4.new_code_cell(RECORD))
    notebook.cells.append(nbformat.v4.new_code_cell("print(json.dumps(greedy_rows))"))
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    return json.loads(output_text(notebook.cells[-1]))


def main(names: list[str]) -> int:
    known = json.loads(CALLS.read_text()) if CALLS.exists() else {}
    for path in LESSONS:
        code = own_code(path)
        if known.get(path.stem, {}).get("code") != code or path.stem[:2] in names:
            print(f"{path.name} …", flush=True)
            known[path.stem] = {"code": code, "rows": rows(path)}
            lines = [f'"{lesson}": {json.dumps(known[lesson])}' for lesson in sorted(known)]
            CALLS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
