"""One of several processes that train as one: `together.py JOB...`, each job a JSON object.

A job has `recipe`, `changes`, and `steps` to train from where the run stands, or none to train to the end.
Several jobs a launch save the time that starting processes takes.
"""

import json
import sys
from pathlib import Path

from fidkit.train.loop.training import Trainer
from fidkit.train.recipe import load_recipe


def main() -> None:
    for text in sys.argv[1:]:
        job = json.loads(text)
        trainer = Trainer(load_recipe(Path(job["recipe"]), job["changes"]))
        if job.get("steps") is None:
            trainer.run()
            continue
        trainer.resume()
        for _ in range(job["steps"]):
            trainer.train_step()
        trainer.save()
        trainer.checkpoints.finish()
    trainer.group.leave()


if __name__ == "__main__":
    main()
