#!/usr/bin/env bash
# Prepares a CUDA 13.0 toolkit for *building* `--features cuda`, from packages, without a GPU, a driver or root:
# nvcc and its headers from PyPI wheels (about 105 MB down, 290 MB on disk), and small static libraries that stand in
# for libcuda, libcublas, libcublasLt, libcurand and libnvrtc. They look for the real ones when a function is first
# called, so that the program starts everywhere, and without a driver the first call answers CUDA_ERROR_STUB_LIBRARY.
#
#   eval "$(bash scripts/setup-cuda.sh)"    # prepares what is missing, prints the variables to export
#   cargo build --release --features cuda
#
# Needs python3 with pip, cc, ar and cargo; fetches this project's crates, because the sources of cudarc say which functions
# there are. What is there already is not done again. Only for Linux on x86-64.
set -euo pipefail

CUDA_VERSION=13.0
# A newer nvcc writes PTX that drivers of version 580 refuse.
WHEELS=(nvidia-cuda-nvcc==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85 nvidia-cuda-crt==13.0.88
    nvidia-nvvm==13.0.88)
HOME_DIR=${SAESCOPE_CUDA_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/saescope-cuda/$CUDA_VERSION}
work=; trap '[ -z "$work" ] || rm -rf "$work"' EXIT
say() { echo "setup-cuda: $*" >&2; }
[ "$(uname -sm)" = "Linux x86_64" ] || { say "only for Linux on x86-64"; exit 1; }

# --- nvcc, headers, libdevice -------------------------------------------------------------------------------------
if [ ! -x "$HOME_DIR/bin/nvcc" ]; then
    say "fetching nvcc $CUDA_VERSION into $HOME_DIR"
    mkdir -p "$HOME_DIR"
    work=$(mktemp -d "$HOME_DIR/.tmp.XXXXXX")
    python3 -m pip download -q --no-deps --only-binary=:all: --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 --platform manylinux_2_12_x86_64 --platform manylinux2010_x86_64 \
        --python-version 3.11 -d "$work" "${WHEELS[@]}" || { say "the packages could not be fetched"; exit 3; }
    for wheel in "$work"/*.whl; do python3 -m zipfile -e "$wheel" "$work/all"; done
    root=$work/all/nvidia/cu13
    chmod +x "$root"/bin/* "$root"/nvvm/bin/* # which zipfile forgets
    rm -f "$root"/lib/libnvvm.so* "$root"/lib/libcudart.so*   # cicc has its own; nothing is linked dynamically
    cp "$root/lib/libcudart_static.a" "$root/lib/libcudart.a" # what `-lcudart` finds: it loads libcuda by itself
    ln -sfn lib "$root/lib64"
    chmod -R u+rwX,go+rX "$root"
    # nvcc comes last: with it, the toolkit counts as complete.
    mv "$root/bin/nvcc" "$work/nvcc"
    cp -a "$root/." "$HOME_DIR/"
    mv "$work/nvcc" "$HOME_DIR/bin/nvcc"
    rm -rf "$work"; work=
fi

# --- nvcc without candle's quantised kernels ------------------------------------------------------------------------
# candle-kernels compiles 15 files of quantised matmuls and mixtures of experts, most of its time and nothing that is
# used here. In their place: functions that say so and end the program. SAESCOPE_CUDA_FULL=1 compiles them after all.
cat >"$HOME_DIR/bin/nvcc-slim" <<'SLIM'
#!/usr/bin/env bash
here=$(cd "$(dirname "$0")" && pwd)
for source; do :; done # the last argument
case $source in
    src/mmq_gguf/*.cu | src/moe/*.cu | src/mmvq_gguf.cu) ;;
    *) exec "$here/nvcc" "$@" ;;
esac
[ -f src/ffi.rs ] || exec "$here/nvcc" "$@"
while [ "$1" != -o ]; do shift; done
{
    echo 'extern int puts(const char *); extern void abort(void);'
    if [ "$source" = src/mmvq_gguf.cu ]; then
        grep -oE 'pub fn [a-z_0-9]+' src/ffi.rs | sort -u |
            awk '{ printf "void %s(void) { puts(\"%s: this build has no quantised kernels\"); abort(); }\n", $3, $3 }'
    fi
} | cc -x c -O1 -fPIC -c -o "$2" -
SLIM
chmod +x "$HOME_DIR/bin/nvcc-slim"

# --- libraries that are looked for when they are first used ---------------------------------------------------------
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
version=$(grep -A1 '^name = "cudarc"' "$root/Cargo.lock" | sed -n 's/^version = "\(.*\)"/\1/p')
MARK=$HOME_DIR/lib/.lazy-3-$version
if [ ! -e "$MARK" ]; then
    (cd "$root" && cargo fetch --locked) >&2
    sources=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"cudarc-$version" 2>/dev/null | head -1 || true)
    [ -n "$sources" ] || { say "the sources of cudarc $version were not found in cargo's registry"; exit 1; }
    work=$(mktemp -d "$HOME_DIR/.tmp.XXXXXX")
    # library, folder of cudarc, what a function answers if it is not there, names of the file
    while read -r lib folder missing sonames; do
        awk '/extern "C" \{/{getline; print}' "$sources/src/$folder/sys/mod.rs" |
            grep -oE 'fn [A-Za-z0-9_]+' | sed 's/fn //' | sort -u >"$work/names"
        {
            echo "#include <dlfcn.h>"
            echo "#define LIB $lib"
            echo "#define MISSING $missing"
            echo "static const char *const files[] = {$(for s in $sonames; do printf '"%s",' "$s"; done) 0};"
            echo "static const char *const names[] = {"; sed 's/.*/"&",/' "$work/names"; echo "};"
            echo "#define COUNT $(wc -l <"$work/names")"
            cat <<'C'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TABLE JOIN(saescope_lazy_table_, LIB)
