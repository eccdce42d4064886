"""The rooms, who may import whom, and the habits of the house, read off the source itself."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "derny"
TESTS = Path(__file__).parent

PURE = {"model", "capacity", "placement", "core", "answers"}

TOP = {"__main__", "app", "config", "logs", "topology"}
"""Modules beside the rooms. A module is its own room here."""

ALLOWED: dict[str, set[str]] = {
    "model": set(),
    "capacity": {"model"},
    "placement": {"model"},
    "core": {"model", "capacity", "placement"},
    # Only reads: what is decided never rests on how it is told.
    "answers": {"model", "capacity", "placement", "core"},
    "journal": {"model", "core"},
    "agents": {"model", "core"},
    "runtime": {"model", "core", "answers", "journal"},
    # The door knows no service and no message.
    "edge": {"model"},
    # The counter reads through core.queries and writes through runtime; it never sees SQLite or the agents.
    "api": {"edge", "model", "core", "answers", "runtime", "proto"},
    # Callers see no more of the daemon than its messages.
    "client": {"proto"},
    "logs": set(),
    # A fleet description is YAML read by the same reader as spec files, and becomes hosts that register; the
    # limits of connections stand in the same file.
    "topology": {"client", "core", "model", "edge"},
    "config": {"topology", "edge", "model"},
    "app": {"agents", "answers", "api", "config", "core", "edge", "journal", "model", "runtime", "topology"},
    "cli": {"app", "client", "config", "journal", "logs", "model", "topology"},
    "__main__": {"cli"},
    "proto": set(),
}

IMPURE = {
    *("asyncio", "anyio", "time", "datetime", "random", "uuid", "os", "logging"),
    *("sqlite3", "aiosqlite", "grpclib", "betterproto2"),
}

OWNERS = {
    "sqlite3": {"journal"},
    "aiosqlite": {"journal"},
    "numpy": {"placement", "capacity"},
    # The door frees large messages, part by part.
    "betterproto2": {"api", "edge", "client", "proto"},
    "grpclib": {"api", "edge", "client", "cli", "app", "proto"},
    "asyncio": {"runtime", "edge", "api"},
    "logging": {"edge", "app", "logs"},
}
"""Who alone may import what."""

FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "base", "manager", "service", "handler"}


class Module:
    """A parsed file: its room, its dotted name, what it imports."""

    def __init__(self, path: Path) -> None:
        self.path = path
        parts = path.relative_to(SOURCE).with_suffix("").parts
        self.room = parts[0]
        self.name = ".".join(("derny", *parts))
        self.tree = ast.parse(path.read_text(encoding="utf-8"))

    def __repr__(self) -> str:
        return str(self.path.relative_to(SOURCE))

    @property
    def imports(self) -> set[str]:
        """Dotted names of all imported modules and of what is taken from them."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{self} imports relatively"
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        return found

    @property
    def rooms_used(self) -> set[str]:
        return {
            name.split(".")[1] for name in self.imports if name.startswith("derny.") and name.count(".")
        } - {self.room}


MODULES = [
    Module(path)
    for path in sorted(SOURCE.rglob("*.py"))
    if "proto" not in path.relative_to(SOURCE).parts and path != SOURCE / "__init__.py"
]

each_module = pytest.mark.parametrize("module", MODULES, ids=repr)


def test_every_room_is_in_the_table() -> None:
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    rooms |= {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert rooms == set(ALLOWED)


@each_module
def test_imports_point_one_way(module: Module) -> None:
    assert module.rooms_used <= ALLOWED[module.room]


@each_module
def test_a_library_is_known_to_its_rooms_alone(module: Module) -> None:
    used = {name.split(".")[0] for name in module.imports}
    for library, rooms in OWNERS.items():
        assert library not in used or module.room in rooms, f"{library} is not for {module.room}"


@pytest.mark.parametrize("module", [m for m in MODULES if m.room in PURE], ids=repr)
def test_pure_rooms_know_no_time_no_chance_no_world(module: Module) -> None:
    assert not {name.split(".")[0] for name in module.imports} & IMPURE
    impure = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [node for node in ast.walk(module.tree) if isinstance(node, impure)]
    calls = {
        node.func.id
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & {"open", "print", "input", "hash"}


@pytest.mark.parametrize("module", [m for m in MODULES if m.room in PURE], ids=repr)
def test_pure_rooms_never_walk_over_a_set(module: Module) -> None:
    """Sets of strings come in another order in each process; membership and comparison are fine."""
    walked: list[ast.expr] = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.For | ast.comprehension):
            walked.append(node.iter)
    assert not [found for found in walked if isinstance(found, ast.Set | ast.SetComp)]
    assert not [
        found
        for found in walked
        if isinstance(found, ast.Call)
        and isinstance(found.func, ast.Name)
        and found.func.id in {"set", "frozenset"}
    ]


@pytest.mark.parametrize("room", sorted(set(ALLOWED) - TOP - {"proto"}))
def test_a_rooms_init_is_the_plate_on_its_door(room: str) -> None:
    tree = ast.parse((SOURCE / room / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


@each_module
def test_a_module_opens_with_what_it_is(module: Module) -> None:
    lines = (ast.get_docstring(module.tree) or "").splitlines()
    assert 3 <= len(lines) <= 16, "a module's docstring has three lines and not many more"


@each_module
def test_nothing_is_exported_twice(module: Module) -> None:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom):
            assert "*" not in {alias.name for alias in node.names}
        if isinstance(node, ast.Name):
            assert node.id != "__all__"


def test_files_are_named_for_a_noun_and_not_for_a_habit() -> None:
    files = [*SOURCE.rglob("*.py"), *TESTS.rglob("*.py")]
    assert not [path for path in files if path.stem.removeprefix("test_") in FORBIDDEN_NAMES]


DATA = {
    # No behaviour of their own: types without a function that decides anything.
    "model/errors",
    "model/records",
    "model/specs",
    "model/periods",
    "model/rules",
    "core/commands",
    "core/events",
    # Tested through every test of core.
    "core/state",
}


@pytest.mark.parametrize("module", [m for m in MODULES if m.room in PURE], ids=repr)
def test_every_pure_module_has_its_test_file(module: Module) -> None:
    own = module.path.relative_to(SOURCE).with_suffix("")
    if module.path.stem != "__init__" and str(own) not in DATA:
        assert (TESTS / own.parent / f"test_{own.name}.py").is_file()


@pytest.mark.parametrize("room", sorted(PURE | {"runtime", "journal", "agents", "api", "client"}))
def test_every_test_file_has_its_module(room: str) -> None:
    # What several modules make together has no module of its own.
    together = {"test_random_commands", "test_served"}
    stems = {path.stem for path in (SOURCE / room).glob("*.py")}
    for path in (TESTS / room).glob("test_*.py"):
        assert path.stem in together or path.stem.removeprefix("test_") in stems, path
