#!/usr/bin/env bash
# Builds and installs the optional package spatial-correlation-sampler against the PyTorch that a
# Python environment already has:
#
#     bash scripts/install_sampler.sh [PYTHON]      # default: .venv/bin/python, else python3
#
# It needs a CUDA build of PyTorch, a CUDA toolkit of the same major version and a C++ compiler, but
# no GPU. Cheap to call again: a working installation is recognised and left alone. Environment:
# CUDA_HOME, CXX, MAX_JOBS, TORCH_CUDA_ARCH_LIST.
set -euo pipefail

package=spatial-correlation-sampler
version=0.5.0
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() { echo "install_sampler: $*" >&2; exit 2; }

# Runs the installed sampler on numbers worked out by hand, on the GPU too where one is visible, and
# prints the versions. A failure of any kind, even a crash, means it is not usable with this torch.
check() {
    "$python" - "$version" <<'EOF'
import importlib.metadata
import sys

import torch  # before the sampler, whose extension takes its symbols from torch's libraries
from spatial_correlation_sampler import spatial_correlation_sample

found = importlib.metadata.version("spatial-correlation-sampler")
if found != sys.argv[1]:
    sys.exit(f"it is version {found}, not {sys.argv[1]}")
a = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
b = torch.tensor([[[[5.0, 6.0], [7.0, 8.0]]]])
devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
for device in devices:
    # out[0, 1 + dy, 1 + dx, y, x] = a[y, x] * b[y + dy, x + dx], zero outside b
    out = spatial_correlation_sample(a.to(device), b.to(device), patch_size=3).cpu()
    right, down = out[0, 1, 2].tolist(), out[0, 2, 1].tolist()
    if out.shape != (1, 3, 3, 2, 2) or right != [[6, 0], [24, 0]] or down != [[7, 16], [0, 0]]:
        sys.exit(f"wrong values on {device}: shape {tuple(out.shape)}, right {right}, down {down}")
print(f"spatial-correlation-sampler {found} works with torch {torch.__version__} on {' and '.join(devices)}")
EOF
} 2>"$tmp/check.err"

default=$root/.venv/bin/python
[[ -x $default ]] || default=python3
python=$(command -v -- "${1:-$default}") && "$python" -c '' 2>/dev/null ||
    die "no working Python at '${1:-$default}': give the path of one, as in 'install_sampler.sh .venv/bin/python'"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

if line=$(check); then
    echo "already installed: $line"
    exit 0
fi

# What the build needs, each said in one line where it is missing.
torch=$("$python" -c 'import torch; print(torch.__version__, torch.version.cuda)' 2>"$tmp/torch.err") ||
    die "torch cannot be imported by $python ($(tail -n 1 "$tmp/torch.err")): install it there first"
read -r torch torch_cuda <<<"$torch"
[[ $torch_cuda != None ]] ||
    die "torch $torch in $python has no CUDA, which the sampler's sources need: install a CUDA build of torch (no GPU needed), or go without this optional package"
"$python" -m pip --version >/dev/null 2>&1 || die "$python has no pip: run '$python -m ensurepip' first"

if [[ -n ${CUDA_HOME:-} ]]; then
    [[ -x $CUDA_HOME/bin/nvcc ]] || die "CUDA_HOME=$CUDA_HOME has no bin/nvcc: point it at a CUDA ${torch_cuda%%.*}.x toolkit, or unset it"
else
    # nvcc on PATH may be a link or a script outside its toolkit, so it is asked where that is.
    CUDA_HOME=$(nvcc --dryrun -x cu /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p') || true
    CUDA_HOME=${CUDA_HOME:-/usr/local/cuda}
    [[ -x $CUDA_HOME/bin/nvcc ]] || die "no CUDA toolkit (CUDA_HOME, nvcc on PATH, /usr/local/cuda): install CUDA ${torch_cuda%%.*}.x and set CUDA_HOME to it"
fi
CUDA_HOME=$(realpath "$CUDA_HOME")
cuda=$("$CUDA_HOME/bin/nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p') || true
[[ ${cuda%%.*} == "${torch_cuda%%.*}" ]] ||
    die "the toolkit at $CUDA_HOME is CUDA ${cuda:-unknown} but torch $torch is built for CUDA $torch_cuda: set CUDA_HOME to a CUDA ${torch_cuda%%.*}.x toolkit"
cxx=$(command -v -- "${CXX:-c++}") || die "no C++ compiler '${CXX:-c++}': install g++, or set CXX to a compiler's path"

# The sdist forces -std=c++17 on the C++ compiler and torch's headers need C++20; for nvcc torch
# chooses the standard itself. torch tells GCC and Clang apart by name, so the wrapper keeps it.
wrapper=$tmp/$(basename "$cxx")
printf '#!%s\nexec %q "${@/#-std=c++17/-std=c++20}"\n' "$BASH" "$cxx" >"$wrapper"
chmod +x "$wrapper"
export CUDA_HOME CXX=$wrapper MAX_JOBS=${MAX_JOBS:-$(nproc)}
PATH=$("$python" -c 'import sysconfig; print(sysconfig.get_path("scripts"))'):$PATH  # torch looks for ninja on PATH
# With a GPU visible torch builds for it. Without, it must be told: 8.0 runs on every 8.x, and
# the PTX of 9.0 on whatever comes later.
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null ||
    export TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST:-8.0;9.0+PTX}"

log=$(mktemp --tmpdir install_sampler.XXXXXX)
echo "building $package $version against torch $torch with CUDA $cuda (some minutes), log in $log"
failed() { { grep -m 5 'error: ' "$log" || true; tail -n 30 "$log"; } >&2; die "$1; the whole log is in $log"; }
"$python" -m pip install setuptools wheel ninja >"$log" 2>&1 || failed "the build tools could not be installed"
# --no-deps: torch stays as it is. --no-cache-dir: a cached wheel may belong to another torch.
"$python" -m pip install --no-build-isolation --no-deps --no-cache-dir --force-reinstall \
    --no-binary "$package" "$package==$version" >>"$log" 2>&1 || failed "the build failed"
line=$(check) || failed "it was built but does not work ($(tail -n 1 "$tmp/check.err"))"
rm -f "$log"
echo "installed: $line"
