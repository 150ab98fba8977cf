"""Tensors of vision transformers as the field writes them, under the names of `transformer.py` and `patches.py`.

Dasheng and M2D both store their blocks in this layout (that of timm); each encoder's own renaming calls these.
"""

from jaxtyping import Float
from torch import Tensor

_PARTS = {
    "norm1": "attention_norm",
    "attn.proj": "attention.out",
    "norm2": "feedforward_norm",
    "mlp.fc1": "feedforward.up",
    "mlp.fc2": "feedforward.down",
}


def block_tensors(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """`blocks.3.mlp.fc1.weight` and the like, the fused queries, keys and values in three.

    Raises:
        ValueError: the name is not one of a block's.
    """
    blocks, number, part = name.split(".", 2)
    part, _, leaf = part.rpartition(".")
    where = f"{blocks}.{number}"
    if part == "attn.qkv":
        thirds = zip(("query", "key", "value"), tensor.chunk(3), strict=True)
        return {f"{where}.attention.{third}.{leaf}": values for third, values in thirds}
    if part not in _PARTS:
        raise ValueError(f"expected the name of a tensor of a vision transformer's block, got {name!r}")
    return {f"{where}.{_PARTS[part]}.{leaf}": tensor}


def patch_projection(weight: Float[Tensor, "width 1 mels frames"]) -> Float[Tensor, "width values"]:
    """The kernel of a convolution over patches as the matrix of `Patches`, which flattens a patch frame by frame."""
    return weight[:, 0].transpose(1, 2).flatten(1)
