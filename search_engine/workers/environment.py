"""The environment of processes that touch generated code: without keys. Free of torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# Names, in any case, whose values are nobody's business: OPENAI_API_KEY, GITHUB_TOKEN,
# AWS_SECRET_ACCESS_KEY, PGPASSWORD, NETRC, SSH_AUTH_SOCK, DATABASE_DSN.
_SECRET = re.compile(
    r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|AUTH|COOKIE|NETRC|DSN|SSH_|GPG_|AWS_",
    re.IGNORECASE,
)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """A copy of an environment without variables whose name speaks of a secret."""
    return {name: value for name, value in environment.items() if not _SECRET.search(name)}


@contextmanager
def hidden_secrets() -> Iterator[None]:
    """Takes them out of what a child process started meanwhile inherits.

    ``os.environ`` itself stays as it is, so that other threads go on reading their keys.
    """
    hidden = {name: value for name, value in os.environ.items() if _SECRET.search(name)}
    for name in hidden:
        os.unsetenv(name)
    try:
        yield
    finally:
        for name, value in hidden.items():
            os.putenv(name, value)
