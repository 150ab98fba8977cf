"""README and docs: every path, command, module and link in them is there, and the six hops are real."""

import ast
import re
import shlex

import pytest

from lapis.cli import app

COMMAND = re.compile(r"^(?:\$ )?(lapis|make) (.+)$")


def _pages(root):
    return [root / "README.md", *sorted((root / "docs").rglob("*.md")), root / "tests" / "golden" / "README.md"]


def _code(text):
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def _blocks(text):
    return re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, flags=re.DOTALL)


def test_links_lead_somewhere(root):
    for page in _pages(root):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith(("http://", "https://")):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_paths_exist(root):
    """Whatever looks like a path of the repository is one; what stands before the name of a module may be left out."""
    for page in _pages(root):
        for word in _code(page.read_text(encoding="utf-8")):
            if re.fullmatch(r"[\w./-]+/[\w.-]*|[\w./-]+\.(py|md|toml|txt|tar|json|jsonl|npz|jinja)", word):
                if word.startswith(("demo-output", "runs", "lapis-index", ".venv")) or word in GENERATED:
                    continue
                places = (root, root / "src" / "lapis", root / "src", page.parent)
                found = any((place / word).exists() for place in places)
                assert found or any((root / "src").rglob(word)), f"{page.name}: {word}"


GENERATED = {"log.jsonl", "recipe.json", "report.html", "classes.json", "index.json"}
GENERATED |= {"shards.jsonl", "problems.jsonl", "prepared.json", "KEY.json"}
GENERATED |= {"captions.jsonl", "answers.jsonl", "asked.json"}


def test_commands_can_be_parsed(root):
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), flags=re.MULTILINE))
    seen = 0
    for page in _pages(root):
        text = page.read_text(encoding="utf-8")
        lines = [line for block in _blocks(text) for line in block.splitlines()] + _code(text)
        for line in lines:
            match = COMMAND.match(line.strip())
            if not match:
                continue
            seen += 1
            program, rest = match.groups()
            words = shlex.split(rest, comments=True)
            if program == "make":
                assert words[0] in targets, f"{page.name}: {line}"
            elif words[0] not in ("COMMAND", "--help"):
                _, _, unused = app.parse_known_args(words)[:3]
                assert not unused, f"{page.name}: {line}: {unused}"
    assert seen > 10


def test_the_readme_has_figures_of_every_domain(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    assert not re.search(r"@[A-Z]+@", text)
    for domain in ("sound", "music", "speech"):
        assert re.search(rf"^\|.*{domain}.*\d+\.\d ?%.*\|$", text, flags=re.MULTILINE), domain


def test_python_in_the_docs_is_python(root):
    for page in _pages(root):
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
            tree = ast.parse(block)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lapis"):
                    module = __import__(node.module, fromlist=[name.name for name in node.names])
                    for name in node.names:
                        assert hasattr(module, name.name), f"{page.name}: {node.module}.{name.name}"


def test_the_tree_in_the_readme_is_the_tree(root):
    text = (root / "README.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```text\n(.*?)```", text, flags=re.DOTALL) if "src/lapis/" in block]
    for room in sorted(path for path in (root / "src" / "lapis").iterdir() if path.name != "__pycache__"):
        name = f"{room.name}/" if room.is_dir() else room.name
        if name not in ("py.typed",):
            assert re.search(rf"(?<![\w./]){re.escape(name)}", block), f"{name} is not in the README's tree"
    for name in re.findall(r"[\w./-]+\.py", block):
        assert list((root / "src" / "lapis").rglob(name)) or (root / name).exists(), f"{name} is not there"


def test_six_hops_from_the_command_to_the_loss(root):
    """Each hop that the tour names calls the next one, by the name of a function in the file that the tour gives."""
    text = (root / "docs" / "tour.md").read_text(encoding="utf-8")
    hops = re.findall(r"^\d\. `([\w/]+\.py)` `([\w.]+)` → `([\w.]+)\(", text, flags=re.MULTILINE)
    assert len(hops) == 6
    for file, function, call in hops:
        tree = ast.parse((root / "src" / "lapis" / file).read_text(encoding="utf-8"))
        scopes = function.split(".")
        node = tree
        for name in scopes:
            kinds = (ast.FunctionDef, ast.ClassDef)
            node = next(n for n in ast.walk(node) if isinstance(n, kinds) and n.name == name)
        calls = {ast.unparse(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
        assert call in calls, f"{file} {function} does not call {call}: {sorted(calls)}"


@pytest.mark.parametrize("marker", ["gpu", "network", "slow"])
def test_markers_are_explained(root, marker):
    assert f"`{marker}`" in (root / "docs" / "testing.md").read_text(encoding="utf-8")
