"""Zero- and few-shot video classification: BIKE as a library.

import bike_cli as bike

engine = bike.load("tiny")
for answer in bike.classify(engine, ["clip.mp4"], ["red circle", "blue star"]):
    print(answer)
"""

__version__ = "0.1.0"
