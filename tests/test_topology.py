"""Fleets by flags and by file: what each key means, and what is refused, with its place."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import asdict

from derny.agents.task import Latencies
from derny.client.yaml_tree import SpecError
from derny.core.commands import HostSeen
from derny.model.periods import Limits, Periods
from derny.model.resources import FDS, Resources
from derny.model.rules import Policy, Preempting, Rules
from derny.topology import DEFAULT_CAPACITY, DEFAULT_LATENCIES, Topology, fleet_of_shape, load_topology

EXAMPLE = Path(__file__).parents[1] / "examples" / "topology.yaml"

LoadText = Callable[[str], Topology]


@pytest.fixture
def load(tmp_path: Path) -> LoadText:
    def load(text: str) -> Topology:
        path = tmp_path / "t.yaml"
        path.write_text(text)
        return load_topology(path, hosts_max=100)

    return load


def host_of(topology: Topology) -> HostSeen:
    [host] = topology.fleet.hosts()
    return host


# Flags.


def test_a_host_offers_half_of_its_cpus_once_more_unless_told_otherwise() -> None:
    for shape, cpu, revocable in (
        ("", 8000, 4000),
        ("cpu=3", 3000, 1500),
        ("cpu=3,revocable_cpu=0", 3000, 0),
    ):
        (host,) = fleet_of_shape(1, shape).hosts()
        assert (host.capacity.cpu, host.capacity.revocable_cpu) == (cpu, revocable)


def test_a_shape_gives_that_many_equal_hosts() -> None:
    hosts = fleet_of_shape(3, "cpu=0.5,mem=2Gi,disk=512,gpu=1,revocable_cpu=250m").hosts()
    assert [host.name for host in hosts] == ["host-0", "host-1", "host-2"]
    assert [host.ip for host in hosts] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert {host.capacity for host in hosts} == {
        Resources(cpu=500, memory=2_048_000, disk=512_000, gpu=1000, revocable_cpu=250)
    }
    assert hosts[1].labels == (("hostname", "host-1"),)
    assert len({host.agent_id for host in hosts}) == 3
    assert hosts == fleet_of_shape(3, "cpu=0.5,mem=2Gi,disk=512,gpu=1,revocable_cpu=250m").hosts()


def test_kinds_left_out_of_a_shape_are_as_in_the_default() -> None:
    [host] = fleet_of_shape(1, "cpu = 2").hosts()
    assert host.capacity == DEFAULT_CAPACITY._replace(cpu=2000, revocable_cpu=1000)
    assert fleet_of_shape(1).groups[0].capacity == Resources(
        cpu=8000, memory=32_768_000, disk=102_400_000, revocable_cpu=4000
    )


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ("cpus=8", "--host-shape: 'cpus' is no kind of resource; did you mean \"cpu\"?"),
        ("memory=8", 'did you mean "mem"?'),
        ("cpu", "--host-shape: cpu is ''; expected a number of cpus"),
        ("cpu=-1", "cpu is '-1'"),
        ("cpu=nan", "cpu is 'nan'"),
        ("mem=32G", "mem is '32G'; expected a size such as 32Gi or 512Mi, or a number of MB"),
        ("disk=1e300", "disk is '1e300'"),
        ("cpu=1,cpu=2", "cpu is given twice"),
    ],
)
def test_a_wrong_shape_is_refused(shape: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        fleet_of_shape(1, shape)
    assert message in str(error.value)


@pytest.mark.parametrize("count", [0, -1, 100_001])
def test_a_fleet_has_hosts_but_not_too_many(count: int) -> None:
    with pytest.raises(SpecError, match=f"--hosts is {count}; expected a number from 1 to 100000"):
        fleet_of_shape(count)


# Files.


def test_the_example_has_all_kinds_of_groups() -> None:
    topology = load_topology(EXAMPLE)
    hosts = {host.name: host for host in topology.fleet.hosts()}
    assert list(hosts) == [
        *(f"peloton-mesos-agent{number}" for number in range(3)),
        "spare-0",
        "spare-1",
        "gpu-r3h01",
        "gpu-r3h02",
    ]
    assert hosts["gpu-r3h01"].capacity.gpu == 4000 and hosts["spare-0"].capacity.revocable_cpu == 4000
    assert hosts["spare-1"].ports == (31000, 31099) and hosts["spare-1"].ip == "10.0.1.2"
    assert ("ssds", "2.000000") in hosts["peloton-mesos-agent2"].labels
    assert topology.periods.drain_s == 5 and topology.latencies["start_s"] == (0.1, 0.3)


def test_a_name_alone_is_a_host_with_defaults(load: LoadText) -> None:
    topology = load("groups: [{name: a}]")
    assert host_of(topology) == HostSeen(
        "a", "agent-a", "10.0.0.1", DEFAULT_CAPACITY._replace(revocable_cpu=4000), labels=(("hostname", "a"),)
    )
    assert topology.periods == Periods() and topology.latencies == DEFAULT_LATENCIES


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("name: a{0..2}", ["a0", "a1", "a2"]),
        ("name: 'a{9..11}.dc'", ["a9.dc", "a10.dc", "a11.dc"]),
        ("name: a{08..10}", ["a08", "a09", "a10"]),
        ("name: a{0..1}-{00..01}", ["a0-00", "a0-01", "a1-00", "a1-01"]),
        ("name: a, count: 2", ["a-0", "a-1"]),
        ("name: a{0..1}, count: 2", ["a0", "a1"]),
        ("name: '{7..8}'", ["7", "8"]),
    ],
)
def test_names(load: LoadText, group: str, names: list[str]) -> None:
    text = f"groups: [{{{group}}}]" if "'" in group else "groups:\n- " + group.replace(", ", "\n  ")
    assert [host.name for host in load(text).fleet.hosts()] == names


def test_addresses_count_on_from_group_to_group(load: LoadText) -> None:
    text = "groups: [{name: a, count: 2}, {name: b, ip: 10.1.0.255, count: 2}, {name: c}]"
    ips = [host.ip for host in load(text).fleet.hosts()]
    assert ips == ["10.0.0.1", "10.0.0.2", "10.1.0.255", "10.1.1.0", "10.1.1.1"]


def test_attributes_become_labels_by_their_mesos_type(load: LoadText) -> None:
    """TEXT as it is, SCALAR with six decimals, a label per item of a SET, none of RANGES (scheduler §6.5)."""
    host = host_of(
        load("""
