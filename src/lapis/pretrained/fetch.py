"""From a published name to files on this machine: downloads, the Hugging Face hub, and the licence, told once.

Nothing here runs what it fetches: of a repository only weights, tokenizers and configurations are taken, no code.
"""

import hashlib
import logging
import os
from pathlib import Path
from urllib.error import URLError

from rich.console import Console
from rich.progress import DownloadColumn, Progress

from lapis.files import cache_folder, download, sha256_of
from lapis.pretrained.official import Official, OfficialFile
from lapis.weights import ARCHIVE, PICKLED, SUFFIXES

logger = logging.getLogger(__name__)

SIDE_FILES = ("*.json", "*.txt", "*.model", "*.jinja")


def fetch(name: str, official: Official, *, revision: str | None = None) -> Path:
    """The weights file of official weights, or the folder where they have no file of their own; side files beside it.

    What has been fetched before is not fetched again. Checksums are verified wherever they are known.

    Raises:
        ValueError: a file cannot be had, or is not the published one.
    """
    tell_once(name, official)
    if not official.files:
        return snapshot(name, revision=revision)
    weights = next(file for file in official.files if file.name.endswith((*SUFFIXES, ARCHIVE)))
    if weights.address is None:
        folder = _repository(name, [file.name for file in official.files], revision=revision)
        for file in official.files:
            _verify(folder / file.name, file, name)
        return folder / weights.name
    if revision is not None:
        raise ValueError(f"{name} is published as single files, which have no revision: got revision {revision!r}")
    folder = cache_folder("official", name.replace("/", "--"))
    for file in official.files:
        _download(file, folder)
    return folder / weights.name


def snapshot(repository: str, *, revision: str | None = None) -> Path:
    """The folder of a repository of the Hugging Face hub: safetensors, or pickled weights where it has no other.

    HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are honoured.

    Raises:
        ValueError: there is no such repository or revision, or it cannot be reached and is not in the cache.
    """
    folder = _repository(repository, [*SIDE_FILES, "*.safetensors"], revision=revision)
    if any(folder.rglob("*.safetensors")):
        return folder
    return _repository(repository, [*SIDE_FILES, *(f"*{suffix}" for suffix in PICKLED)], revision=revision)


def tell_once(name: str, official: Official) -> None:
    """Log the licence and the warning of official weights, the first time on this machine and when they change."""
    said = f"{name}\0{official.licence}\0{official.warning}"
    marker = cache_folder("told") / hashlib.sha256(said.encode()).hexdigest()[:32]
    if marker.exists():
        return
    logger.warning("%s: licence of the weights: %s. See %s", name, official.licence, official.homepage)
    if official.warning:
        logger.warning("%s: %s", name, official.warning)
    marker.touch()


def _repository(repository: str, patterns: list[str], *, revision: str | None) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError as error:
        raise ValueError(f"{repository} needs an extra to be fetched: pip install 'lapis-audio[hub]'") from error
    try:
        return Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except errors.GatedRepoError as error:
        raise ValueError(
            f"{repository}: its owner asks you to accept terms on its page on the Hugging Face hub first; then set "
            f"HF_TOKEN to a token of yours"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(
            f"{repository}: neither a file or folder here, nor a repository of the Hugging Face hub that you may see"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{repository} has no revision {revision!r}") from error
    except errors.HFValidationError as error:
        raise ValueError(f"{repository}: expected a path, or a name as owner/name: {error}") from error
    except (errors.HTTPError, errors.XetDownloadError, OSError) as error:  # pyright: ignore[reportPrivateImportUsage]
        if huggingface_hub.constants.is_offline_mode():
            reason = "HF_HUB_OFFLINE is set"
        else:
            reason = f"the hub did not give it ({str(error).strip().partition(chr(10))[0]})"
        raise ValueError(
            f"{repository} is no file or folder here, is not whole in the cache of the Hugging Face hub, and {reason}: "
            f"give the path of a folder, or fetch it where there is a network"
        ) from error


def _download(file: OfficialFile, folder: Path) -> None:
    path = folder / file.name
    if file.address is None:
        raise ValueError(f"{file.name}: expected an address, as the other files of its model have one")
    if not path.exists() and os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise ValueError(
            f"{file.name} is not in the cache, and HF_HUB_OFFLINE is set: fetch {file.address} where there is a "
            f"network, and give the path of the file"
        )
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), DownloadColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(file.name, total=file.size_bytes, visible=False)
        try:
            download(
                file.address,
                sha256=file.sha256,
                folder=folder,
                name=file.name,
                progress=lambda done, total: bar.update(task, completed=done, total=total, visible=True),
            )
        except URLError as error:
            raise ValueError(
                f"{file.address} cannot be fetched ({error.reason}): fetch it where there is a network and give the "
                f"path of the file"
            ) from error


def _verify(path: Path, file: OfficialFile, name: str) -> None:
    if not path.is_file():
        raise ValueError(f"{name} has no file {file.name}")
    if file.sha256 is not None and (came := sha256_of(path)) != file.sha256:
        raise ValueError(f"{path} is not the published file: sha256 {file.sha256} expected, {came} came")
