"""The demonstration, at a smaller size."""

from importlib.util import module_from_spec, spec_from_file_location


def test_the_demonstration(monkeypatch, capsys):
    spec = spec_from_file_location("demo", "examples/demo.py")
    demo = module_from_spec(spec)
    spec.loader.exec_module(demo)
    monkeypatch.setattr(demo, "LENGTH", 512)
    monkeypatch.setattr(demo, "CHECKED_LENGTH", 256)
    demo.main()
    out = capsys.readouterr().out
    assert "1,048,576 tokens" in out and "24,574 full, 32,758 partial" in out
    assert "def forward_kernel(" in out and "gradient of v" in out
