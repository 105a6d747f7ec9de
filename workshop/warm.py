"""What is forked: a process that has imported and used all that lessons import, and what is put right afterwards."""

import gc
import logging
import os
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PosixPath
from types import ModuleType
from typing import Any

IMPORTED = (
    "ipykernel.zmqshell",  # first: by it tqdm knows a notebook
    "ipykernel.debugger",
    "ipywidgets", "IPython.core.completerlib", "jedi", "accelerate", "anywidget", "bitsandbytes", "fastapi",
    "ipykernel_launcher", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "openai", "transformers",
    "jupyterhub.singleuser.extension", "jupyterlab.labapp", "jupyter_lsp", "jupyter_server_terminals", "notebook_shim",
)  # fmt: skip


@dataclass
class Warm:
    """What libraries have learned when they were imported, which is not so in the forked process."""

    home: str
    paths: list[tuple[ModuleType, str, str | Path]]
    handlers: list[logging.StreamHandler]

    def put_right(self) -> None:
        """Paths in this account's home, random numbers of its own; threads and language as the environment says."""
        import numpy
        import torch

        home = os.path.expanduser("~")
        for module, name, value in self.paths:
            setattr(module, name, type(value)(str(value).replace(self.home, home, 1)))
        sys.modules["pitfalls.language"]._chosen = None  # nobody has, here
        random.seed()
        numpy.random.seed()
        torch.seed()
        threads = os.environ.get("OMP_NUM_THREADS", "")
        torch.set_num_threads(int(threads) if threads.isdecimal() else len(os.sched_getaffinity(0)))


def warmed() -> Warm:
    """Import what lessons import, and use it once: no thread runs and no warning counts as given afterwards."""
    from pitfalls.model.fetch import cache_folder

    os.environ["PITFALLS_CACHE"] = str(cache_folder())
    with tempfile.TemporaryDirectory(prefix="forking-home-") as home:  # known by its name wherever it was noted down
        os.environ |= {
            "HOME": home,
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger's word on how this very process was started
            "TOKENIZERS_PARALLELISM": "false",
        }
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME", "MPLCONFIGDIR", "IPYTHONDIR"):
            os.environ.pop(name, None)
        imported()
        rehearsed()
    gc.collect()
    gc.freeze()
    if len(os.listdir("/proc/self/task")) > 1:
        print("A library has started threads, which forked kernels will miss.", file=sys.stderr)
    return Warm(home, list(paths_in(home)), [*handlers_of(sys.stderr), *handlers_of(sys.stdout)])


def imported() -> None:
    import torch

    torch.set_num_threads(1)  # a pool of threads would be missing in the forked process
    for name in IMPORTED:
        import_module(name)
    import pitfalls

    for name in pitfalls.__all__:
        getattr(pitfalls, name)


def rehearsed() -> None:
    """A model, loaded and used as in a lesson, so that all that is imported late is there."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as said

    import pitfalls
    from pitfalls.silence import silenced

    with silenced(), warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        folder = pitfalls.fetch_model()
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(folder, device_map="auto")
        inputs = tokenizer("1, 2, 3", return_tensors="pt")
        model.generate(**inputs, max_new_tokens=2)
        model.generate(**inputs, max_new_tokens=2, do_sample=True, top_k=5, top_p=0.9)
        call = pitfalls.record(model, tokenizer, inputs, max_new_tokens=2)
        repr(pitfalls.check(model, tokenizer, inputs))
        for picture in (pitfalls.pictures.padding(inputs, tokenizer), call):
            picture._repr_html_() if hasattr(picture, "_repr_html_") else repr(picture)
    said.warning_once.cache_clear()


def paths_in(home: str) -> Iterator[tuple[ModuleType, str, str | Path]]:
    """Where modules noted a path inside of this home folder."""
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if type(value) in (str, PosixPath) and str(value).startswith(home):
                yield module, name, value


def handlers_of(stream: Any) -> list[logging.StreamHandler]:
    known = (reference() for reference in logging._handlerList)
    return [handler for handler in known if getattr(handler, "stream", None) is stream]


def run_server(warm: Warm) -> None:
    """A learner's JupyterLab, its whole life."""
    from jupyterhub.singleuser import main

    main()


def run_kernel(warm: Warm) -> None:
    """The kernel's whole life."""
    import ipywidgets
    from ipykernel.kernelapp import IPKernelApp
    from IPython import get_ipython

    kernel = IPKernelApp.instance()
    kernel.parent_handle = 1  # somebody else sees to it that it does not outlive Jupyter
    kernel.initialize(sys.argv[1:])
    for handler in warm.handlers:  # as if they had been made in the kernel
        vars(handler).pop("flush", None)
        handler.setStream(sys.stderr)
    # what these two do where they are imported in a kernel
    ipywidgets.load_ipython_extension(get_ipython())
    get_ipython().enable_matplotlib("inline")
    kernel.start()


RUNS = {"ipykernel_launcher": run_kernel, "jupyterhub.singleuser": run_server}
