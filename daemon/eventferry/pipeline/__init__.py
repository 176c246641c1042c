"""The stages, in order: discover → index → the log → deliver. `run.py` is the file to read first."""
