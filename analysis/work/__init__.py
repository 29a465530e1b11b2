"""Analyses that sample, cut into chunks of seeds: specs for `probes.work`, and what comes of them read back.

    plan = plan_steering({"model": "my_module:make", "direction": "size.safetensors", "scores": "my_module:scores",
                          "target": "size", "seeds": 2000, "size": 8})
    run_work(plan, "runs/size", executor)                    # in this process, in processes, on a cluster, by ranks
    read_steering("runs/size").verdicts                      # what `steer_curve` gives

    plan = plan_words({"pipeline": "my-finetune/", "prompt": "a red lighthouse", "without": "a lighthouse",
                       "word": "red", "seeds": 64})
    run_work(plan, "runs/red", executor)
    read_words("runs/red").agreement                         # what `compare_word` gives

On the command line their kinds are `steering` and `words`. The same chunks give the same bits wherever they are made.
"""

from scorescope.analysis.work.steering import plan_steering, read_steering
from scorescope.analysis.work.words import plan_words, read_words

__all__ = ["plan_steering", "plan_words", "read_steering", "read_words"]
