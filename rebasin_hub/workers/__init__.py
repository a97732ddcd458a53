"""Independent jobs, spread over processes or machines, with the same results wherever they run.

A job is a value, and one function of the module level works on each: `Workers("local", 4).run(
function, jobs)` yields the number of a job with its result as each is done. Both are pickled, so
that what is large is named by its path and opened by the worker. A job computes on one thread
whatever the engine, for the order of sums depends on the number of threads: results are the same
bytes for every engine and every number of workers.
"""

from rebasin_hub.workers.kept import Kept
from rebasin_hub.workers.run import ENGINES, Workers

__all__ = ["ENGINES", "Kept", "Workers"]
