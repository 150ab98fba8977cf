"""The promises of the house: instant import, nothing heavy at the door, no forbidden dependency, no dead links."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "transformers", "lancedb", "soundfile", "pydantic")


def _modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nimport json; print('\\n' + json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_the_door_is_light():
    assert not _modules_after("import lapis").intersection(HEAVY)


def test_help_loads_nothing_heavy():
    code = "import lapis.cli\ntry: lapis.cli.app(['--help'])\nexcept SystemExit: pass"
    assert not _modules_after(code).intersection(("torch", "numpy", "transformers", "lancedb", "soundfile"))


def test_sound_can_be_read_without_torch():
    assert "torch" not in _modules_after("import lapis.audio, lapis.files")


def test_names_at_the_door():
    import lapis

    assert callable(lapis.load)
    assert lapis.__version__ == importlib.metadata.version("lapis-audio")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = lapis.nothing


@pytest.mark.parametrize("name", ["torchaudio", "torchvision"])
def test_packages_that_break_others_are_not_installed(name):
    """Neither has a build for a processor-only torch, and the second's mere presence breaks transformers."""
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version(name)


def test_every_module_says_what_it_holds(root):
    for path in (root / "src").rglob("*.py"):
        assert path.read_text(encoding="utf-8").startswith('"""'), f"{path} has no docstring"
