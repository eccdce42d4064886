"""One spec laid over another, and the two forms of what a container runs."""

import copy

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from derny.api.codec import decode, encode
from derny.api.pod_spec import command_of, effective, environment_of, fill_forms, image_of, runs_in_shell
from derny.proto.mesos.v1 import (
    CommandInfo,
    ContainerInfo,
    ContainerInfoDockerInfo,
    ContainerInfoMesosInfo,
    ContainerInfoType,
    Environment,
    EnvironmentVariable,
    ExecutorId,
    ExecutorInfo,
    ExecutorInfoType,
    Image,
    ImageDocker,
    ImageType,
    Parameter,
)
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec
from derny.proto.peloton.api.v1alpha.peloton import Label
from derny.proto.peloton.api.v1alpha.pod import (
    CommandSpec,
    ContainerSpec,
    PodSpec,
    PortSpec,
    PreemptionPolicy,
    ResourceSpec,
    RestartPolicy,
)
from derny.proto.peloton.api.v1alpha.pod import Environment as Variable
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpec as MesosSpec
from derny.proto.peloton.api.v1alpha.pod.apachemesos import (
    PodSpecContainerType,
    PodSpecDockerParameter,
    PodSpecExecutorSpec,
    PodSpecExecutorSpecExecutorType,
)


def test_the_one_there_is_holds():
    pod = PodSpec(kill_grace_period_seconds=3)
    assert effective(None, None) is None
    assert effective(pod, None) == pod
    assert effective(None, pod) == pod
    assert effective(PodSpec(), None) == effective(None, PodSpec()) == PodSpec()


@pytest.mark.parametrize(("default", "override", "expected"), [(20, 30, 30), (20, 0, 20), (0, 30, 30)])
def test_numbers_of_the_override_count_unless_zero(default, override, expected):
    pod = effective(PodSpec(kill_grace_period_seconds=default), PodSpec(kill_grace_period_seconds=override))
    assert pod.kill_grace_period_seconds == expected


@pytest.mark.parametrize("field", ["controller", "revocable"])
@pytest.mark.parametrize("value", [False, True])
def test_booleans_are_the_override_s(field, value):
    pod = effective(PodSpec(**{field: not value}), PodSpec(**{field: value}))
    assert getattr(pod, field) is value


def test_messages_and_lists_of_the_override_replace_the_default_s():
    default = PodSpec(
        labels=[Label("a", "1"), Label("b", "2")],
        restart_policy=RestartPolicy(5),
        preemption_policy=PreemptionPolicy(),
        mesos_spec=MesosSpec(type=PodSpecContainerType.MESOS, shell=True),
    )
    override = PodSpec(labels=[Label("c", "3")], restart_policy=RestartPolicy(), mesos_spec=MesosSpec())
    pod = effective(default, override)
    assert pod.labels == [Label("c", "3")]
    assert pod.restart_policy == RestartPolicy()
    assert pod.mesos_spec == MesosSpec()
    assert pod.preemption_policy == PreemptionPolicy()


def test_the_override_s_container_is_laid_over_the_default_s():
    default = PodSpec(
        containers=[ContainerSpec(name="main", resource=ResourceSpec(1, 2), ports=[PortSpec("p")], image="i")]
    )
    override = PodSpec(containers=[ContainerSpec(resource=ResourceSpec(cpu_limit=4))])
    (container,) = effective(default, override).containers
    assert container == ContainerSpec(
        name="main", resource=ResourceSpec(cpu_limit=4), ports=[PortSpec("p")], image="i"
    )


def names_and_images(pod):
    return [(container.name, container.image) for container in pod.containers]


def test_containers_of_the_same_names_are_laid_over_each_other_and_the_others_stay():
    default = PodSpec(containers=[ContainerSpec(name=name, image=f"{name}1") for name in "abc"])
    override = PodSpec(containers=[ContainerSpec(name="c", image="c2"), ContainerSpec(name="a")])
    assert names_and_images(effective(default, override)) == [("a", "a1"), ("b", "b1"), ("c", "c2")]
    assert names_and_images(effective(default, PodSpec())) == [("a", "a1"), ("b", "b1"), ("c", "c1")]
    assert names_and_images(default) == [("a", "a1"), ("b", "b1"), ("c", "c1")]


@pytest.mark.parametrize("names", ["ad", "d", "aa", [""], ["a", ""]])
def test_any_other_list_of_containers_replaces_the_default_s(names):
    default = PodSpec(containers=[ContainerSpec(name=name, image=f"{name}1") for name in "abc"])
    override = PodSpec(containers=[ContainerSpec(name=name) for name in names])
    assert names_and_images(effective(default, override)) == [(name, "") for name in names]


