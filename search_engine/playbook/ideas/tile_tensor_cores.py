"""The same tiles multiplied by tensor cores; fp32 as three TF32 products."""

from __future__ import annotations

from typing import ClassVar

from search_engine.hardware import DeviceFacts
from search_engine.playbook import words
from search_engine.playbook.contraction import Contraction
from search_engine.playbook.idea import Knobs, Variant
from search_engine.playbook.program import Program
from search_engine.playbook.tiles import plans
from search_engine.playbook.tiles.idea import KNOBS, TiledIdea, sizes, tile_words


class TileTensorCores(TiledIdea):
    """Products by ``mma.sync``."""

    key = "tile_tensor_cores"
    title = "Tiles multiplied by tensor cores"
    category = "data type and precision"
    unit = "tensor_cores"
    knobs: ClassVar[Knobs] = {
        **KNOBS,
        "products": (
            (3, 1),
            "data type and precision",
            "Three TF32 products (high and low parts) keep fp32's accuracy; one is enough where "
            "eager itself takes one: on a GPU, where torch's flags allow it.",
        ),
    }

    def why(self, program: Program, facts: DeviceFacts) -> str:
        """The units' rates, and how accuracy is kept."""
        c = self._contraction(program)
        held = plans.word(c, "tensor_cores")
        assert held is not None
        if held.dtype != "float32":
            how = (
                f"Tensor cores multiply {held.dtype} at {facts.half_flops / 1e12:,.0f} TFLOP/s and "
                f"add in fp32, as eager does"
            )
        else:
            ratio = facts.tf32_flops / 3 / facts.fp32_flops
            how = (
                f"fp32 numbers are split into two TF32 numbers of 11 bits each, and three of the "
                f"four products are taken (low times low is below fp32's last bit): still "
                f"{ratio:.1f} times the rate of the fp32 units, with their accuracy, since the "
                f"large products leave the tensor cores every 8 k's and are added in fp32"
            )
            if 1 in c.products:
                how += (
                    ". Torch's flags let eager itself take one such product here, and a variant "
                    "with one is as accurate as eager"
                )
        return (
            f"The task multiplies {sizes(c)}: {c.flops / 1e9:.3g} GFLOP over "
            f"{words.size(c.bytes_once)}. {how}. Operands pass through shared memory in padded "
            f"tiles that fragments are read from without bank conflicts, and everything that "
            f"follows the sum is done in registers before it is stored."
        )

    def comment(self, c: Contraction, variant: Variant) -> str:
        """What stands above the kernel."""
        held = plans.word(c, "tensor_cores")
        assert held is not None
        how = f"in {held.dtype}"
        if held.dtype == "float32":
            how = "as three TF32 products" if variant.number("products") == 3 else "in TF32"
        return (
            f"Sums of {words.counted(c.k, 'product')} by tensor cores, {how}. A block owns "
            f"{tile_words(variant)} outputs; its operands pass through shared memory in stages of "
            f"{variant.number('depth')} k's."
        )
