# The checks; `.ci/run` runs all of them.

# Format, lints, documentation and tests: minutes.
check:
    .ci/check

# The tests with every operator made of candle's: minutes.
composed:
    .ci/composed

# CUDA without a GPU: a quarter of an hour the first time.
cuda:
    .ci/cuda

# The README's main command, the prompt and the Jupyter kernel.
faces:
    .ci/faces

# Rust notebooks: up to ten minutes, nightly.
evcxr:
    .ci/evcxr
