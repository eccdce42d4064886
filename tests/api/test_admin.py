"""AdminService as operators see it."""

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.model.states import Gate
from derny.proto.peloton.api.v1alpha.admin.svc import (
    Component,
    LockdownRequest,
    RemoveLockdownRequest,
)

pytestmark = pytest.mark.asyncio


async def test_gates_are_closed_and_opened_by_name(counter):
    locked = await counter.admin.lockdown(LockdownRequest([Component.Kill, Component.Launch, Component.Kill]))
    assert (locked.successes, locked.failures) == ([Component.Kill, Component.Launch], [])
    assert counter.machine.state.closed == {Gate.KILL, Gate.LAUNCH}
    opened = await counter.admin.remove_lockdown(RemoveLockdownRequest([Component.Launch, Component.Read]))
    assert (opened.successes, opened.failures) == ([Component.Launch, Component.Read], [])
    assert counter.machine.state.closed == {Gate.KILL}


@pytest.mark.parametrize(
    "method, request_of", [("lockdown", LockdownRequest), ("remove_lockdown", RemoveLockdownRequest)]
)
async def test_a_component_that_is_none_changes_nothing(counter, method, request_of):
    await counter.admin.lockdown(LockdownRequest([Component.Launch]))
    for components, named in (([], "empty"), ([Component.Launch, 17], "17")):
        with pytest.raises(GRPCError) as refused:
            await getattr(counter.admin, method)(request_of(components))
        assert refused.value.status is Status.INVALID_ARGUMENT
        assert named in refused.value.message
        assert "GoalStateEngine (0), Read (1), Write (2), Kill (3), Launch (4)" in refused.value.message
        assert counter.machine.state.closed == {Gate.LAUNCH}


@pytest.mark.parametrize(
    "method, request_of", [("lockdown", LockdownRequest), ("remove_lockdown", RemoveLockdownRequest)]
)
async def test_more_components_than_anybody_means_are_refused(counter, method, request_of):
    with pytest.raises(GRPCError) as refused:
        await getattr(counter.admin, method)(request_of([Component.Kill] * 101))
    assert refused.value.status is Status.RESOURCE_EXHAUSTED
    assert not counter.machine.state.closed
