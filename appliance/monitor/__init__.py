"""The security monitor: what is wrong at this node now, and since when (the paper's node management).

alarms.py    from the units' answers to the alarms that stand; pure
watch.py     alarms over time: since when each stands, what came and what went, tags that fail

Each unit tells its own events to the journal. The monitor holds nothing secret and steers nothing: it may die at any
time, and nothing but this view is lost. services/monitor.py asks the units; `qbb alarms` shows the answer.
"""
