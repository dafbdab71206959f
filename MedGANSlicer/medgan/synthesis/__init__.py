"""Running the models that make volumes: from another volume, from a label map, from noise."""

TASKS = ("translate", "label-to-volume", "from-noise", "variations")
"""What a model's card has to say for it to make volumes."""