def test_init_containers_are_laid_over_each_other_like_containers():
    default = PodSpec(init_containers=[ContainerSpec(name=name, image=f"{name}1") for name in "ab"])
    override = PodSpec(init_containers=[ContainerSpec(name="b", image="b2")])
    assert [each.image for each in effective(default, override).init_containers] == ["a1", "b2"]


def test_what_is_run_is_replaced_together_with_its_variables():
    default = PodSpec(
        containers=[ContainerSpec(entrypoint=CommandSpec("a"), environment=[Variable("A", "1")], image="i")]
    )
    override = PodSpec(containers=[ContainerSpec(entrypoint=CommandSpec("b"))])
    (container,) = effective(default, override).containers
    assert (command_of(container), environment_of(container), image_of(container)) == (("b", []), [], "i")


def test_neither_side_is_changed():
    default = PodSpec(containers=[ContainerSpec(command=CommandInfo(value="a"))])
    override = PodSpec(containers=[ContainerSpec(entrypoint=CommandSpec("b"))])
    before = copy.deepcopy((default, override))
    effective(default, override)
    assert (default, override) == before


def test_a_form_of_the_override_hides_the_other_form_of_the_default():
    old = ContainerSpec(
        command=CommandInfo(value="old"), container=ContainerInfo(docker=ContainerInfoDockerInfo("old"))
    )
    new = ContainerSpec(entrypoint=CommandSpec("new"), environment=[Variable("A", "1")], image="new")
    (container,) = effective(PodSpec(containers=[new]), PodSpec(containers=[old])).containers
    assert (command_of(container), image_of(container)) == (("old", []), "old")
    assert environment_of(container) == []
    (container,) = effective(PodSpec(containers=[old]), PodSpec(containers=[new])).containers
    assert (command_of(container), image_of(container)) == (("new", []), "new")


def filled(pod):
    job = JobSpec(default_spec=pod)
    fill_forms(job)
    return job


def test_where_only_the_new_form_was_sent_the_deprecated_one_is_filled_in():
    pod = PodSpec(
        mesos_spec=MesosSpec(type=PodSpecContainerType.MESOS, shell=True),
        containers=[
            ContainerSpec(entrypoint=CommandSpec("a", ["b"]), environment=[Variable("A", "1")], image="i")
        ],
    )
    (container,) = filled(pod).default_spec.containers
    assert container.command == CommandInfo(
        value="a", arguments=["b"], shell=True, environment=Environment([EnvironmentVariable("A", "1")])
    )
    assert container.container == ContainerInfo(
        type=ContainerInfoType.MESOS,
        mesos=ContainerInfoMesosInfo(Image(type=ImageType.DOCKER, docker=ImageDocker("i"))),
    )
    assert container.executor is None


def test_a_docker_container_gets_docker_s_form():
    mesos = MesosSpec(type=PodSpecContainerType.DOCKER, docker_parameters=[PodSpecDockerParameter("k", "v")])
    (container,) = filled(
        PodSpec(mesos_spec=mesos, containers=[ContainerSpec(image="i")])
    ).default_spec.containers
    assert container.container == ContainerInfo(
        type=ContainerInfoType.DOCKER,
        docker=ContainerInfoDockerInfo(image="i", parameters=[Parameter("k", "v")]),
    )


def test_a_custom_executor_is_readable_in_both_forms():
    custom = PodSpecExecutorSpec(type=PodSpecExecutorSpecExecutorType.CUSTOM, executor_id="e", data=b"d")
    new = PodSpec(mesos_spec=MesosSpec(executor_spec=custom), containers=[ContainerSpec()])
    old = PodSpec(
        containers=[
            ContainerSpec(
                executor=ExecutorInfo(type=ExecutorInfoType.CUSTOM, executor_id=ExecutorId("e"), data=b"d")
            )
        ]
    )
    for pod in (new, old):
        pod = filled(pod).default_spec
        assert pod.mesos_spec.executor_spec == custom
        executor = pod.containers[0].executor
        assert (executor.type, executor.executor_id.value, executor.data) == (
            ExecutorInfoType.CUSTOM,
            "e",
            b"d",
        )


def test_where_only_the_deprecated_form_was_sent_the_new_one_is_readable():
    old = ContainerSpec(
        command=CommandInfo(value="a b", environment=Environment([EnvironmentVariable("A", "1")])),
        container=ContainerInfo(type=ContainerInfoType.DOCKER, docker=ContainerInfoDockerInfo("i")),
    )
    sent = copy.deepcopy(old)
    pod = filled(PodSpec(containers=[old])).default_spec
    (container,) = pod.containers
    assert container.entrypoint == CommandSpec("a b")
    assert (container.environment, container.image) == ([Variable("A", "1")], "i")
    assert pod.mesos_spec == MesosSpec(type=PodSpecContainerType.DOCKER, shell=True)
    assert (container.command, container.container) == (sent.command, sent.container)


