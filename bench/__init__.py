"""Speed, memory and accuracy of the engines, side by side on the same recordings. `python -m bench --help`."""
