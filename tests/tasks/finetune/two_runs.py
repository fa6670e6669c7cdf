"""A program for torchrun: a fine-tuning run on several processes; it resumes the run in the folder.

torchrun --nproc-per-node 2 two_runs.py DATA FOLDER STRATEGY STOP_AT
"""

import sys
from pathlib import Path

import torch
from test_finetune_task import config_of, fresh

from bike_cli.data.labelled.train_sets import read_labelled
from bike_cli.inference.processes import group_from_env, joined_process_group
from bike_cli.tasks.finetune.run import Finetuning
from bike_cli.tasks.finetune.video_branch import Step
from bike_cli.video.workers.pool import DecodePool


def main(data: str, folder: str, strategy: str, stop_at: str) -> None:
    by, config = group_from_env(), config_of(strategy=strategy, wise_ft=0.5)
    with DecodePool(config.sampling, config.decoding) as pool, joined_process_group(by, torch.device("cpu")):
        labelled = read_labelled(Path(data), keep_val=True)
        run = Finetuning(fresh(), labelled, config, pool, Path(folder), resume=True, processes=by)
        for record in run:
            run.stop = run.stop or (isinstance(record, Step) and record.step == int(stop_at))
        run.folder.close()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
