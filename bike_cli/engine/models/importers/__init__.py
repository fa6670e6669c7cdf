"""Read checkpoints of other video models into models of bike; one file per step."""
