"""From a folder of annotated photographs to a trained, scored detector: what `train_own` decides and runs.

`survey` measures the data, `rule` chooses the network and its schedule, `commands` writes the steps as commands that a
user could type, and `steps` runs those that are not done yet.
"""
