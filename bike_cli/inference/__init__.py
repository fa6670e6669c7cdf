"""What every job shares: features of videos, classifiers, and the processes of a run."""
