"""The place pass: who is looked at when, and that pods end up where their constraints let them."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import JOB, POOL, Bench, a_host, a_job, a_pool, a_template, job_id
from derny.core import commands, events
from derny.core.machine import Machine
from derny.model.ids import HostName, JobId
from derny.model.periods import Limits, Periods
from derny.model.rules import Policy, Rules
from derny.model.specs import Condition, Constraint, Labels
from derny.model.states import POD_ON_HOST, PodState, TaskState
from slow_constraints import constraints, either, every, label_lists, on_host, on_pods, passes

WEB: Labels = (("app", "web"),)
DB: Labels = (("app", "db"),)
LIMIT_ONE = on_pods(Condition.LESS_THAN, *WEB[0], 1)
NEAR_DB = on_pods(Condition.GREATER_THAN, *DB[0], 0)


def hosts_of(bench: Bench, job: JobId = JOB) -> list[HostName | None]:
    return [pod.host for pod in bench.job(job).pods]


@pytest.mark.parametrize("constraint", [LIMIT_ONE, on_pods(Condition.EQUAL, *WEB[0], 0)])
def test_one_of_a_job_on_each_host(constraint: Constraint) -> None:
    """§6.5: 4 pods, host limit 1, 3 hosts."""
    bench = Bench(hosts=3)
    bench.create(a_job(4, template=a_template(labels=WEB, constraint=constraint)))
    assert Counter(bench.states()) == {PodState.LAUNCHED: 3, PodState.PLACING: 1}
    assert len(set(hosts_of(bench)) - {None}) == 3
    waits = bench.states().index(PodState.PLACING)
    assert '"mismatch_constraints":3' in bench.pod(waits).message
    assert "pod label app=web" in bench.pod(waits).message
    # A host that comes is taken; the pod is told apart from the others by nothing.
    bench.do(commands.SeeHosts([a_host(9)]))
    bench.live(2)
    assert hosts_of(bench)[waits] == "host-9"


def test_the_limit_holds_across_turns_and_budgets() -> None:
    bench = Bench(hosts=6)
    bench.do(commands.CreateJob(JOB, a_job(12, template=a_template(labels=WEB, constraint=LIMIT_ONE))))
    bench.settle(budget=3)
    assert max(Counter(hosts_of(bench))[HostName(f"host-{n}")] for n in range(6)) == 1
    assert Counter(bench.states()) == {PodState.LAUNCHED: 6, PodState.PLACING: 6}


def test_a_pod_that_ends_makes_room_under_the_limit() -> None:
    bench = Bench(hosts=2)
    bench.create(a_job(3, template=a_template(labels=WEB, constraint=LIMIT_ONE)))
    bench.report(
        TaskState.RUNNING, *[n for n, state in enumerate(bench.states()) if state is PodState.LAUNCHED]
    )
    assert Counter(bench.states()) == {PodState.RUNNING: 2, PodState.PLACING: 1}
    ending = bench.states().index(PodState.RUNNING)
    bench.report(TaskState.FAILED, ending)
    bench.live(3)
    assert Counter(bench.states()) == {PodState.RUNNING: 1, PodState.LAUNCHED: 1, PodState.FAILED: 1}


def test_affinity_waits_for_its_partner_and_blocks_nobody() -> None:
    bench = Bench(hosts=3)
    bench.create(a_job(2, template=a_template(constraint=NEAR_DB)))
    assert set(bench.states()) == {PodState.PLACING}
    bench.create(a_job(3, name="others"), job_id(2))
    assert set(bench.states(job_id(2))) == {PodState.LAUNCHED}
    bench.create(a_job(1, template=a_template(labels=DB), name="db"), job_id(3))
    bench.live(2)
    assert set(hosts_of(bench)) == set(hosts_of(bench, job_id(3)))


def test_partners_that_were_there_before_are_counted() -> None:
    bench = Bench(hosts=3)
    bench.running(a_job(1, template=a_template(labels=DB), name="db"))
    bench.create(a_job(2, template=a_template(constraint=NEAR_DB)), job_id(2))
    assert hosts_of(bench, job_id(2)) == hosts_of(bench) * 2
    again = bench.replayed()
    again.advance(bench.at, 100)
    assert not again.state.table.pod_labels.counts(DB[0])
    bench.create(a_job(1, template=a_template(constraint=NEAR_DB)), job_id(3))
    assert hosts_of(bench, job_id(3)) == hosts_of(bench)


def test_a_group_that_found_nothing_is_not_looked_at_for_what_does_not_matter_to_it() -> None:
    bench = Bench(hosts=2)
    bench.create(a_job(1, template=a_template(constraint=NEAR_DB)))
    (group,) = bench.machine.state.groups.values()
    looked = group.stuck_at
    bench.create(a_job(2, template=a_template(labels=WEB), name="web"), job_id(2))
    bench.live(5)
    assert (group.stuck_at, bench.machine._placing.wake) == (looked, None)
    bench.create(a_job(1, template=a_template(labels=DB), name="db"), job_id(3))
    bench.live(2)
    assert bench.states() == [PodState.LAUNCHED]


def test_a_search_in_vain_is_shared_only_by_those_who_ask_alike() -> None:
    bench = Bench(hosts=1)
    bench.create(a_job(1, template=a_template(constraint=NEAR_DB)))
    bench.create(a_job(1), job_id(2))
    assert (bench.states(), bench.states(job_id(2))) == ([PodState.PLACING], [PodState.LAUNCHED])


def test_labels_of_hosts_may_change_while_a_pod_waits() -> None:
    bench = Bench(hosts=1)
    bench.create(a_job(1, template=a_template(constraint=on_host(Condition.EQUAL, "rack", "r2", 1))))
    assert "host label rack=r2 = 1" in bench.pod().message
    bench.do(commands.SeeHosts([a_host(0, labels=(("rack", "r2"),))]))
    bench.live(2)
    assert bench.states() == [PodState.LAUNCHED]


def test_exclusive_hosts_are_for_those_who_ask() -> None:
    """§6.5: others never, and these only there."""
    bench = Bench(hosts=2)
    bench.do(commands.SeeHosts([a_host(9, labels=(("peloton/exclusive", "team"),))]))
    wants = on_host(Condition.EQUAL, "peloton/exclusive", "team", 1)
    bench.create(a_job(6, template=a_template(cpu=0.1)))
    bench.create(a_job(2, template=a_template(cpu=0.1, constraint=wants), name="team"), job_id(2))
    assert set(hosts_of(bench)) == {"host-0", "host-1"}
    assert set(hosts_of(bench, job_id(2))) == {"host-9"}


def test_the_rules_of_the_operator_are_kept() -> None:
    bench = Bench(hosts=0)
    machine = bench.machine = Machine(Periods(), Limits(), Rules(Policy.BEST_FIT, use_host_pool=True))
    bench.do(commands.SeeHosts([a_host(number) for number in range(2)]))
    bench.do(commands.CreatePool(POOL, a_pool(machine.state.tree.capacity)))
    bench.create(a_job(2, template=a_template(cpu=1)))
    assert set(bench.states()) == {PodState.PLACING}
    assert "use_host_pool" in bench.pod().message
    bench.do(commands.CreateHostPool("stateless"))  # type: ignore[arg-type]  # spelled out on purpose
    bench.do(commands.ChangeHostPool(HostName("host-1"), "default", "stateless"))  # type: ignore[arg-type]  # spelled out on purpose
    bench.live(2)
    assert hosts_of(bench) == ["host-1", "host-1"]


def test_file_descriptors_are_not_given_away_twice() -> None:
    bench = Bench(hosts=0)
    bench.do(commands.SeeHosts([a_host(0, fds=1000)]))
    bench.do(commands.UpdatePool(POOL, a_pool(bench.machine.state.tree.capacity), False))
    bench.create(a_job(3, template=a_template(fds=400)))
    assert Counter(bench.states()) == {PodState.LAUNCHED: 2, PodState.PLACING: 1}
    waits = bench.states().index(PodState.PLACING)
    assert "the nearest host lacks fds=200" in bench.pod(waits).message


def test_where_the_turn_of_equal_hosts_begins_is_the_seed_s_business() -> None:
    def first_host(seed: int) -> HostName | None:
        bench = Bench(hosts=4)
        bench.machine.state.cursor = Machine(Periods(), Limits(), seed=seed).state.cursor
        bench.create(a_job(1))
        return bench.pod().host

    assert [first_host(seed) for seed in (0, 1, 2, 3, 4)] == [f"host-{n % 4}" for n in range(5)]


templates = st.builds(
    a_template,
    cpu=st.sampled_from([0.5, 2, 3]),
    ports=st.integers(0, 2),
    static_ports=st.sampled_from([(), (), (80,)]),
    labels=label_lists,
    constraint=st.none() | constraints,
    fds=st.sampled_from([0, 0, 60]),
)


@given(
    jobs=st.lists(st.tuples(templates, st.integers(1, 5)), min_size=1, max_size=5),
    labels=st.lists(label_lists, min_size=3, max_size=3),
    budget=st.sampled_from([2, 100]),
)
@settings(max_examples=60, deadline=None)
def test_every_pod_that_is_placed_satisfies_its_constraint_when_it_comes(jobs, labels, budget) -> None:  # type: ignore[no-untyped-def]  # of hypothesis
    """The bench audits every step: no host below zero in any kind, no port twice, all counts as they are."""
    bench = Bench(hosts=3)
    bench.do(commands.SeeHosts([a_host(n, labels=own, fds=100) for n, own in enumerate(labels)]))
    for number, (template, count) in enumerate(jobs):
        bench.do(commands.CreateJob(job_id(number), a_job(count, template=template, name=f"j{number}")))
    bench.settle(budget)
    bench.live(10)
    there: dict[int, list[Labels]] = {0: [], 1: [], 2: []}
    for event in bench.log:
        if isinstance(event, events.PodsPlaced):
            template = bench.job(event.job).spec.templates[0]
            for row in event.hosts:
                assert passes(template.constraint, bench.machine.state.table.labels[row], there[row])
                there[row].append(template.labels)
    table = bench.machine.state.table
    for number, (template, _count) in enumerate(jobs):
        for row in range(3) if PodState.PLACING in bench.states(job_id(number)) else ():
            fits = template.demand.fits(table.free(row)) and template.fds <= table.free_fds(row)
            free = all(table.ports[row].is_free(port.number) for port in template.ports if port.number)
            assert not (fits and free and passes(template.constraint, table.labels[row], there[row]))


def test_the_counts_of_a_replayed_daemon_lead_to_the_same_places() -> None:
    """Counts of labels are not journaled: they are made again by looking."""
    bench = Bench(hosts=3)
    bench.create(a_job(2, template=a_template(labels=WEB, constraint=LIMIT_ONE)))
    bench.machine = bench.replayed()
    bench.create(a_job(2, template=a_template(labels=WEB, constraint=LIMIT_ONE), name="more"), job_id(2))
    placed = [
        pod.host for job in bench.machine.state.jobs.values() for pod in job.pods if pod.state in POD_ON_HOST
    ]
    assert len(placed) == len(set(placed)) == 3


def test_either_way_of_saying_it() -> None:
    bench = Bench(hosts=4)
    either_host = either(*(on_host(Condition.EQUAL, "hostname", f"host-{n}", 1) for n in (1, 2)))
    bench.create(a_job(3, template=a_template(labels=WEB, constraint=every(either_host, LIMIT_ONE))))
    assert set(hosts_of(bench)) == {"host-1", "host-2", None}


def test_a_constraint_of_many_turns_is_followed_look_by_look() -> None:
    turns = either(*(on_pods(Condition.EQUAL, *WEB[0], count) for count in range(20)))
    bench = Bench(hosts=1)
    bench.create(a_job(21, template=a_template(cpu=0.1, labels=WEB, constraint=turns)))
    assert Counter(bench.states()) == {PodState.LAUNCHED: 20, PodState.PLACING: 1}


def test_equal_templates_of_two_configurations_are_two_groups() -> None:
    bench = Bench(hosts=2)
    bench.create(a_job(4, template=a_template(cpu=3), others={1: a_template(cpu=3), 3: a_template(cpu=3)}))
    assert bench.states() == [PodState.LAUNCHED] * 4
    bench.create(a_job(4, template=a_template(cpu=3), others={1: a_template(cpu=3)}), job_id(2))
    assert PodState.LAUNCHED not in bench.states(job_id(2))
    bench.do(commands.SeeHosts([a_host(7, cpu=12)]))
    bench.do(commands.UpdatePool(POOL, a_pool(bench.machine.state.tree.capacity)))
    bench.live(6)
    assert bench.states(job_id(2)) == [PodState.LAUNCHED] * 4
