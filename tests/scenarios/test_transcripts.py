"""Every transcript of this folder, played; and the player itself."""

import asyncio
from pathlib import Path

import pytest

from scenarios.transcript import TranscriptError, play

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.txt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_it_goes_as_written(file: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = file.read_text(encoding="utf-8")
    rewrite = request.config.getoption("--rewrite", default=False)
    try:
        played = asyncio.run(play(text, tmp_path, rewrite))
    except TranscriptError as error:
        pytest.fail(f"{file.name}, {error}", pytrace=False)
    if rewrite and played != text:
        file.write_text(played, encoding="utf-8")


A_JOB = """\
let job = "aaaaaaaa-0000-4000-8000-000000000001"
let spec = {"name": "a", "instance_count": 2, "respool_id": "$pool",
  "default_spec": {"containers": [{"name": "main", "command": {"value": "sleep 1000"}}]}}

# Made, and looked at.
> CreateJob {"job_id": "$job",
    "spec": {"...": "$spec", "owner": "ann"}}
< version = "1-1-1"
wait 5
> JobService.GetJob {"job_id": "$job", "summary_only": true}
< summary.owner = "ann"
< summary.status.state = "JOB_STATE_RUNNING"
> ListPods {"job_id": "$job"}
< count pods = 2
< pods[].pod_name = ["$job-0", "$job-1"]
< pods[1].status.state = "POD_STATE_RUNNING"
< pods[2].status.state = null
> StopJob {"job_id": "$job", "version": "1-1-1"}
> StopJob {"job_id": "$job", "version": "1-1-1"}
! ABORTED unexpected entity version: job '$job' is at '1-2-1', the request says '1-1-1'
"""


@pytest.mark.asyncio
async def test_a_transcript_that_is_right_stays_as_it_is(tmp_path: Path) -> None:
    assert await play(A_JOB, tmp_path / "a", rewrite=False) == A_JOB
    assert await play(A_JOB, tmp_path / "b", rewrite=True) == A_JOB


@pytest.mark.parametrize(
    "right, wrong, said",
    [
        ('"1-1-1"\nwait', '"2-1-1"\nwait', '< version = "1-1-1"'),
        ("< count pods = 2", "< count pods = 3", "< count pods = 2"),
        ("< count pods = 2\n", "! NOT_FOUND nothing\n", "expected ! NOT_FOUND"),
        ("! ABORTED", "! UNKNOWN", "answered ! ABORTED"),
        ("wait 5", "wait 0", "JOB_STATE_PENDING"),
    ],
)
@pytest.mark.asyncio
async def test_another_answer_is_told_and_rewritten(
    tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    changed = A_JOB.replace(right, wrong)
    assert changed != A_JOB
    with pytest.raises(TranscriptError, match="line ") as told:
        await play(changed, tmp_path / "a", rewrite=False)
    assert said in str(told.value)
    if wrong != "wait 0" and "NOT_FOUND" not in wrong:
        assert await play(changed, tmp_path / "b", rewrite=True) == A_JOB


@pytest.mark.parametrize(
    "line",
    [
        "jump 3",
        "> NoSuchMethod {}",
        '> GetJob {"nonsense": 1}',
        "> GetJob {",
        '> GetJob {"job_id": "$nobody"}',
        "< an.answer = 1",
        "  goes on",
        "wait a while",
    ],
)
@pytest.mark.asyncio
async def test_a_line_that_is_none_is_told(tmp_path: Path, line: str) -> None:
    with pytest.raises(TranscriptError):
        await play(line + "\n", tmp_path, rewrite=True)


@pytest.mark.asyncio
async def test_time_agents_and_restarts(tmp_path: Path) -> None:
    text = A_JOB.partition("> ListPods")[0].replace("hosts", "") + "".join(
        [
            '> StopAgent {"hostname": "host-0"}\nwait 100\n',
            "> QueryHosts {}\n< host_infos[0].state = ?\n",
            'restart\n> StartAgent {"hostname": "host-0"}\nwait 100\n',
            "> QueryHosts {}\n< host_infos[0].state = ?\n",
            '> GetJob {"job_id": "$job"}\n< job_info.status.pod_stats.POD_STATE_RUNNING = ?\n',
        ]
    )
    played = await play("hosts 1\n" + text, tmp_path, rewrite=True)
    assert [line for line in played.splitlines() if "host_infos" in line or "pod_stats" in line] == [
        '< host_infos[0].state = "HOST_STATE_UNKNOWN"',
        '< host_infos[0].state = "HOST_STATE_UP"',
        "< job_info.status.pod_stats.POD_STATE_RUNNING = 2",
    ]
