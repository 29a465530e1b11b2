"""Work cut into chunks: pure functions of (spec, seed range), made anywhere, by anybody, and written once.

    plan = plan_work(read_spec("sweep.toml"))              # kinds: sweep, moments, recording, activations, bank
    done = run_work(plan, "runs/sweep")                    # in this process; what is there is not made again
    with process_pool(8) as executor:                      # processes of this machine
        run_work(plan, "runs/sweep", executor)
    with dask_executor("tcp://head:8786") as executor:     # a cluster
        run_work(plan, "runs/sweep", executor)
    run_work(plan, "runs/sweep", share=(rank, world))      # job arrays, torchrun: ranks share only the folder

    chunks = cut("my_module:measure", {"model": "digits"}, range(50_000), size=256)    # work of your own
    done = execute(chunks, "runs/mine")
    for chunk, place, returned in finished(chunks, "runs/mine"): ...

The same chunks give the same bits wherever they are made: each is computed with one thread, and its seeds together.
"""

from scorescope.probes.work.chunks import Chunk, cut, finished
from scorescope.probes.work.execute import Done, execute, read_status
from scorescope.probes.work.executors import dask_executor, process_pool
from scorescope.probes.work.plans import Plan, plan_work, read_spec, run_work

__all__ = [
    "Chunk",
    "Done",
    "Plan",
    "cut",
    "dask_executor",
    "execute",
    "finished",
    "plan_work",
    "process_pool",
    "read_spec",
    "read_status",
    "run_work",
]
