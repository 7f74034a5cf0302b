"""What a network need not compute of a volume whose ends do not change.

Padding repeats a scan's last plane (or zero) many times. A way through convolutions
makes the same of all these planes, but for those near the volume's end, which feel the
zeros outside, and those near the scan. `ConstantMargin.spared` planes can be cut off
before, and `ConstantMargin.restored` puts what they would have become back in.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from cervjax.model.region import Region

AnyArray = Array | np.ndarray


class Layer(NamedTuple):
    """A convolution with TensorFlow's "SAME" padding, along one axis.

    Attributes:
        kernel: voxels it spans, dilation included.
        stride: output voxel i starts at input voxel stride * i.
    """

    kernel: int
    stride: int = 1


class ConstantMargin(NamedTuple):
    """What a way through convolutions makes of ends that do not change.

    Output voxel i of the way depends on the input voxels ``stride * i - before`` to
    ``stride * i + after``. Sizes are multiples of the stride, so of an input of
    ``stride * q`` voxels the zeros outside are felt by output voxel i if

    - ``stride * i < before``: the first ``ceil(before / stride)``, and
    - ``stride * (q - i) <= after``: the last ``after // stride``.

    Attributes:
        stride: of the whole way.
        before: input voxels that are read before an output voxel's own.
        after: and after it.
    """

    stride: int
    before: int
    after: int

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> "ConstantMargin":
        """The reach of layers, first to last."""
        stride, before, after = 1, 0, 0
        for layer in reversed(layers):
            # Of even sizes, kernel - stride zeros are added, the odd one at the end.
            start = (layer.kernel - layer.stride) // 2
            before = layer.stride * before + start
            after = layer.stride * after + layer.kernel - 1 - start
            stride *= layer.stride
        return cls(stride, before, after)

    @property
    def outside(self) -> tuple[int, int]:
        """Output voxels at start and end that feel the zeros outside the volume."""
        return -(-self.before // self.stride), self.after // self.stride

    @property
    def least(self) -> int:
        """Constant input voxels that leave one output voxel untouched at either end.

        That voxel is the one next to `outside`. It must end before the constant voxels
        do at the start, and start after they did at the end; in whole strides.
        """
        start, end = self.outside
        at_start = self.stride * start + self.after + 1
        at_end = self.stride * (end + 1) + self.before
        return -(-max(at_start, at_end) // self.stride) * self.stride

    def spared(self, flat: Sequence[int]) -> tuple[int, ...]:
        """Voxels to cut off at both ends of each axis, of ``flat`` constant ones."""
        return tuple(max(0, n - self.least) // self.stride * self.stride for n in flat)

    def check(
        self, region: Region, sizes: Sequence[int], spared: Sequence[int]
    ) -> None:
        """Refuses a region half-way through that is felt to have lost its margin.

        Args:
            region: at half resolution, where the way has gone by its first stride of 2.
            sizes: of the whole volume there.
            spared: voxels that are cut off the input, of `spared`.

        Raises:
            ValueError: the region reaches what is cut off or what feels the cut.
        """
        start, end = (n * self.stride // 2 for n in self.outside)
        for (first, stop), n, cut in zip(region, sizes, spared, strict=True):
            inside = first >= cut // 2 + start and stop <= n - cut // 2 - end
            if cut and not inside:
                raise ValueError(
                    f"region {region} at half resolution reaches into the flat ends, "
                    f"of which {tuple(spared)} voxels are not computed: give a smaller "
                    "region or fewer flat voxels"
                )

    def restored(
        self, x: Float[AnyArray, "b _ _ _ c"], spared: Sequence[int]
    ) -> Float[Array, "b _ _ _ c"]:
        """The output of the way as if nothing had been cut off its input.

        Args:
            x: (b, x, y, z, c), the output for the input that was cut.
            spared: voxels that were cut off the input, of `spared`.

        Returns:
            (b, x, y, z, c), larger by ``2 * spared / stride`` along each axis.
        """
        start, end = self.outside
        x = jnp.asarray(x)
        for axis, voxels in enumerate(spared, 1):
            if voxels:
                n = x.shape[axis]
                cuts = [start, start + 1, n - end - 1, n - end]
                first, steady_first, middle, steady_last, last = jnp.split(
                    x, cuts, axis
                )
                copies = 1 + voxels // self.stride
                x = jnp.concatenate(
                    [
                        first,
                        jnp.repeat(steady_first, copies, axis),
                        middle,
                        jnp.repeat(steady_last, copies, axis),
                        last,
                    ],
                    axis,
                )
        return x
