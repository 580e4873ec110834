"""The example of decoding with a routing state, at a smaller size."""

import re
from importlib.util import module_from_spec, spec_from_file_location

import pytest


def test_decoding_is_the_whole_forward(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    spec = spec_from_file_location("decode_routed", "examples/decode_routed.py")
    assert spec is not None and spec.loader is not None
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    for name, value in (("LENGTH", 160), ("BLOCK", 32), ("CHUNK", 80), ("DECODED", 3)):
        monkeypatch.setattr(example, name, value)
    example.main()
    apart = [float(each) for each in re.findall(r"at most (\S+) from the whole", capsys.readouterr().out)]
    assert len(apart) == 2 and max(apart) < 1e-5
