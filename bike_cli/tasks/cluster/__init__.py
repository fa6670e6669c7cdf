"""The work of commands on a Ray cluster: the only package that imports Ray, and only inside functions.

    driver (this process)    names of videos in, answers out, in order; `dispatch.py`
    actors (one per GPU)     hold the model, the encoded labels and decode workers, and answer batches; `actor.py`
    work (per command)       what actors prepare, and how they answer a batch; `work.py`

Ray Data is not used, although it can run such actors. It reads its inputs in remote tasks, so names that arrive on
stdin would first have to be complete; and it repeats a batch whose actor died until the batch succeeds or the job
fails, and does not say which batch that was. The loop in `dispatch.py` knows what each actor works on. It takes names
as they come, bounds what is in flight, and finds the video that kills its actor. It needs no more of Ray than actors
and `ray.wait`.
"""
