"""`derny dev`: a whole cluster in the foreground, for as long as it is wanted.

One rule: this module reads flags and prints; `app` is the daemon. Standard output has the banner and what
became of --apply; the log goes to standard error.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import click
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny import logs
from derny.app import DEFAULT_POOL, Daemon, serving
from derny.client import apply
from derny.client.specfile import Document, load
from derny.client.yaml_tree import SpecError
from derny.config import Settings
from derny.journal.errors import JournalError
from derny.model.errors import Refusal, Unavailable
from derny.model.periods import Periods
from derny.topology import DEFAULT_LATENCIES, Topology, fleet_of_shape, load_topology

REFRESH_S = 0.1
SHOW_S = 60.0
"""How long a terminal shows a job that does not come up, before it says what to try next."""
UVLOOP = sys.platform != "win32"


# Said here too: click keeps the first that it hears, and whoever has the verb alone does not hear the group.
@click.command("dev", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=5392, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one."
)
@click.option("--hosts", type=click.IntRange(1), help="Simulated hosts.  [default: 4]")
@click.option(
    "--host-shape",
    metavar="SHAPE",
    help="Such as cpu=8,mem=32Gi,disk=100Gi,gpu=0,revocable_cpu=4; revocable is half of cpu by itself.",
)
@click.option(
    "--topology",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A fleet in YAML, instead of the two above.",
)
@click.option("--seed", type=click.IntRange(0), help="For all that is drawn by lot.  [default: drawn too]")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep the state here.  [default: in memory]",
)
@click.option(
    "--apply",
    "files",
    type=click.Path(path_type=Path),
    metavar="FILE",
    multiple=True,
    help="Create the jobs and pools of a file. Repeatable.",
)
@click.option(
    "--ready-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Gets one JSON object once RPCs are served.",
)
@click.option(
    "--insecure", is_flag=True, help="Listen beyond loopback although nothing is encrypted or checked."
)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
)
def command(**flags: Any) -> None:
    """Run a cluster of simulated hosts until interrupted.

    Serves the Peloton v1alpha API over gRPC, with reflection: try `grpcurl -plaintext localhost:5392 list`.
    """
    logs.configure(flags["log_format"], flags["log_level"])
    settings = _settings(flags)
    try:
        documents = [document for file in flags["files"] for document in load(file)]
        apply.check_names(documents)
    except SpecError as wrong:
        raise click.UsageError(str(wrong)) from None
    for warning in (warning for document in documents for warning in document.warnings):
        click.echo(f"Warning: {warning}", err=True)
    try:
        # Whoever waits for the file must not take that of an earlier daemon for it.
        _remove(flags["ready_file"])
        anyio.run(_run, settings, documents, flags["ready_file"], backend_options={"use_uvloop": UVLOOP})
    except* (JournalError, Refusal, apply.ApplyError, GRPCError, OSError) as failed:
        raise click.ClickException("; ".join(_sentences(failed))) from None
    finally:
        with suppress(OSError):
            _remove(flags["ready_file"])


def _settings(flags: dict[str, Any]) -> Settings:
    if not _is_loopback(flags["host"]) and not flags["insecure"]:
        raise click.UsageError(
            f"--host {flags['host']} can be reached from other machines, and this daemon neither encrypts"
            " nor checks who calls; use 127.0.0.1, or add --insecure if that is what you want"
        )
    topology = _topology(flags)
    return Settings(
        fleet=topology.fleet,
        latencies=topology.latencies,
        periods=topology.periods,
        limits=topology.limits,
        preempting=topology.preempting,
        edge=topology.edge,
        rules=topology.rules,
        seed=flags["seed"],
        host=flags["host"],
        port=flags["port"],
        data_dir=flags["data_dir"],
    )


def _topology(flags: dict[str, Any]) -> Topology:
    try:
        if flags["topology"] is None:
            fleet = fleet_of_shape(flags["hosts"] or 4, flags["host_shape"] or "")
            return Topology(fleet, Periods(), DEFAULT_LATENCIES)
        if flags["hosts"] is not None or flags["host_shape"] is not None:
            raise click.UsageError("--topology describes all hosts; leave out --hosts and --host-shape")
        return load_topology(flags["topology"])
    except SpecError as wrong:
        raise click.UsageError(str(wrong)) from None


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _remove(ready_file: Path | None) -> None:
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)


def _sentences(failed: BaseExceptionGroup[BaseException]) -> list[str]:
    """What went wrong, without what only follows from it: that a daemon without a journal ends."""
    errors = list(_leaves(failed))
    if any(isinstance(error, JournalError) for error in errors):
        errors = [error for error in errors if not _is_unavailable(error)]
    return [_sentence(error) for error in errors]


def _leaves(failed: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in failed.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _is_unavailable(error: BaseException) -> bool:
    if isinstance(error, GRPCError | apply.ApplyError):
        return error.status is Status.UNAVAILABLE
    return isinstance(error, Unavailable)


def _sentence(error: BaseException) -> str:
    if isinstance(error, GRPCError):
        return error.message or error.status.name
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


async def _run(settings: Settings, documents: list[Document], ready_file: Path | None) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with serving(settings) as daemon, anyio.create_task_group() as tasks:
            # An IPv6 address goes in brackets, or its end would read as the port.
            host = f"[{daemon.host}]" if ":" in daemon.host else daemon.host
            address = f"{host}:{daemon.port}"
            click.echo(_banner(settings, daemon, address, bool(documents)))
            if ready_file is not None:
                await _write_ready(ready_file, settings, daemon, address)
            if documents:
                tasks.start_soon(_apply, daemon, documents, address)
            async for _ in signals:
                break
            click.echo("\nStopping.")
            tasks.cancel_scope.cancel()


async def _apply(daemon: Daemon, documents: list[Document], address: str) -> None:
    """Create what was asked for, show it come up if somebody looks, and say what to try next."""
    async with Channel(daemon.host, daemon.port) as channel:
        jobs = []
        for document in documents:
            applied = await apply.apply(channel, document, f"/{DEFAULT_POOL}")
            done = "created" if applied.made else "is there already and is left as it is"
            click.echo(f"{applied.kind} {applied.name} {done}: {applied.id}")
            jobs += [applied] if applied.kind == "job" else []
        if sys.stdout.isatty():
            for job in jobs:
                await _show_coming_up(channel, job)
        if jobs:
            click.echo(_next_steps(address, jobs[0].id))


async def _show_coming_up(channel: Channel, job: apply.Applied) -> None:
    """One line that changes until all pods run; a job that never gets there, or is deleted by somebody, is
    left to itself."""
    with anyio.move_on_after(SHOW_S):
        async for progress in apply.follow(channel, job.id, REFRESH_S):
            click.echo(f"\r\x1b[K{_line(job.name, progress)}", nl=False)
            if progress.is_running:
                break
    click.echo()


def _line(name: str, progress: apply.Progress) -> str:
    running = progress.pods.get("POD_STATE_RUNNING", 0)
    others = {state: count for state, count in progress.pods.items() if state != "POD_STATE_RUNNING"}
    rest = "  ".join(f"{count} {state.removeprefix('POD_STATE_')}" for state, count in others.items())
    return f"  {name}  {running}/{progress.wanted} RUNNING" + (f"   {rest}" if rest else "")


def _next_steps(address: str, job: str) -> str:
    service = "peloton.api.v1alpha.job.stateless.svc.JobService"
    job_id = json.dumps({"job_id": {"value": job}})
    return "\n".join(
        [
            "Next:",
            f"  grpcurl -plaintext {address} list",
            f"  grpcurl -plaintext -d '{job_id}' {address} {service}/GetJob",
            f"  grpcurl -plaintext -d '{job_id}' {address} {service}/ListPods",
        ]
    )


def _banner(settings: Settings, daemon: Daemon, address: str, applying: bool) -> str:
    hosts = settings.fleet.hosts()
    if settings.data_dir is None:
        state = "in memory: it is gone when this process ends (--data-dir keeps it)"
    else:
        state = f"{settings.data_dir}" + (
            f", {daemon.turns_replayed} turns replayed" if daemon.turns_replayed else ""
        )
    lines = [
        f"derny serves the Peloton v1alpha API on {address}",
        f"  state   {state}",
        f"  hosts   {len(hosts)}, simulated",
        f"  pool    /{DEFAULT_POOL}",
        f"  seed    {daemon.seed}",
    ]
    if not _is_loopback(settings.host):
        lines.append("  WARNING anybody who can reach this address can do anything; nothing is encrypted")
    if daemon.damage is not None:
        lines.append(f"  WARNING {daemon.damage}")
    if not applying:
        lines.append(f"Next: grpcurl -plaintext {address} list")
    return "\n".join(lines)


async def _write_ready(ready_file: Path, settings: Settings, daemon: Daemon, address: str) -> None:
    """Whole or not at all, since somebody waits for it."""
    ready = {
        "address": address,
        "pid": os.getpid(),
        "seed": daemon.seed,
        "data_dir": str(settings.data_dir) if settings.data_dir else None,
    }
    partial = anyio.Path(ready_file).with_name(ready_file.name + ".partial")
    await partial.write_text(json.dumps(ready) + "\n")
    await partial.replace(ready_file)
