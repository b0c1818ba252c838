"""What `tavia doctor` knows: facts about a file, this host and a live cloud, and rules that say what is wrong.

``gathering`` asks and changes nothing, the rules are pure, ``checks`` has all of them with their codes and seams. What
could not be found out is unknown, and proves nothing.
"""
