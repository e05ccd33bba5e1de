# The checks; `.ci/run` runs all three.

# Format, lints, documentation and tests: minutes.
check:
    .ci/check

# The README's main command, the prompt and the Jupyter kernel.
faces:
    .ci/faces

# Rust notebooks: up to ten minutes, nightly.
evcxr:
    .ci/evcxr
