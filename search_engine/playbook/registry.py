"""Every operator that runs over more than one element of an operand, in one table.

``REDUCING[name](node, index, reader)`` gives the result's value at an index. A further family
is a file with such a table and a line here.
"""

from __future__ import annotations

from search_engine.playbook.contractions import CONTRACTIONS
from search_engine.playbook.joined import JOINED
from search_engine.playbook.norms import NORMS
from search_engine.playbook.positions import POSITIONS
from search_engine.playbook.reductions import REDUCTIONS, Reduction
from search_engine.playbook.scans import SCANS
from search_engine.playbook.windows import WINDOWS

REDUCING: dict[str, Reduction] = {
    **REDUCTIONS,
    **NORMS,
    **POSITIONS,
    **SCANS,
    **CONTRACTIONS,
    **WINDOWS,
    **JOINED,
}
