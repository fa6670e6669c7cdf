"""What all tasks share: features of videos, classifiers, and the processes of a run."""
