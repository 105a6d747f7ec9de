"""Who may log in: with a name and the class's password, and a name belongs to the browser that first came with it."""

import asyncio
import grp
import pwd
import re
from datetime import UTC, datetime
from typing import Any

from jupyterhub.auth import LocalAuthenticator
from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
from jupyterhub.handlers import BaseHandler
from tornado.web import HTTPError

from pitfalls.language import _

GROUP = "pitfalls-workshop"
MOMENT = 10  # seconds within which the hub makes a user of whoever was let in
NAME = re.compile("[a-z][a-z0-9-]{0,23}")


class ClassAuthenticator(SharedPasswordAuthenticator):
    """The class's password for learners, the instructor's own for the instructor.

    With the password alone anyone could log in by another learner's name. So the browser that first logs in with a name
    keeps a signed cookie, and without it the name is taken. Whoever changes to another machine asks the instructor, who
    deletes the user in the hub's admin page: the account and its files stay, and the name is free to be taken again.
    """

    coming: set[str] = set()  # names that have just been given: the hub makes their users in the next moment

    async def authenticate(self, handler: BaseHandler, data: dict[str, str]) -> dict[str, Any] | None:
        if not data["password"].isascii():  # as no password here is: the comparison knows no others
            return None
        found = await super().authenticate(handler, data)
        if found is None or found["admin"]:
            return found
        name = found["name"]
        if not NAME.fullmatch(name):
            raise HTTPError(
                403, _("A name is 1 to 24 small letters a–z, digits and hyphens, and begins with a letter.")
            )
        if _of_the_machine(name):
            raise HTTPError(403, _("{name} is an account of this machine itself: choose another name.", name=name))
        cookie = f"workshop-{name}"
        user = handler.find_user(name)
        days = _days_since(user.created) if user else 31
        if (user or name in self.coming) and not handler.get_signed_cookie(cookie, max_age_days=days):
            told = _(
                "{name} has logged in from another browser. If that was you, your instructor can let you in here;",
                name=name,
            )
            raise HTTPError(403, told + " " + _("else choose another name."))
        self.coming.add(name)
        asyncio.get_running_loop().call_later(MOMENT, self.coming.discard, name)
        secure = handler.request.protocol == "https"
        handler.set_signed_cookie(cookie, "1", path=handler.hub.base_url, httponly=True, secure=secure, samesite="Lax")
        return found


class WithAccounts(ClassAuthenticator, LocalAuthenticator):
    """Each learner gets an account of the machine, too: the hub has to be root's."""


def _days_since(created: datetime) -> float:
    """How old a cookie may be: one from before the hub had this user is of someone who had the name earlier."""
    return ((datetime.now(UTC).replace(tzinfo=None) - created).total_seconds() + MOMENT) / 86400


def _of_the_machine(name: str) -> bool:
    """Whether an account with this name was there before the workshop: nobody logs in as `root`."""
    try:
        return pwd.getpwnam(name).pw_gid != grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return False