def test_what_a_spec_without_a_command_lacks_stays_unset():
    pod = filled(PodSpec(containers=[ContainerSpec(name="main")])).default_spec
    assert pod == PodSpec(containers=[ContainerSpec(name="main")])


texts = st.sampled_from(["", "x", "y z"])
commands = st.builds(
    CommandInfo,
    value=texts,
    shell=st.sampled_from([None, False, True]),
    arguments=st.lists(texts, max_size=2),
)
infos = st.builds(
    ContainerInfo,
    type=st.sampled_from([None, ContainerInfoType.DOCKER, ContainerInfoType.MESOS]),
    docker=st.one_of(st.none(), st.builds(ContainerInfoDockerInfo, image=texts)),
)
containers = st.builds(
    ContainerSpec,
    name=texts,
    image=texts,
    command=st.one_of(st.none(), commands),
    container=st.one_of(st.none(), infos),
    entrypoint=st.one_of(
        st.none(), st.builds(CommandSpec, value=texts, arguments=st.lists(texts, max_size=2))
    ),
    environment=st.lists(st.builds(Variable, name=texts, value=texts), max_size=2),
    resource=st.one_of(st.none(), st.builds(ResourceSpec, cpu_limit=st.floats(0, 9))),
    ports=st.lists(st.builds(PortSpec, name=texts, value=st.integers(0, 9)), max_size=2),
)
mesos_specs = st.builds(MesosSpec, type=st.sampled_from(list(PodSpecContainerType)), shell=st.booleans())
pods = st.builds(
    PodSpec,
    containers=st.lists(containers, max_size=1),
    mesos_spec=st.one_of(st.none(), mesos_specs),
    labels=st.lists(st.builds(Label, key=texts, value=texts), max_size=2),
    controller=st.booleans(),
    kill_grace_period_seconds=st.integers(0, 2),
)
jobs = st.builds(
    JobSpec,
    name=texts,
    default_spec=st.one_of(st.none(), pods),
    instance_spec=st.dictionaries(st.integers(0, 2), pods, max_size=2),
)


def meaning(job):
    """What each of three instances runs, by the reader that decides."""
    read = []
    for instance in range(3):
        pod = effective(job.default_spec, job.instance_spec.get(instance)) or PodSpec()
        for container in pod.containers:
            command = command_of(container)
            # Whether nothing is run in a shell makes no difference.
            shell = bool(command[0]) and runs_in_shell(container, pod.mesos_spec)
            read.append((instance, command, shell, environment_of(container), image_of(container)))
    return read


def says_what_is_run(container):
    return container.command is not None or container.entrypoint is not None or container.environment


def without_fillable(job):
    """The job without the fields that may be filled in where they were unset."""
    for pod in (job.default_spec, *job.instance_spec.values()):
        for container in pod.containers if pod is not None else ():
            container.command = container.container = container.entrypoint = None
            container.environment, container.image = [], ""
        if pod is not None:
            pod.mesos_spec = None
    return job


@settings(max_examples=300, deadline=None)
@given(jobs)
def test_filling_in_overwrites_nothing(job):
    sent = decode(JobSpec, encode(job))
    fill_forms(job)
    for before, after in zip(
        (sent.default_spec, *sent.instance_spec.values()),
        (job.default_spec, *job.instance_spec.values()),
        strict=True,
    ):
        for mine, its in zip(
            before.containers if before else (), after.containers if after else (), strict=True
        ):
            for field in ("command", "container", "entrypoint"):
                assert getattr(mine, field) in (None, getattr(its, field))
            assert mine.environment in ([], its.environment)
            assert mine.image in ("", its.image)
        if before is not None and before.mesos_spec is not None:
            assert after.mesos_spec == before.mesos_spec
    assert without_fillable(job) == without_fillable(sent)


@settings(max_examples=100, deadline=None)
@given(pods)
def test_filling_in_again_adds_nothing(pod):
    once = copy.deepcopy(filled(pod))
    assert filled(pod) == once


@settings(max_examples=300, deadline=None)
@given(jobs)
def test_a_job_that_is_read_and_sent_again_means_the_same(job):
    for override in job.instance_spec.values():
        # The known exception: told of the default's command in both forms, nobody can say whether it was the
        # override's word on shells that counted.
        assume(override.mesos_spec is None or any(map(says_what_is_run, override.containers)))
    before = meaning(job)
    fill_forms(job)
    assert meaning(decode(JobSpec, encode(job))) == before
