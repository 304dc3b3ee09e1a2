#!/usr/bin/env bash
# fetch_onnxruntime.sh OUT [PYTHON]: what building against ONNX Runtime takes, without installing anything.
#
# OUT/include: the headers of Debian 13's package libonnxruntime-dev (85 KB), from the mirror that apt uses here.
# OUT/lib, if PYTHON is given: links to the library inside the package onnxruntime of that Python.
# Headers that are there stay; those of a system that has the package installed are taken from there. Nothing else that is
# in OUT is touched.
set -euo pipefail

out=$(realpath -m "$1") python=${2-} suite=trixie
fail() {
    echo "$1" >&2
    exit 1
}

scratch=
part=$out/include.$$.part # headers appear under their name when they are complete
trap 'rm -rf "$part" ${scratch:+"$scratch"}' EXIT

unpack_package() {
    local mirror key=/usr/share/keyrings/debian-archive-keyring.gpg options
    # The mirror of this system's own release.
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2> /dev/null |
        awk '$1 == "Debian" && $2 == "main" && $3 !~ /security/ { print $3; exit }') || true
    [ -n "$mirror" ] || fail "No mirror of Debian is known here, from which to take the headers; put ONNX Runtime's into $out/include."
    scratch=$(mktemp -d)
    chmod 755 "$scratch"
    mkdir -p "$scratch"/lists/partial "$scratch"/cache/archives/partial
    [ -e "$key" ] || key= # then apt's own keys count
    echo "deb ${key:+[signed-by=$key]} $mirror $suite main" > "$scratch/sources.list"
    options=(-qq -o Dir::Etc::sourcelist="$scratch/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::State::lists="$scratch/lists" -o Dir::Cache="$scratch/cache" -o Acquire::Languages=none -o Acquire::Retries=1 -o Acquire::http::Timeout=20)
    apt-get "${options[@]}" update
    (cd "$scratch" && apt-get "${options[@]}" -o APT::Sandbox::User="$(id -un)" download libonnxruntime-dev)
    dpkg-deb -x "$scratch"/libonnxruntime-dev_*.deb "$scratch/tree"
    mkdir -p "$out"
    cp -r "$scratch/tree/usr/include/onnxruntime" "$part"
}

if [ ! -e "$out/include/onnxruntime_cxx_api.h" ]; then
    [ ! -e "$out/include" ] || fail "$out/include is there and has no headers of ONNX Runtime; give another folder than $out."
    if [ -e /usr/include/onnxruntime/onnxruntime_cxx_api.h ]; then
        mkdir -p "$out" && cp -r /usr/include/onnxruntime "$part"
    else
        unpack_package
    fi
    mv -T "$part" "$out/include" || [ -e "$out/include/onnxruntime_cxx_api.h" ] # another run was faster
fi
if [ -n "$python" ]; then
    library=$("$python" -c 'import glob, importlib.util as u, os
print(glob.glob(os.path.join(os.path.dirname(u.find_spec("onnxruntime").origin), "capi", "libonnxruntime.so.*"))[0])') ||
        fail "$python has no package onnxruntime with a library; install it with: pip install onnxruntime."
    mkdir -p "$out/lib"
    ln -sfn "$library" "$out/lib/libonnxruntime.so"
    ln -sfn "$library" "$out/lib/libonnxruntime.so.1" # the name that programs look for
fi
