import os

if os.environ.get("TRITON_INTERPRET") == "1":
    import triton.runtime.interpreter

    from tests.support.interpreter import hasten

    hasten(triton.runtime.interpreter)
