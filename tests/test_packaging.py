"""What a wheel of derny brings along, and that it is enough to run."""

import os
import signal
import subprocess
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

REPOSITORY = Path(__file__).parents[1]
PATIENCE_S = 60.0
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as pip would, without the copy of the tree and the network that pip would want."""
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(REPOSITORY)).build(directory=str(folder), versions=["standard"])
    return Path(built)


def test_the_wheel_has_the_package_its_data_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {path for path in REPOSITORY.glob("src/derny/**/*") if path.is_file()}
    ours = {path.relative_to(REPOSITORY / "src").as_posix() for path in package if path.suffix != ".pyc"}
    scripts = {f"derny/migrations/{path.name}" for path in REPOSITORY.glob("migrations/*.sql")}
    assert scripts, "the journal can't be without its first migration"
    assert {"derny/py.typed", "derny/proto/descriptors.binpb", "derny/__main__.py"} <= ours
    brought = {name for name in names if not name.partition("/")[0].endswith(".dist-info")}
    assert brought == ours | scripts


def test_the_wheel_declares_its_license_and_its_console_script(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        information = {name.partition("/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
        assert "derny = derny.__main__:main" in archive.read(information["entry_points.txt"]).decode()
        assert "License-Expression: Apache-2.0" in archive.read(information["METADATA"]).decode()
        assert "licenses/LICENSE" in information


@pytest.mark.acceptance
def test_an_installed_wheel_finds_its_migrations_and_descriptors(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment that borrows no more than the dependencies from this one."""
    programs = tmp_path / "venv" / "bin"
    venv.create(programs.parent, symlinks=True, with_pip=True)
    quietly(programs / "pip", "install", "--quiet", "--no-index", "--no-deps", wheel)
    # The path of a .pth comes after the environment's own, and a checkout that it links to is not followed.
    (site,) = programs.parent.glob("lib/python*/site-packages")
    (site / "borrowed.pth").write_text("\n".join(path for path in sys.path if path.endswith("-packages")))
    where = quietly(programs / "python", "-c", "import derny; print(derny.__file__)")
    assert Path(where.strip()).is_relative_to(site), "the test would run another derny"

    ready, out = tmp_path / "ready.json", tmp_path / "out"
    flags = ("dev", "--port", "0", "--data-dir", tmp_path / "data", "--ready-file", ready)
    with out.open("wb") as output:
        process = subprocess.Popen(
            [programs / "derny", *flags], cwd=tmp_path, env=ENVIRONMENT, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ready.exists(), out.read_text("utf-8")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, out.read_text("utf-8")
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def quietly(*words: str | Path) -> str:
    """What a program prints that has to go well, away from the checkout."""
    done = subprocess.run(
        words, cwd="/", env=ENVIRONMENT, capture_output=True, text=True, timeout=2 * PATIENCE_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