groups:
- name: a
  attributes:
    rack: r1
    ssd: no
    level: 10
    quoted: "10"
    half: .5
    zones: [x, y, x]
    text: {type: TEXT, value: 7}
    scalar: {type: scalar, value: "7"}
    set: {type: SET, value: [1]}
    ids: {type: RANGES, value: [[1, 5]]}
""")
    )
    assert host.labels == (
        ("hostname", "a"),
        ("rack", "r1"),
        ("ssd", "no"),
        ("level", "10.000000"),
        ("quoted", "10"),
        ("half", "0.500000"),
        ("zones", "x"),
        ("zones", "y"),
        ("zones", "x"),
        ("text", "7"),
        ("scalar", "7.000000"),
        ("set", "1"),
    )


def test_ports_in_both_spellings(load: LoadText) -> None:
    assert host_of(load("groups: [{name: a, ports: 1-65535}]")).ports == (1, 65535)
    assert host_of(load("groups: [{name: a, ports: [80, 80]}]")).ports == (80, 80)


def test_every_period_can_be_set_in_either_spelling(load: LoadText) -> None:
    """`drain_s: 90`, `drain: 1m30s`; counts have no unit."""
    counts = {"preemption_cycles": 7, "placing_attempts": 7}
    expected = dict.fromkeys(Periods.__struct_fields__, 90) | counts | {"heartbeat_s": 5}
    plain = "".join(f"  {name}: {value}\n" for name, value in expected.items())
    united = plain.replace("heartbeat_s: 5", "heartbeat: 5000ms").replace("_s: 90", ": 1m30s")
    for lines in (plain, united):
        assert load(f"groups: [{{name: a}}]\nperiods:\n{lines}").periods == Periods(**expected)


def test_what_is_preempted_can_be_said(load: LoadText) -> None:
    assert load("groups: [{name: a}]").preempting == Preempting(enabled=True, by_priority=False)
    text = "groups: [{name: a}]\npreemption: {enabled: false, by_priority: true}"
    assert load(text).preempting == Preempting(enabled=False, by_priority=True)


def test_latencies_are_those_of_the_simulated_agents() -> None:
    """The names that a file may give, and their defaults, are the agents' own."""
    ours = Latencies()
    spans = {name: value for name, value in asdict(ours).items() if isinstance(value, tuple)}
    assert spans == DEFAULT_LATENCIES
    assert Latencies(**DEFAULT_LATENCIES) == ours


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("200ms", (0.2, 0.2)),
        ("100ms..1s", (0.1, 1)),
        ("[0, 0.3]", (0, 0.3)),
        ("0", (0, 0)),
        ("1 .. 2", (1, 2)),
    ],
)
def test_latencies(load: LoadText, text: str, span: tuple[float, float]) -> None:
    latencies = load(f"groups: [{{name: a}}]\nlatencies: {{start: {text}}}").latencies
    assert latencies == {**DEFAULT_LATENCIES, "start_s": span}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hosts: 3", "t.yaml:1:1: hosts is not known; expected one of groups, latencies, limits, periods"),
        ("periods: {}", "t.yaml:1:1: groups is missing"),
        ("groups: []", "t.yaml:1:9: groups is a list; expected at least one group of hosts"),
        ("groups: {name: a}", "groups is a mapping; expected a list"),
        ("groups: [{count: 3}]", "t.yaml:1:10: groups[0].name is missing"),
        ("groups: [{name: a, resource: {}}]", 'groups[0].resource is not known; did you mean "resources"?'),
        ("groups: [{name: a b}]", "groups[0].name is 'a b'; expected a host name"),
        ("groups: [{name: ''}]", "groups[0].name is ''; expected a host name"),
        ("groups: [{name: 'a{0..}'}]", "expected a host name"),
        ("groups: [{name: -a}]", "expected a host name"),
        ("groups: [{name: " + "a" * 254 + "}]", "expected a host name"),
        ("groups: [{name: 'a{2..0}'}]", "expected ranges that count up"),
        ("groups: [{name: 'a{0..100}'}]", "groups[0].name gives 101 hosts; expected at most 100 more"),
        ("groups: [{name: 'a{0..999999999}{0..999999999}'}]", "expected at most 100 more"),
        (
            "groups: [{name: a, count: 60}, {name: b, count: 60}]",
            "groups[1].name gives 60 hosts; expected at most 40",
        ),
        ("groups: [{name: a, count: 0}]", "groups[0].count is '0'; expected a whole number from 1"),
        ("groups: [{name: 'a{0..2}', count: 2}]", "groups[0].count is '2'; expected 3, the number of names"),
        ("groups:\n- name: a\n- name: a", "t.yaml:3:3: host 'a' is in groups[0] and in groups[1]"),
        (
            "groups: [{name: a, resources: {cpu: -1}}]",
            "groups[0].resources.cpu is '-1'; expected a number of cpus",
        ),
        ("groups: [{name: a, resources: {cpu: .inf}}]", "resources.cpu is '.inf'"),
        (
            "groups: [{name: a, resources: {mem: 32Q}}]",
            "t.yaml:1:37: groups[0].resources.mem is '32Q'; expected a size",
        ),
        ("groups: [{name: a, resources: {gpu: [1]}}]", "resources.gpu is a list; expected a number of gpus"),
        ("groups: [{name: a, resources: {memory: 1}}]", 'did you mean "mem"?'),
        ("groups: [{name: a, ports: 0-10}]", "groups[0].ports is '0-10'; expected a range of ports"),
        ("groups: [{name: a, ports: 10-9}]", "expected a range of ports"),
        ("groups: [{name: a, ports: 1-65536}]", "expected a range of ports"),
        ("groups: [{name: a, ports: 31000}]", "expected a range of ports"),
        ("groups: [{name: a, ports: [1, 2, 3]}]", "expected a range of ports"),
        ("groups: [{name: a, ip: 10.0.0}]", "groups[0].ip is '10.0.0'; expected the IPv4 address"),
        ("groups: [{name: a, count: 2, ip: 255.255.255.255}]", "with room for the others above it"),
        ("groups: [{name: a, attributes: {hostname: b}}]", "groups[0].attributes.hostname is no attribute"),
        ("groups: [{name: a, attributes: {host_pool: b}}]", "groups[0].attributes.host_pool is no attribute"),
        (
            "groups: [{name: a, attributes: {x: {value: 1}}}]",
            "attributes.x is a mapping; expected text, a number",
        ),
        (
            "groups: [{name: a, attributes: {x: {type: BOOL, value: 1}}}]",
            "type is 'BOOL'; expected TEXT, SCALAR",
        ),
        ("groups: [{name: a, attributes: {x: {type: SET, value: 1}}}]", "value is '1'; expected a list"),
        ("groups: [{name: a, attributes: {x: [[1]]}}]", "attributes.x[0] is a list; expected text"),
        (
            "groups: [{name: a}]\nperiods: {entitlment: 5s}",
            'entitlment is not known; did you mean "entitlement"?',
        ),
        ("groups: [{name: a}]\nperiods: {drain: 0}", "periods.drain is '0'; expected a duration"),
        (
            "groups: [{name: a}]\nperiods: {drain: 5 minutes}",
            "periods.drain is '5 minutes'; expected a duration",
        ),
        ("groups: [{name: a}]\nperiods: {drain: 8761h}", "at most a year"),
        ("groups: [{name: a}]\nperiods: {drain: .nan}", "expected a duration"),
        ("groups: [{name: a}]\nperiods: {drain: 1, drain_s: 2}", "periods.drain_s is given twice"),
        ("groups: [{name: a}]\nperiods: {placing_attempts: 0}", "expected a whole number from 1 to 1000"),
        ("groups: [{name: a}]\nperiods: {heartbeat: 75s}", "lost_agent_timeout is no longer than heartbeat"),
        ("groups: [{name: a}]\nperiods: {restart_backoff_max: 1s}", "is less than restart_backoff_first"),
        ("groups: [{name: a}]\npreemption: {on: true}", "preemption.on is not known"),
        ("groups: [{name: a}]\nlatencies: {stop: 1s}", "latencies.stop is not known"),
        (
            "groups: [{name: a}]\nlatencies: {start: 2s..1s}",
            "latencies.start is '2s..1s'; expected one duration",
        ),
        ("groups: [{name: a}]\nlatencies: {start: 1s..x}", "expected one duration"),
        ("groups: [{name: a}]\nlatencies: {start: [1, 2, 3]}", "expected one duration"),
        ("groups: [{name: a}]\nlatencies: {start: []}", "expected one duration"),
        ("groups: [{name: a}]\n---\ngroups: [{name: b}]", "t.yaml:3:1: a second document"),
        ("[]", "the document is a list; expected a mapping"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(load: LoadText, text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        load(text)
    assert message in str(error.value)


def test_a_delay_may_be_zero(load: LoadText) -> None:
    """A period of zero would spin; a restart without delay is just quick."""
    assert (
        load("groups: [{name: a}]\nperiods: {restart_backoff_first: 0s}").periods.restart_backoff_first_s == 0
    )


def test_limits_go_to_the_daemon_and_to_its_connections(tmp_path: Path) -> None:
    """One section for both: the names are all different."""
    file = tmp_path / "t.yaml"
    file.write_text("groups: [{name: h}]\nlimits: {jobs_max: 7, message_max_bytes: 1000}\n")
    found = load_topology(file)
    assert (found.limits, found.edge.message_max_bytes) == (Limits(jobs_max=7), 1000)


def test_a_limit_that_is_no_number_is_said_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text("groups: [{name: h}]\nlimits: {jobs_max: none}\n")
    with pytest.raises(SpecError, match=r"t\.yaml:2:20: limits\.jobs_max"):
        load_topology(file)


# Placement.


def test_the_rules_of_placement(load: LoadText) -> None:
    hosts = "groups: [{name: h, fds: 4096}, {name: i}]\n"
    assert load(hosts).rules == Rules(Policy.SPREAD, scarce_gpu=True, use_host_pool=False)
    said = load(hosts + "placement: {policy: best_fit, scarce_gpu: false, use_host_pool: true}")
    assert said.rules == Rules(Policy.BEST_FIT, scarce_gpu=False, use_host_pool=True)
    assert [host.fds for host in said.fleet.hosts()] == [4096, FDS]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("policy: tight", "best_fit or spread"),
        ("policy: [spread]", "best_fit or spread"),
        ("scarce_gpu: perhaps", "true or false"),
        ("scarce: true", "not known"),
    ],
)
def test_rules_that_there_are_not(load: LoadText, written: str, expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        load(f"groups: [{{name: h}}]\nplacement: {{{written}}}")
