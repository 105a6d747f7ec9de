"""The hub of a workshop on one machine. `start.py` sets the environment that is read here, and runs what stands beside.

Of the hub itself only what a class needs is changed; everything else is JupyterHub's own documentation.
"""

import asyncio
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from babel import Locale
from markupsafe import Markup

from pitfalls.language import N_, _, html_language, language, languages

sys.path.insert(0, str(Path(__file__).parent))
from authenticator import GROUP, ClassAuthenticator, WithAccounts

HERE = "127.0.0.1"
ROOT = os.geteuid() == 0
LANGUAGE = os.environ["PITFALLS_LANGUAGE"]
HANDED_ON = [
    *("PITFALLS_CACHE", "OMP_NUM_THREADS", "OMP_WAIT_POLICY"),
    *("WORKSHOP_FIRST", "WORKSHOP_MEMORY", "WORKSHOP_PROCESSES"),
]
APART = 1.0  # seconds of one core that a server takes to start
SYSTEMD = ROOT and Path("/run/systemd/system").is_dir()
folder = Path(os.environ["WORKSHOP_FOLDER"])
port = int(os.environ["WORKSHOP_PORT"])
hub_port, proxy_port, board_port = port + 1, port + 2, port + 3
c = get_config()  # noqa: F821
HUB_SAYS = [  # on the pages on a learner's way
    N_("Sign in"),
    N_("Username"),
    N_("Password"),
    N_("Invalid username or password"),
    N_("Start"),
    N_("Your server is starting up."),
    N_("You will be redirected automatically when it's ready for you."),
    N_("Event log"),
    N_("Stop Server"),
    N_("Stop My Server"),
    N_("My Server"),
]


def in_class_language(page: Markup) -> Markup:
    """What the hub has to say in English alone."""
    said = "|".join(map(re.escape, sorted(HUB_SAYS, key=len, reverse=True)))
    return Markup(re.sub(rf"\b(?:{said})(?!\w)", lambda found: _(found[0]), page))


def how_to_log_in() -> list[Markup]:
    """In the class's language first, and in all others: who comes here has not chosen one yet."""
    told = []
    for code in sorted(languages(), key=lambda code: code != LANGUAGE):
        language(code)
        text = _(
            "Log in with a name of your own (small letters a–z, digits and hyphens, a letter first) and the class's "
            "password. Keep to this browser: the name belongs to it."
        )
        told.append(Markup(f"<p{html_language()}>{text}</p>"))
    language(LANGUAGE)
    return told


# Where things are, and what outlives a restart
c.JupyterHub.bind_url = os.environ["WORKSHOP_ADDRESS"]
c.JupyterHub.hub_bind_url = f"http://{HERE}:{hub_port}"
c.JupyterHub.db_url = f"sqlite:///{folder / 'data' / 'hub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(folder / "data" / "cookie_secret")
c.JupyterHub.proxy_class = "configurable-http-proxy"
c.ConfigurableHTTPProxy.should_start = False  # it runs beside the hub: lessons stay open while the hub starts again
c.ConfigurableHTTPProxy.api_url = f"http://{HERE}:{proxy_port}"
c.JupyterHub.template_paths = [str(Path(__file__).with_name("templates"))]
c.JupyterHub.template_vars = {
    "direction": html_language(),
    "how_to_log_in": how_to_log_in(),
    "in_class_language": lambda _user: in_class_language,  # the hub calls what can be called
    "lessons_in": _("Your lessons"),
}
c.JupyterHub.log_level = "WARN"

# Who
c.JupyterHub.authenticator_class = WithAccounts if ROOT else ClassAuthenticator
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {"instructor"}
c.SharedPasswordAuthenticator.user_password = os.environ["WORKSHOP_PASSWORD"]
c.SharedPasswordAuthenticator.admin_password = os.environ["WORKSHOP_INSTRUCTOR"]
c.LocalAuthenticator.create_system_users = ROOT
homes = ["--base-dir", os.environ["WORKSHOP_HOMES"], "--key", "HOME_MODE=0700", "--gid", GROUP]
c.LocalAuthenticator.add_user_cmd = ["useradd", "--create-home", "--shell", "/bin/bash", *homes]


