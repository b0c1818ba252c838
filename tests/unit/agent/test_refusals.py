"""What HAProxy and keepalived say becomes a refusal with their own words and the line."""

from __future__ import annotations

from pathlib import Path

from tavia.agent.haproxy import haproxy_refuses
from tavia.agent.keepalived import keepalived_refuses
from tavia.agent.refusals import MAX_MESSAGE
from tavia.agent.stats_socket import LINE, lines

TRIAL = Path("/var/lib/tavia/haproxy.cfg.trial")
SAID = f"""[NOTICE]   (7647) : haproxy version is 2.6.12-1+deb12u4
[ALERT]    (7647) : config : parsing [{TRIAL}:9] : 'bind' : missing port specification in 'nonsense'
[ALERT]    (7647) : config : [{TRIAL}:12] : 'server x/s1' : unknown keyword 'checkk'; did you mean 'check' maybe ?
[ALERT]    (7647) : config : Error(s) found in configuration file : {TRIAL}
[ALERT]    (7647) : config : Fatal errors found in configuration.
"""


def test_haproxy_s_alerts_are_passed_on_with_their_first_line() -> None:
    refused = haproxy_refuses(SAID, TRIAL)
    assert (refused.file, refused.line, refused.code) == ("haproxy.cfg", 9, "haproxy-refused")
    assert refused.message.splitlines() == [
        "config : parsing [haproxy.cfg:9] : 'bind' : missing port specification in 'nonsense'",
        "config : [haproxy.cfg:12] : 'server x/s1' : unknown keyword 'checkk'; did you mean 'check' maybe ?",
    ]


def test_a_refusal_without_alerts_or_line_passes_on_what_was_said() -> None:
    refused = haproxy_refuses("Killed\n", TRIAL)
    assert (refused.message, refused.line) == ("Killed", None)


def test_keepalived_s_words_are_passed_on_once_each() -> None:
    said = "(/x/keepalived.conf.trial: Line 3) Unknown keyword 'nonsense'\n" * 2
    refused = keepalived_refuses(said, Path("/x/keepalived.conf.trial"))
    assert (refused.message, refused.line) == ("(keepalived.conf: Line 3) Unknown keyword 'nonsense'", 3)


def test_a_refusal_is_bounded() -> None:
    assert len(haproxy_refuses("x" * 100000, TRIAL).message) == MAX_MESSAGE


def test_runtime_commands_share_lines_that_haproxy_s_buffer_takes() -> None:
    commands = [f"set server app:web/m{number} weight 1" for number in range(1000)]
    batched = list(lines(commands))
    assert ";".join(batched).split(";") == commands
    assert all(len(line) <= LINE for line in batched) and len(batched) < 10
    assert list(lines([])) == []
