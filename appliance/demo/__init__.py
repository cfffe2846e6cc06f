"""`make demo`: two sites on this machine, session keys by QKD for 100 TLS sessions, and the faults that may happen.

__main__.py  runs the story; exit status 0 when everything was as it should be
story.py     what happens, step by step
traffic.py   the two TLS applications (the program qbb-tls) and what they measured
account.py   where key went: spent by cause, given up at restarts
screen.py    one line a step, bars for the key stores; plain lines where standard output is no terminal
report.py    the tables at the end
"""
