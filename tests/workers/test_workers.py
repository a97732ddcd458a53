"""Jobs on the engines that need nothing but Python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import worker_jobs as jobs

from rebasin_hub.errors import BindingError, InputError, RebasinError
from rebasin_hub.workers import ENGINES, Workers, local

HERE = Path(__file__).parent
LOCAL = Workers("local", 2)


def run(workers, function, each, **options):
    return dict(workers.run(function, each, **options))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_results_are_the_same_bytes_whatever_the_engine_and_the_number() -> None:
    seeds = range(5)
    serial = run(Workers(), jobs.product, seeds)
    assert sorted(serial) == list(seeds)
    assert len(set(serial.values())) == len(seeds)
    assert serial == run(Workers("local", 1), jobs.product, seeds)
    assert serial == run(Workers("local", 3), jobs.product, seeds)


@pytest.mark.parametrize("workers", [Workers("serial"), Workers("local", 1)])
def test_a_job_computes_on_one_thread(workers, monkeypatch) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(2)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "2")
    before = torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")
    try:
        assert run(workers, jobs.threads, [0]) == {0: {1}}
        assert (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")) == before
    finally:
        torch.set_num_threads(1)


def test_progress_counts_jobs_and_none_is_no_work() -> None:
    told = []
    run(LOCAL, jobs.refuse, [5, 6, 7], progress=lambda *numbers: told.append(numbers))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert run(LOCAL, jobs.refuse, []) == {}


def test_two_processes_share_the_jobs() -> None:
    found = run(LOCAL, jobs.process, range(4))
    assert [job for _, job in map(found.get, range(4))] == list(range(4))
    processes = {process for process, _ in found.values()}
    assert len(processes) == 2
    assert os.getpid() not in processes


# Workers that are lost


def test_the_job_of_a_killed_worker_is_done_again_and_no_other(tmp_path) -> None:
    found = run(LOCAL, jobs.once_killed, [(number, tmp_path) for number in range(4)])
    assert found == {0: 0, 1: 1, 2: 4, 3: 9}
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["0", "1", "1", "2", "3"]


def test_a_job_that_no_worker_survives_is_named() -> None:
    done = []
    with pytest.raises(RebasinError, match=r"^job 1: its worker was lost 3 times, by SIGKILL;"):
        done.extend(LOCAL.run(jobs.always_killed, range(3), name=lambda number: f"job {number}"))


# Errors


@pytest.mark.parametrize("workers", [Workers("serial"), LOCAL])
def test_an_error_of_a_job_is_raised_as_it_is(workers) -> None:
    with pytest.raises(InputError, match=r"^job 1 cannot be done$"):
        run(workers, jobs.refuse, range(4))


def test_errors_that_cannot_be_pickled_keep_their_words() -> None:
    with pytest.raises(BindingError, match=r"a\.weight: is not there"):
        run(Workers("serial"), jobs.misfit, [0])
    with pytest.raises(RebasinError, match=r"a\.weight: is not there"):
        run(Workers("local", 1), jobs.misfit, [0])
    with pytest.raises(RuntimeError, match="OddError: 1 and 2") as caught:
        run(Workers("local", 1), jobs.odd, [0])
    assert "in odd" in caught.value.__notes__[0]  # where it was, for the log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lokal",), "engine 'lokal' is none of auto, serial, local, ray, ray://HOST:PORT"),
        (("local", 0), "workers is 0, expected 1 or more"),
        (("serial", 2), "'serial' has one worker, not 2"),
    ],
)
def test_wrong_workers_are_refused_at_once(arguments, message) -> None:
    with pytest.raises(InputError, match=message):
        Workers(*arguments)


@pytest.mark.parametrize(
    ("workers", "engine", "address"),
    [
        (Workers(), "serial", None),
        (Workers(count=1), "serial", None),
        (Workers(count=2), "local", None),
        (Workers("local"), "local", None),
        (Workers("ray"), "ray", None),
        (Workers("ray://head:10001"), "ray", "ray://head:10001"),
    ],
)
def test_engines_are_chosen_by_name_and_number(workers, engine, address) -> None:
    assert (workers.chosen, workers.address) == (engine, address)
    assert engine in ENGINES


# Interrupts

PROGRAM = """
import signal, sys
from pathlib import Path
import worker_jobs as jobs
from rebasin_hub.workers import Workers

if __name__ == "__main__":
    # A shell that starts tests in the background lets them ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(sys.argv[1])
    try:
        list(Workers("local", 2).run(jobs.wait_and_clean, [folder] * 3))
    except KeyboardInterrupt:
        print("interrupted")
"""


def start(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    folder = tmp_path / "notes"
    folder.mkdir()
    program = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", folder],
        env={**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: len(list(folder.glob("*.started"))) == 2)
    return program, folder, [int(path.stem) for path in folder.glob("*.started")]


def runs(process) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("whole_group", [False, True])
def test_an_interrupt_ends_all_jobs_cleanly_and_quietly(tmp_path, whole_group) -> None:
    program, folder, workers = start(tmp_path)
    # A terminal tells all processes, `kill` only the one.
    (os.killpg if whole_group else os.kill)(program.pid, signal.SIGINT)
    out, err = program.communicate(timeout=60)
    assert (out, err, program.returncode) == ("interrupted\n", "", 0)
    assert sorted(int(path.stem) for path in folder.glob("*.ended")) == sorted(workers)
    assert not any(map(runs, workers))


def test_an_interrupt_while_a_worker_starts_ends_it_as_well(tmp_path, monkeypatch) -> None:
    begin, begun = local._Worker.begin, []

    def begin_and_stop(self, *given):
        begun.append(self)
        begin(self, *given)
        wait_for(lambda: list(tmp_path.glob("*.started")))
        raise KeyboardInterrupt

    monkeypatch.setattr(local._Worker, "begin", begin_and_stop)
    with pytest.raises(KeyboardInterrupt):
        list(Workers("local", 2).run(jobs.wait_and_clean, [tmp_path] * 2))
    (worker,) = begun
    assert not runs(worker._context.started.pid)
    assert list(tmp_path.glob("*.ended"))


def test_no_worker_outlives_a_killed_program(tmp_path) -> None:
    program, _, workers = start(tmp_path)
    program.kill()
    program.wait()
    wait_for(lambda: not any(map(runs, workers)), seconds=20)
    program.communicate()  # not before: pipes stay open as long as a worker has them


def test_closing_early_ends_the_workers(tmp_path) -> None:
    results = LOCAL.run(jobs.process, range(20))
    _, (process, _) = next(results)
    results.close()
    assert not runs(process)
