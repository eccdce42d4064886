"""PodService: one pod, its earlier runs, and what happened to it.

One rule: as in `api.jobs`, nothing is decided here. All that one answer tells is read in one look, so
that a pod never seems to be in two runs at once. Registered by `app`. (API reference, pod_svc.proto;
behaviour, jobs §3.4 and §3.5.)
"""

from functools import partial
from typing import Final, NamedTuple, Protocol

from derny.answers import queries, sandboxes
from derny.answers.queries import PodEventView, PodView
from derny.api import sandbox, wire_in, wire_out
from derny.api.codec import decode, encode
from derny.api.reply import made
from derny.core import commands
from derny.core.state import State
from derny.model.errors import Invalid, NotFound
from derny.model.ids import JobId, parse_pod_id, parse_pod_name
from derny.model.periods import Limits
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec
from derny.proto.peloton.api.v1alpha.peloton import Label, PodId, PodName
from derny.proto.peloton.api.v1alpha.pod import PodInfo, svc
from derny.runtime.loop import Loop

SPECS_BYTES: Final = 2 * 1024 * 1024
"""Of all specs in one answer; clients accept messages of 4 MiB unless they are told otherwise."""


class _Runs(NamedTuple):
    """A pod: its current run, earlier ones newest first, and the bytes of their job's specs by version."""

    current: PodView
    waits_for: str
    previous: list[PodEventView]
    wires: dict[int, bytes]


def _runs(state: State, job: JobId, instance: int, limit: int | None) -> _Runs:
    current = queries.pod_info(state, job, instance)
    previous = queries.previous_runs(state, job, instance, limit)
    wires: dict[int, bytes] = {}
    for config in {current.config, *(event.entry.config for event in previous)}:
        try:
            wires[config] = queries.job_spec(state, job, config)[0].wire
        except NotFound:
            # Old configurations are not kept for ever; a run outlives its own without a spec.
            continue
    return _Runs(current, queries.waiting_reason(state, current), previous, wires)


class PodService(svc.PodServiceBase):
    """The pods of the daemon, one at a time."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop

    async def start_pod(self, message: svc.StartPodRequest) -> svc.StartPodResponse:
        job, instance = parse_pod_name(wire_in.text_of(message.pod_name))
        await self._loop.submit(commands.StartPod(job, instance))
        return svc.StartPodResponse()

    async def stop_pod(self, message: svc.StopPodRequest) -> svc.StopPodResponse:
        job, instance = parse_pod_name(wire_in.text_of(message.pod_name))
        await self._loop.submit(commands.StopPod(job, instance))
        return svc.StopPodResponse()

    async def restart_pod(self, message: svc.RestartPodRequest) -> svc.RestartPodResponse:
        job, instance = parse_pod_name(wire_in.text_of(message.pod_name))
        await self._loop.submit(commands.RestartPod(job, instance, message.check_sla))
        return svc.RestartPodResponse()

    async def get_pod(self, message: svc.GetPodRequest) -> svc.GetPodResponse:
        job, instance = parse_pod_name(wire_in.text_of(message.pod_name))
        limit = message.limit - 1 if message.limit else None
        runs = await self._loop.read(partial(_runs, job=job, instance=instance, limit=limit))
        size = 0 if message.status_only else sum(map(len, runs.wires.values()))
        return await made(size, _response, runs, instance, self._loop.clock.now(), not message.status_only)

    async def get_pod_events(self, message: svc.GetPodEventsRequest) -> svc.GetPodEventsResponse:
        job, instance, run = _run_asked(message)
        events = await self._loop.read(partial(queries.pod_events, job=job, instance=instance, run=run))
        return svc.GetPodEventsResponse([wire_out.pod_event(event) for event in events])

    async def browse_pod_sandbox(self, message: svc.BrowsePodSandboxRequest) -> svc.BrowsePodSandboxResponse:
        job, instance, run = _run_asked(message)
        return sandbox.response(
            await self._loop.read(partial(sandboxes.sandbox, job=job, instance=instance, run=run))
        )

    async def refresh_pod(self, message: svc.RefreshPodRequest) -> svc.RefreshPodResponse:
        job, instance = parse_pod_name(wire_in.text_of(message.pod_name))
        await self._loop.read(partial(queries.pod_info, job=job, instance=instance))
        await self._loop.submit(commands.RefreshPods(job, instance, instance + 1))
        return svc.RefreshPodResponse()

    async def get_pod_cache(self, message: svc.GetPodCacheRequest) -> svc.GetPodCacheResponse:
        job, instance = parse_pod_name(wire_in.text_of(message.pod_name))
        view = await self._loop.read(partial(queries.pod_info, job=job, instance=instance))
        labels = [Label(key, value) for key, value in view.template.labels]
        return svc.GetPodCacheResponse(wire_out.pod_status(view, self._loop.clock.now()), labels)

    async def delete_pod_events(self, message: svc.DeletePodEventsRequest) -> svc.DeletePodEventsResponse:
        job, instance, run = _run_asked(message)
        if run is None:
            raise Invalid("pod_id is unset; expected the id of the run whose events are to be deleted")
        await self._loop.submit(commands.DeletePodEvents(job, instance, run))
        return svc.DeletePodEventsResponse()


def _response(runs: _Runs, instance: int, now: float, with_specs: bool) -> svc.GetPodResponse:
    response = svc.GetPodResponse(
        PodInfo(status=wire_out.pod_status(runs.current, now, runs.waits_for)),
        [PodInfo(status=wire_out.past_status(event)) for event in runs.previous],
    )
    if with_specs:
        _add_specs(response, runs, instance)
    return response


class _AboutRun(Protocol):
    pod_name: PodName | None
    pod_id: PodId | None


def _run_asked(message: _AboutRun) -> tuple[JobId, int, int | None]:
    """The pod that a request names, and the run of it, None where it names none; Invalid."""
    name, run_id = wire_in.text_of(message.pod_name), wire_in.text_of(message.pod_id)
    job, instance = parse_pod_name(name)
    if not run_id:
        return job, instance, None
    job_of_run, instance_of_run, run = parse_pod_id(run_id)
    if (job_of_run, instance_of_run) != (job, instance):
        raise Invalid(f"pod_id {run_id!r} is no run of the pod {name!r}; expected {name}-<run number>")
    return job, instance, run


def _add_specs(response: svc.GetPodResponse, runs: _Runs, instance: int) -> None:
    """As many as fit, the newest first: a run far back may be told without its spec."""
    specs = {
        config: wire_out.pod_spec(decode(JobSpec, wire), runs.current.job, instance)
        for config, wire in runs.wires.items()
    }
    sizes = {config: len(encode(spec)) for config, spec in specs.items()}
    configs = [runs.current.config, *(event.entry.config for event in runs.previous)]
    room = SPECS_BYTES
    for info, config in zip([response.current, *response.previous], configs, strict=True):
        room -= sizes.get(config, 0)
        if info is not None and room >= 0:
            info.spec = specs.get(config)
