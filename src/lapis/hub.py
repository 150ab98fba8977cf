"""Models by name: for now, folders that `lapis train` left behind."""

from pathlib import Path

from lapis.model import JointModel
from lapis.recipe import loads


def load(name: str | Path, *, device: str = "cpu") -> JointModel:
    """The model of a training folder (`recipe.json` and `model.safetensors`), ready to embed.

    Raises:
        ValueError: the folder lacks one of the files, or the weights are not those of the recipe's model.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(name)
    recipe, weights = folder / "recipe.json", folder / "model.safetensors"
    for path in (recipe, weights):
        if not path.is_file():
            raise ValueError(f"{name}: expected the folder of a finished training run, {path.name} is not in it")
    model = loads(recipe.read_text(encoding="utf-8")).model.build()
    try:
        model.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{weights} does not hold the weights of {recipe}: {error}") from error
    return model.eval().requires_grad_(False).to(device)
