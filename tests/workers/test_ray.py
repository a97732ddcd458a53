"""Jobs on a Ray cluster: several nodes on loopback, of which one is killed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import worker_jobs as jobs

from rebasin_hub.errors import MissingExtraError
from rebasin_hub.workers import Workers

HERE = Path(__file__).parent
installed = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="needs ray: pip install 'rebasin-hub[ray]'",
)


def test_without_ray_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rebasin-hub\[ray\]'"):
        next(Workers("ray").run(jobs.product, range(2)))


# A program of its own: Ray leaves threads, sockets and warnings in a process that joined it.
SAME = """
import worker_jobs as jobs
from rebasin_hub.errors import InputError
from rebasin_hub.workers import Workers

ray = Workers("ray", 2)
assert dict(ray.run(jobs.product, range(4))) == dict(Workers().run(jobs.product, range(4)))
try:
    list(ray.run(jobs.refuse, range(3)))
except InputError as problem:
    assert str(problem) == "job 1 cannot be done"
try:
    list(Workers("ray://127.0.0.1:9").run(jobs.refuse, range(3)))
except InputError as problem:
    assert "cannot join the Ray cluster at ray://127.0.0.1:9" in str(problem)
print("done")
"""

NODES = """
import os, sys
from pathlib import Path
from ray.cluster_utils import Cluster
import worker_jobs as jobs
from rebasin_hub.workers import Workers

folder = Path(sys.argv[1])
# The head has no CPU to lend, so that all jobs run on the other nodes.
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
nodes = {node.node_id: node for node in (cluster.add_node(num_cpus=1) for _ in range(3))}
os.environ["RAY_ADDRESS"] = cluster.address
found, killed = {}, None
for number, result in Workers("ray").run(jobs.on_node, [(n, folder) for n in range(9)]):
    found[number] = result
    begun = [path.name.partition("-")[2] for path in folder.glob("3-*")]
    if begun and killed is None:
        killed = begun[0]
        cluster.remove_node(nodes[killed], allow_graceful=False)
assert found == {n: n * n for n in range(9)}
second = {path.name.partition("-")[2] for path in folder.glob("3-*")} - {killed}
assert killed in nodes and len(second) == 1 and second < nodes.keys()
cluster.shutdown()
print("done")
"""


def run(program, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.endswith("done\n"), done.stdout + done.stderr


@installed
@pytest.mark.slow
def test_a_cluster_of_this_machine_gives_the_same_bytes_and_errors() -> None:
    run(SAME)


@installed
@pytest.mark.slow
def test_a_killed_node_costs_no_job(tmp_path) -> None:
    run(NODES, tmp_path)
