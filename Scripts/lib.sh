#!/bin/bash
# What Scripts/demo and Scripts/test share; sourced by them.

# The repository.
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

export LC_ALL=C.UTF-8

say() { printf '==> %s\n' "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Runs a command as the servers and the demo's agent run: under root, as a user without rights.
as_nobody() {
    if [ "$(id -u)" = 0 ]; then
        # setpriv itself still may enter everything; env, which it starts, may not.
        setpriv --reuid=nobody --regid=nogroup --clear-groups env "$@"
    else
        "$@"
    fi
}

# Makes a temporary directory that the servers reach and that is short enough for sockets, and says its name.
make_scratch() {
    local parent=${TMPDIR:-/tmp}
    if [ ${#parent} -gt 40 ] || ! as_nobody test -x "$parent"; then parent=/tmp; fi
    local scratch
    scratch=$(mktemp -d "$parent/cloudrmm.XXXXXX")
    chmod 711 "$scratch"
    echo "$scratch"
}

# Installs those of the packages that are missing; the one step that needs root.
install_packages() {
    local package missing=() as_root=()
    for package; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
            missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    local command="apt-get install -y --no-install-recommends ${missing[*]}"
    command -v apt-get >/dev/null ||
        fail "there is no apt-get; install what these packages of Debian hold: ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || fail "packages are missing; as root, run: $command"
        as_root=(sudo)
    fi
    say "Installing ${missing[*]}" >&2
    # Old lists may do; if not, the installation says so.
    "${as_root[@]}" apt-get update -q </dev/null >&2 || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${missing[@]}" </dev/null >&2 ||
        fail "the packages could not be installed; as root, run: $command"
}

# Makes a virtual environment with what a file of requirements names, unless it is there, and says its Python.
python_with() {
    local requirements=$1 venv
    venv=$root/.build/python/$(basename "$requirements" .txt)
    if ! cmp -s "$requirements" "$venv/requirements.txt"; then
        say "Installing what ${requirements#"$root"/} names" >&2
        rm -rf "$venv"
        python3 -m venv "$venv" >&2 ||
            fail "python3 -m venv failed; as root, run: apt-get install python3-venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --requirement "$requirements" >&2 || fail "pip could not install it; its words are above"
        cp "$requirements" "$venv/requirements.txt"
    fi
    echo "$venv/bin/python"
}

# Refuses without Swift 6.3 or later, and gives it a home for its caches if there is none.
require_swift() {
    local version where="https://www.swift.org/install/linux"
    command -v swift >/dev/null ||
        fail "Swift is missing: install Swift 6.3 or later from $where and put it on the PATH"
    version=$(swift --version 2>/dev/null | grep -oE 'Swift version [0-9]+\.[0-9]+' | grep -oE '[0-9.]+$') ||
        fail "'swift --version' does not work: check the installation of $(command -v swift)"
    [ "$(printf '6.3\n%s\n' "$version" | sort -V | head -n 1)" = 6.3 ] ||
        fail "Swift $version is too old: install Swift 6.3 or later from $where"
    mkdir -p "$root/.build" || fail "$root cannot be written to: clone the repository as $(id -un)"
    if [ ! -w "${HOME:-}" ]; then
        export HOME=$root/.build/home
        mkdir -p "$HOME"
    fi
    # The repository or a mirror of its packages may belong to another user, as in containers; git refuses
    # such a place unless a file says that it is meant.
    local settings=${GIT_CONFIG_GLOBAL:-$HOME/.gitconfig}
    export GIT_CONFIG_GLOBAL=$root/.build/gitconfig
    [ "$settings" = "$GIT_CONFIG_GLOBAL" ] ||
        printf '[include]\n\tpath = "%s"\n[safe]\n\tdirectory = *\n' "$settings" >"$GIT_CONFIG_GLOBAL"
}

# Builds the products in release mode, each only if it is not up to date.
build_products() {
    local product
    for product; do
        swift build --package-path "$root" -c release --product "$product" >&2 ||
            fail "$product could not be built; the compiler's words are above"
    done
}