#define FIND JOIN(saescope_lazy_find_, LIB)
__attribute__((visibility("hidden"))) void *TABLE[COUNT];
static long missing_number(void) { return MISSING; }
static const char *missing_text(void) { return "the library was not found"; }
/* Folders of $SAESCOPE_CUDA_LIBS first, then as every program looks (LD_LIBRARY_PATH, ldconfig), then the usual place. */
static void *open_one(const char *file) {
    char path[4096];
    const char *dirs = getenv("SAESCOPE_CUDA_LIBS");
    while (dirs && *dirs) {
        size_t n = strcspn(dirs, ":");
        if (n && snprintf(path, sizeof path, "%.*s/%s", (int)n, dirs, file) < (int)sizeof path) {
            void *lib = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
            if (lib) return lib;
        }
        dirs += n + (dirs[n] == ':');
    }
    void *lib = dlopen(file, RTLD_NOW | RTLD_GLOBAL);
    if (lib) return lib;
    snprintf(path, sizeof path, "/usr/local/cuda/lib64/%s", file);
    return dlopen(path, RTLD_NOW | RTLD_GLOBAL);
}
static void *library(void) {
    static void *found;
    if (!found) /* each file in turn: the last is the library, those before it are what it needs */
        for (const char *const *file = files; *file; file++) { void *lib = open_one(*file); if (!file[1]) found = lib; }
    return found;
}
__attribute__((visibility("hidden"))) void *FIND(unsigned i) {
    void *lib = library(), *f = lib ? dlsym(lib, names[i]) : 0;
    int text = strncmp(names[i], "cuGet", 5) && (strstr(names[i], "ErrorString") || strstr(names[i], "GetStatus"));
    if (!f) f = text ? (void *)missing_text : (void *)missing_number;
    return TABLE[i] = f;
}
C
        } >"$work/$lib.c"
        {
            echo ".text"
            awk -v lib="$lib" '{ printf ".globl %s\n.type %s,@function\n%s:\n movq saescope_lazy_table_%s+%d(%%rip), %%r11\n testq %%r11, %%r11\n jz 1f\n jmp *%%r11\n1: movl $%d, %%r11d\n jmp saescope_lazy_slow_%s\n.size %s, .-%s\n", $1, $1, $1, lib, 8 * (NR - 1), NR - 1, lib, $1, $1 }' "$work/names"
            # All registers that arguments come in are kept while the function is looked for.
            cat <<S
saescope_lazy_slow_$lib:
 pushq %rbp
 movq %rsp, %rbp
 pushq %rdi
 pushq %rsi
 pushq %rdx
 pushq %rcx
 pushq %r8
 pushq %r9
 pushq %rax
 pushq %r10
 subq \$128, %rsp
$(for i in 0 1 2 3 4 5 6 7; do echo " movups %xmm$i, $((16 * i))(%rsp)"; done)
 movl %r11d, %edi
 call saescope_lazy_find_$lib
 movq %rax, %r11
$(for i in 0 1 2 3 4 5 6 7; do echo " movups $((16 * i))(%rsp), %xmm$i"; done)
 addq \$128, %rsp
 popq %r10
 popq %rax
 popq %r9
 popq %r8
 popq %rcx
 popq %rdx
 popq %rsi
 popq %rdi
 popq %rbp
 jmp *%r11
.section .note.GNU-stack,"",@progbits
S
        } >"$work/$lib.s"
        cc -O2 -fPIC -c "$work/$lib.c" -o "$work/$lib.c.o"
        cc -c "$work/$lib.s" -o "$work/$lib.s.o"
        rm -f "$HOME_DIR/lib/lib$lib.a"
        ar rcs "$HOME_DIR/lib/lib$lib.a" "$work/$lib.s.o" "$work/$lib.c.o"
    done <<'LIBS'
cuda driver 34 libcuda.so.1
cublas cublas 1 libcublasLt.so.13 libcublas.so.13
cublasLt cublaslt 1 libcublasLt.so.13
curand curand 203 libcurand.so.10
nvrtc nvrtc 5 libnvrtc-builtins.so.13.0 libnvrtc.so.13
LIBS
    rm -f "$HOME_DIR"/lib/.lazy-*
    touch "$MARK"
    say "made $(cd "$HOME_DIR/lib" && ls lib{cuda,cublas,cublasLt,curand,nvrtc}.a | tr '\n' ' ')"
fi

SLIM=-slim
[ -z "${SAESCOPE_CUDA_FULL:-}" ] || SLIM=
cat <<ENV
export CUDA_HOME='$HOME_DIR'
export CUDA_PATH='$HOME_DIR'
export NVCC='$HOME_DIR/bin/nvcc${SLIM}'
export PATH='$HOME_DIR/bin':"\$PATH"
export CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-80}
ENV
