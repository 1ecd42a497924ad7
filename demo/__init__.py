"""The demo: `python demo/demo.py` runs it; scenes.py and objects.py draw its data set."""
