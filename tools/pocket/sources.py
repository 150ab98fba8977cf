"""The packages the pocket corpus is made of: fetching, checking, unpacking, licences and attribution."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import struct
import subprocess
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES: dict[str, dict] = json.loads((HERE / "packages.json").read_text("utf-8"))

LICENCES = {
    "CC0": "CC0-1.0",
    "CC0-1.0": "CC0-1.0",
    "CC-BY": "CC-BY-3.0",
    "CC-BY-3.0": "CC-BY-3.0",
    "CC-BY-SA-2.0": "CC-BY-SA-2.0",
    "CC-BY-SA-3.0": "CC-BY-SA-3.0",
    "CC-BY-SA-3.0+": "CC-BY-SA-3.0",
    "CC-BY-SA-3.0-us": "CC-BY-SA-3.0-US",
    "CC-BY-SA-4.0": "CC-BY-SA-4.0",
    "MIT": "MIT",
}


@dataclass(frozen=True)
class Rights:
    """Under which licence, and after whom, a file may be passed on."""

    licence: str
    attribution: str


def fetch(name: str, cache_folder: Path) -> Path:
    """Return the cached package file, downloading it with apt-get or npm when it is missing; check its sha256."""
    package = PACKAGES[name]
    path = cache_folder / package["file"]
    if not path.exists():
        cache_folder.mkdir(parents=True, exist_ok=True)
        if package["kind"] == "deb":
            command = ["apt-get", "download", f"{name}={package['version']}"]
        else:
            command = ["npm", "pack", "--silent", f"{package['npm']}@{package['version']}"]
        subprocess.run(command, cwd=cache_folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package["sha256"]:
        raise ValueError(f"expected {path.name} with sha256 {package['sha256']}, got {found}")
    return path


def unpack(name: str, archive: Path, folder: Path) -> Path:
    """Unpack the audio and the notices of a package once, and return the folder that holds them."""
    target = folder / name
    done = target / ".unpacked"
    if done.exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    package = PACKAGES[name]
    patterns = [*package["unpack"], "*/copyright", "*LICENSE*", "*README*"]
    extract = ["tar", "x", "-C", str(target), "--wildcards", *patterns]
    if package["kind"] == "deb":
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as reader:
            subprocess.run(extract, stdin=reader.stdout, check=False, stderr=subprocess.DEVNULL)
    else:
        subprocess.run([*extract, "-zf", str(archive)], check=False, stderr=subprocess.DEVNULL)
    for nested in sorted(target.rglob("*.zip")):
        with zipfile.ZipFile(nested) as content:
            wanted = [member for member in content.namelist() if member.startswith("audio/")]
            content.extractall(target, wanted)
        nested.unlink()
    for catalogue in sorted(target.rglob("*.cat")):
        unpack_catalogue(catalogue, target)
    done.touch()
    return target


def unpack_catalogue(catalogue: Path, target: Path) -> None:
    """Split an OpenTTD sound catalogue into wav files, each beside the text that names its author and licence."""
    data = catalogue.read_bytes()
    count = (struct.unpack("<I", data[:4])[0] & 0x7FFFFFFF) // 8
    for index in range(count):
        offset = struct.unpack("<I", data[index * 8 : index * 8 + 4])[0] & 0x7FFFFFFF
        name_size = data[offset]
        description = data[offset + 1 : offset + name_size].decode("utf-8", "replace")
        start = offset + 1 + name_size
        size = struct.unpack("<I", data[start + 4 : start + 8])[0] + 8
        (target / f"osfx_{index:02d}.wav").write_bytes(data[start : start + size])
        (target / f"osfx_{index:02d}.txt").write_text(description, "utf-8")


@cache
def stanzas(copyright_file: Path) -> list[tuple[list[str], dict[str, str]]]:
    """Parse a machine-readable debian/copyright file into (file patterns, fields) pairs, in order."""
    found: list[tuple[list[str], dict[str, str]]] = []
    for block in re.split(r"\n[ \t]*\n", copyright_file.read_text("utf-8", "replace")):
        fields: dict[str, str] = {}
        current = ""
        for line in block.splitlines():
            match = re.match(r"([A-Za-z-]+):[ \t]*(.*)", line)
            if match:
                current = match.group(1)
                fields[current] = match.group(2)
            elif current and line.strip():
                fields[current] += "\n" + line.strip()
        if "Files" in fields:
            patterns = [item for item in fields["Files"].split() if item]
            found.append((patterns, fields))
    return found


def shorten(text: str) -> str:
    """Put the lines of a copyright or comment field on one line."""
    lines = [line.strip(" ,") for line in text.splitlines() if line.strip(" .,")]
    return re.sub(r"\s+", " ", ", ".join(lines))[:160].strip(" ,")


def debian_rights(name: str, root: Path, relative: str) -> Rights:
    """Look a file up in its package's debian/copyright; the last stanza that matches counts."""
    package = PACKAGES[name]
    pattern, replacement = package["upstream_path"]
    upstream = re.sub(pattern, replacement, relative)
    matches = [
        fields
        for patterns, fields in stanzas(root / f"usr/share/doc/{name}/copyright")
        if any(fnmatch.fnmatchcase(upstream, item) for item in patterns)
    ]
    if not matches:
        raise ValueError(f"expected a copyright stanza for {upstream} in {name}, found none")
    fields = matches[-1]
    words = re.split(r"\s+or\s+", fields.get("License", "").splitlines()[0].strip()) if fields.get("License") else [""]
    known = sorted(LICENCES[word] for word in words if word in LICENCES)
    if not known:
        raise ValueError(f"expected a CC0, CC-BY, CC-BY-SA or MIT licence for {name}:{upstream}, got {words}")
    holder = re.sub(r"^(N/?A|[Nn]ot [Aa]pplicable.*|no-copyright)$", "", shorten(fields.get("Copyright", "")))
    comment = shorten(fields.get("Comment", ""))
    return Rights(known[0], holder or comment or package["attribution"])


def opensfx_rights(root: Path, relative: str) -> Rights:
    """Read author and licence from the text OpenSFX carries with every clip."""
    text = (root / relative).with_suffix(".txt").read_text("utf-8")
    description, _, licence = text.partition(" License: ")
    if "Zero" in licence:
        name = "CC0-1.0"
    elif "ShareAlike" in licence:
        name = "CC-BY-SA-3.0"
    elif "Attribution 3.0" in licence:
        name = "CC-BY-3.0"
    else:
        raise ValueError(f"expected a Creative Commons licence with {relative}, got {licence!r}")
    return Rights(name, "OpenSFX: " + description.strip(" ."))


def rights(name: str, root: Path, relative: str) -> Rights:
    """Return licence and attribution of one file, from the notices inside its package."""
    package = PACKAGES[name]
    if "licence" in package:
        return Rights(package["licence"], package["attribution"])
    if name == "openttd-opensfx":
        return opensfx_rights(root, relative)
    return debian_rights(name, root, relative)


def prepare(names: list[str], work: Path) -> dict[str, Path]:
    """Fetch and unpack packages; return the folder of each."""
    return {name: unpack(name, fetch(name, work / "packages"), work / "unpacked") for name in names}
