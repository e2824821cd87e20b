"""The ideas, one file each. ``ALL`` lists them; adding one is a file and a line here."""

from search_engine.playbook.idea import PlaybookIdea
from search_engine.playbook.ideas.block_per_row import BlockPerRow
from search_engine.playbook.ideas.chip_as_buffer import ChipAsBuffer
from search_engine.playbook.ideas.fuse_chain import FuseChain
from search_engine.playbook.ideas.row_on_chip import RowOnChip
from search_engine.playbook.ideas.scan_columns import ScanColumns
from search_engine.playbook.ideas.scan_rows import ScanRows
from search_engine.playbook.ideas.split_columns import SplitColumns
from search_engine.playbook.ideas.split_rows import SplitRows
from search_engine.playbook.ideas.thread_per_output import ThreadPerOutput
from search_engine.playbook.ideas.tile_of_rows import TileOfRows
from search_engine.playbook.ideas.tile_on_chip import TileOnChip
from search_engine.playbook.ideas.tile_registers import TileRegisters
from search_engine.playbook.ideas.tile_tensor_cores import TileTensorCores
from search_engine.playbook.ideas.warp_per_row import WarpPerRow
from search_engine.playbook.ideas.window_in_shared import WindowInShared

ALL: tuple[PlaybookIdea, ...] = (
    FuseChain(),
    WarpPerRow(),
    BlockPerRow(),
    RowOnChip(),
    SplitRows(),
    ChipAsBuffer(),
    TileOnChip(),
    TileOfRows(),
    SplitColumns(),
    ScanRows(),
    ScanColumns(),
    TileRegisters(),
    TileTensorCores(),
    ThreadPerOutput(),
    WindowInShared(),
)
