"""Two or more videos held against each other: shown in one picture, and measured.

Pictures are matched by time: at each time of one exact grid every input shows the
frame that is on screen then, counted from its own first frame. Nothing is printed here.
"""
