"""What a proposer runs into costs the idea at hand, never the search."""

from __future__ import annotations

import logging

from search_engine.errors import KernelLspError
from search_engine.proposers._base import Proposer

logger = logging.getLogger(__name__)


def reason_of(error: Exception, proposer: Proposer, what: str) -> str:
    """Why ``proposer`` gave nothing, as a clause for a notice.

    What the user can do something about says so itself. Anything else is a fault in the
    proposer, of which the log gets the traceback, with ``what`` was asked for.
    """
    if isinstance(error, KernelLspError):
        return str(error)
    logger.error("%s failed: %s", proposer.name, what, exc_info=error)
    return f"a fault in {proposer.name}, {type(error).__name__}: the search's log has the details"
