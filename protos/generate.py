"""Regenerates src/derny/proto from the .proto files beside this script.

Two products, both committed: the betterproto2 package that the daemon imports, and descriptors.binpb, the
FileDescriptorSet that reflection serves and that the contract test reads. One rule: the same sources give the
same bytes, whatever the current directory, so that `--check` can tell stale code from fresh.

Run it by hand after an edit here, and as `python protos/generate.py --check` by tox. It needs the pins of the
dependency group `generate` (betterproto2-compiler, grpcio-tools, ruff) in the environment that runs it.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

SOURCES = Path(__file__).resolve().parent
PACKAGE = SOURCES.parent / "src" / "derny" / "proto"
PROGRAMS = Path(sys.executable).parent
DESCRIPTORS = "descriptors.binpb"
PLUGIN = "protoc-gen-python_betterproto2"
# The plugin's default client imports grpcio; both sides of derny speak grpclib.
PLUGIN_OPTIONS = "server_generation=async,client_generation=async"
# The plugin pipes its output through ruff, which would otherwise take whatever settings it finds above the
# current directory.
RUFF_SETTINGS = 'line-length = 110\ntarget-version = "py311"\n'


def generate(target: Path) -> None:
    """Writes the whole package into `target`, an empty or missing directory.

    Raises:
        subprocess.CalledProcessError: protoc or the plugin refused; their message is on stderr.
    """
    target.mkdir(parents=True, exist_ok=True)
    sources = sorted(path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        # The plugin leaves out any __init__.py that it sees in the current directory: give it an empty one.
        directory = Path(scratch)
        (directory / "ruff.toml").write_text(RUFF_SETTINGS, encoding="utf-8")
        _protoc(
            directory,
            f"--proto_path={SOURCES}",
            f"--descriptor_set_out={directory / 'all.binpb'}",
            "--include_imports",
            "--include_source_info",
            *sources,
        )
        descriptors = FileDescriptorSet.FromString((directory / "all.binpb").read_bytes())
        (directory / "plain.binpb").write_bytes(_without_field_deprecations(descriptors).SerializeToString())
        _protoc(
            directory,
            f"--descriptor_set_in={directory / 'plain.binpb'}",
            f"--plugin={PLUGIN}={PROGRAMS / PLUGIN}",
            f"--python_betterproto2_out={target}",
            f"--python_betterproto2_opt={PLUGIN_OPTIONS}",
            *sources,
        )
    (target / DESCRIPTORS).write_bytes(_with_comments_only(descriptors).SerializeToString(deterministic=True))


def _protoc(working_directory: Path, *arguments: str) -> None:
    # The plugin calls ruff by its bare name, so the ruff of this environment has to come first.
    environment = os.environ | {"PATH": os.pathsep.join([str(PROGRAMS), os.environ.get("PATH", os.defpath)])}
    command = [sys.executable, "-m", "grpc_tools.protoc", *arguments]
    done = subprocess.run(command, cwd=working_directory, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()


def _without_field_deprecations(descriptors: FileDescriptorSet) -> FileDescriptorSet:
    """A copy for the plugin, whose classes would warn whenever a deprecated field or message is set.

    A server has to read and fill those like any other; warning on each of them is slow, and an error under
    `python -W error`. The deprecations stay in the descriptors, where clients see them.
    """
    plain = FileDescriptorSet()
    plain.CopyFrom(descriptors)
    pending = [message for file in plain.file for message in file.message_type]
    while pending:
        message = pending.pop()
        pending.extend(message.nested_type)
        for deprecable in (message, *message.field):
            deprecable.options.ClearField("deprecated")
    return plain


def _with_comments_only(descriptors: FileDescriptorSet) -> FileDescriptorSet:
    """A copy without the source positions that carry no comment: clients only show the comments."""
    commented = FileDescriptorSet()
    commented.CopyFrom(descriptors)
    for file in commented.file:
        kept = [place for place in file.source_code_info.location if place.leading_comments]
        del file.source_code_info.location[:]
        file.source_code_info.location.extend(kept)
    return commented


def differing_files(committed: Path, fresh: Path) -> Iterator[str]:
    """The relative names of files that are missing, left over or different in `committed`, sorted."""
    names = {path.relative_to(root).as_posix() for root in (committed, fresh) for path in _files(root)}
    for name in sorted(names):
        old, new = committed / name, fresh / name
        if not (old.is_file() and new.is_file() and filecmp.cmp(old, new, shallow=False)):
            yield name


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def main() -> int:
    """The command line: regenerate, or with --check compare and return 1 if anything differs."""
    parser = argparse.ArgumentParser(description="Regenerate src/derny/proto from protos/.")
    parser.add_argument("--check", action="store_true", help="fail if the committed code is not fresh")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch, "proto")
        generate(fresh)
        stale = list(differing_files(PACKAGE, fresh))
        if arguments.check:
            for name in stale:
                print(f"not fresh: src/derny/proto/{name}", file=sys.stderr)
            return 1 if stale else 0
        if stale:
            shutil.rmtree(PACKAGE, ignore_errors=True)
            shutil.copytree(fresh, PACKAGE)
        print(f"{len(stale)} files changed in src/derny/proto")
    return 0


if __name__ == "__main__":
    sys.exit(main())