def first_page(handler: Any) -> str:
    """The instructor sees the class, a learner the choice of a language."""
    user = handler.current_user
    return "/services/board/" if user and user.admin else ""


def form(spawner: Any) -> str:
    """The choice of a language, with the last one chosen."""
    last = spawner.user_options.get("language") or LANGUAGE
    choices = "".join(
        f'<div class="form-check"><label class="form-check-label" lang="{code}"><input class="form-check-input" '
        f'type="radio" name="language" value="{code}"{" checked" if code == last else ""}> '
        f"{Locale.parse(code).get_display_name(code)}</label></div>"
        for code in languages()
    )
    told = _(
        "The language of your lessons. For another one later, stop your server (File, Hub Control Panel) and start it "
        "again: each language keeps its own copy."
    )
    return f"<div{html_language()}><p>{told}</p>{choices}</div>"


def chosen(data: dict[str, list[str]]) -> dict[str, str]:
    asked = (data.get("language") or [""])[0]
    return {"language": asked if asked in languages() else LANGUAGE}


def speak(spawner: Any, options: dict[str, str]) -> None:
    spawner.environment = spawner.environment | {"PITFALLS_LANGUAGE": options.get("language", LANGUAGE)}


next_start = 0.0


async def wait_for_turn(spawner: Any) -> None:
    """Servers start one after another, and a learner's page says that it waits.

    All at once each would take as long as all of them, and nobody could begin.
    """
    global next_start
    now = time.monotonic()
    next_start = max(now, next_start + APART / (os.cpu_count() or 1))
    await asyncio.sleep(next_start - now)


# What each learner gets
if not ROOT:
    c.JupyterHub.spawner_class = "simple"
    c.SimpleLocalProcessSpawner.home_dir_template = os.environ["WORKSHOP_HOMES"] + "/{username}"
elif SYSTEMD:
    c.JupyterHub.spawner_class = "systemd"
    c.SystemdSpawner.disable_user_sudo = True
    c.SystemdSpawner.unit_extra_properties = {"OOMPolicy": "continue"}  # where memory ends a kernel goes, not all
c.Spawner.cmd = [sys.executable, str(Path(__file__).with_name("learner.py"))]
c.Spawner.options_form = form
c.Spawner.options_from_form = chosen
c.Spawner.apply_user_options = speak
c.Spawner.pre_spawn_hook = wait_for_turn
c.Spawner.start_timeout = c.Spawner.http_timeout = 300
c.Spawner.mem_limit = int(os.environ["WORKSHOP_MEMORY"])
c.Spawner.cpu_limit = float(os.cpu_count() or 1)
c.Spawner.environment = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PITFALLS_BOARD": f"http://{HERE}:{board_port}/services/board/",
    "JUPYTER_PATH": str(folder / "jupyter"),
    "WORKSHOP_FORKING": str(folder / "run" / "forking.sock"),
    **{name: os.environ[name] for name in HANDED_ON},
}
c.JupyterHub.concurrent_spawn_limit = 0  # they take turns, see above
c.JupyterHub.last_activity_interval = 10  # as often the routes are put back into a proxy that was started again
c.JupyterHub.default_url = first_page

# The board, and the end of servers that nobody uses
c.JupyterHub.services = [
    {
        "name": "board",
        "url": f"http://{HERE}:{board_port}",
        "api_token": os.environ["WORKSHOP_BOARD_TOKEN"],
        "oauth_no_confirm": True,
    },
    {"name": "culler", "api_token": os.environ["WORKSHOP_CULLER_TOKEN"]},
]
c.JupyterHub.load_roles = [
    # a learner's server may tell the board what is done; what others see of it, the board refuses a learner
    {"name": "user", "scopes": ["self", "access:services!service=board"]},
    {"name": "server", "scopes": ["users:activity!user", "access:servers!server", "access:services!service=board"]},
    {"name": "board", "scopes": ["list:users", "read:users:name"], "services": ["board"]},
    {
        "name": "culler",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["culler"],
    },
]
