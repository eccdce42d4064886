"""How long things take, and how much there may be.

One rule: every number that a person may want to turn has its name, its unit and its reason here. The periods
are those of Peloton's configuration, with the values of its development clusters as ours, so that a laptop
shows in seconds what production shows in minutes (behaviour, scheduler §2.1, §4-7, §9 and jobs §15). Filled
by `topology.load_topology` from a file's `periods:` and `limits:`.
"""

from typing import Annotated

import msgspec

Period = Annotated[float, msgspec.Meta(gt=0)]
"""Seconds between two looks, or until something is given up: zero would spin, or give up at once."""
Delay = Annotated[float, msgspec.Meta(ge=0)]
"""Seconds to wait before the next try: zero tries again at once."""
Count = Annotated[int, msgspec.Meta(ge=1)]
"""How many times, at least once."""


class Periods(msgspec.Struct, frozen=True, kw_only=True):
    """Every period and time-out, in seconds. Peloton's production value ("base") is named where it differs.

    What Peloton needs between its daemons (RPC time-outs, offer leases, queue waits) has no meaning in one
    process and is not here.
    """

    # Capacity.
    entitlement_s: Period = 5
    """Between two calculations of all pools' entitlements, unless the tree changes (base 60 s)."""
    preemption_s: Period = 10
    """Between two looks for pools that hold more than their entitlement (base 60 s)."""
    preemption_cycles: Count = 3
    """Looks in a row that must find a pool over its entitlement before its pods are taken back (base 5)."""
    eviction_s: Period = 10
    """From the choice of running pods to their eviction, and between two batches of them (base 60 s)."""

    # A pod on its way to a host.
    placing_retry_s: Period = 1
    """Between two tries to find a host for a pod that found none (the placement engine's wait for hosts)."""
    placing_timeout_s: Period = 20
    """PLACING for so long, and the back-off on top, counts as a failed attempt (base 10 min)."""
    placing_backoff_s: Delay = 10
    """Added to the placing time-out with each attempt of a cycle (base 5 min)."""
    placing_attempts: Count = 3
    """Attempts in one placement cycle; after them the pod queues for admission again."""
    desired_host_timeout_s: Period = 120
    """How long a pod that wants one host waits for it before it takes any (stateless placement engine)."""
    host_held_s: Period = 180
    """How long a host is kept for a pod that is updated in place (a constant in Peloton)."""
    launch_timeout_s: Period = 60
    """LAUNCHED for so long without a word of the agent: the run is killed, then a new one made (base 180
    min)."""
    start_timeout_s: Period = 60
    """STARTING for so long: as the launch time-out (base 180 min; there of batch pods alone, so that a
    service pod may hang for ever)."""

    # A pod on its way out.
    preempting_timeout_s: Period = 20
    """PREEMPTING for so long beyond an eviction period, the pod is RUNNING again and may be chosen again
    (base 10 min)."""
    kill_timeout_s: Period = 10_800
    """KILLING for so long, the executor is shut down, and again after as long (180 min everywhere)."""

    # Restarts of pods that end by themselves.
    restart_backoff_first_s: Delay = 30
    """Delay of the restart after the first failure; each further failure doubles it."""
    restart_backoff_max_s: Delay = 3600
    """The longest delay of a restart."""

    failures_forgiven_s: Period = 600
    """A pod that has run for so long has recovered: its failures are forgotten, and with them its back-off
    (as the kubelet does; Peloton never forgets)."""

    # Jobs.
    job_status_s: Period = 1
    """Between two computations of a service job's state and counts."""

    steady_s: Delay = 1
    """RUNNING for so long without a health check, a pod counts as updated: one that crashes as it starts has
    shown it by then (Kubernetes: minReadySeconds; Peloton looks once a second, and may be deceived)."""

    # Hosts and agents.
    drain_s: Period = 10
    """Between two looks at draining hosts, each of which evicts pods or finds the host empty (base 300 s)."""
    heartbeat_s: Period = 15
    """Between two signs of life of an agent (Mesos: agent_ping_timeout)."""
    lost_agent_timeout_s: Period = 75
    """An agent silent for so long is lost, and its pods with it (Mesos: 5 pings of 15 s)."""
    reconcile_first_s: Period = 60
    """From the start to the first comparison of all pods with what agents say they run."""
    reconcile_s: Period = 1800
    """Between two such comparisons."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of everything. A wish beyond a limit is refused with the limit's name and value."""

    # The loop.
    inbox_max: Count = 10_000
    """Commands that may wait for a turn: some seconds of work; more only means missed deadlines."""
    batch_max: Count = 1_000
    """Commands in one turn, and so in one transaction: at this many a commit costs next to nothing each."""
    entities_per_turn: Count = 500
    """Entities looked at in one turn, the dial between throughput and pauses (2,000 gave 41 ms)."""
    evictions_max: Count = 100
    """Pods of one pool that are evicted in one eviction period, so that those left can be looked at again."""

    # What the state may hold.
    spec_bytes_max: Count = 1_500_000
    """Of one job's spec as sent: GetJob answers with both of its forms, which must fit in the 4 MiB that
    clients accept."""
    secrets_bytes_max: Count = 262_144
    """Of all secrets of one job, with their paths: each launch carries them, and memory keeps them."""
    pool_spec_bytes_max: Count = 16_384
    """Of one pool's spec as sent: QueryResourcePools answers with all of them in one message."""
    pods_per_job_max: Count = 100_000
    """Peloton's max_tasks_per_job, which its refusal names."""
    containers_per_pod_max: Count = 50
    """Every status of a pod tells of each of them: 25 pods are told in one slice of a list."""
    ports_per_pod_max: Count = 100
    """As the containers; agents offer a thousand."""
    jobs_max: Count = 100_000
    """Jobs not yet deleted: each keeps its spec as sent, so that full-size specs would fill memory first."""
    pods_max: Count = 2_000_000
    """Twice the million pods that one process is built for."""
    workflows_per_job_max: Count = 10
    """Updates and restarts that a job remembers, and with each the configuration it led to (Peloton's
    max_updates_per_job)."""
    opaque_bytes_max: Count = 65_536
    """Of what a client hangs on one workflow: ListJobWorkflows answers with that of all of them."""
    restart_ranges_max: Count = 10_000
    """Ranges of instances in one restart: they are checked and merged in one turn, and remembered."""
    pools_max: Count = 3_000
    """A calculation of all entitlements takes 30 ms at this many, 50 where all have revocable pods too, and
    holds everything else up so long."""
    hosts_per_call_max: Count = 10_000
    """Named in one call for maintenance: a hundredth of a second of work that nobody gets between."""
    host_pools_max: Count = 1_000
    """ListHostPools answers with all of them; clusters have a handful."""
    query_terms_max: Count = 100
    """Labels, keywords, states or sort keys of one query: every job is looked at for each of them."""
    query_names_max: Count = 10_000
    """Names of pods, or hosts, in one query: a set that is made in some milliseconds."""
    constraint_parts_max: Count = 200
    """Label, AND and OR constraints in one pod's constraint: each is evaluated on every host."""
    hosts_max: Count = 100_000
    """Ten times the largest Mesos cluster on record; placement scans all hosts' columns."""

    # Watches.
    watches_max: Count = 1_000
    """Watches at once (Peloton's max_client, there for each kind)."""
    watch_names_max: Count = 10_000
    """Ids, names and labels in the filters of one watch: each is an entry of an index."""
    watch_history_max: Count = 100_000
    """Changes of jobs and pods that are kept for watches to resume from, some 300 bytes each; it is some
    seconds' worth at full launch rate and hours' worth in a quiet cluster. A reader that lags by more than
    half of it is let go, while it can still resume."""
    watch_lag_max: Count = 1_000
    """Changes that may wait for a reader one by one; beyond, it is told the latest of each object only."""
