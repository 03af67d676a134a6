#!/bin/bash
# What Scripts/demo and Scripts/test share; sourced by them.

# The repository.
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

export LC_ALL=C.UTF-8
# The repository may belong to another user than the one who builds it, as in containers of CI.
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'

say() { printf '==> %s\n' "$*"; }

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
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
        fail "these Debian packages are missing and there is no apt-get: install what they hold: ${missing[*]}"
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

# Refuses without Swift 6.3 or later, and gives it a home for its caches.
require_swift() {
    command -v swift >/dev/null ||
        fail "Swift is missing: install Swift 6.3 or later from https://www.swift.org/install/linux and put it on the PATH"
    local version
    version=$(swift --version 2>/dev/null | grep -oE 'Swift version [0-9]+\.[0-9]+' | grep -oE '[0-9.]+$') ||
        fail "'swift --version' does not work: check the installation of $(command -v swift)"
    [ "$(printf '6.3\n%s\n' "$version" | sort -V | head -n 1)" = 6.3 ] ||
        fail "Swift $version is too old: install Swift 6.3 or later from https://www.swift.org/install/linux"
    if [ ! -w "${HOME:-}" ]; then
        export HOME=$root/.build/home
        mkdir -p "$HOME"
    fi
}

# Builds the products in release mode, each only if it is not up to date.
build_products() {
    local product
    for product; do
        swift build --package-path "$root" -c release --product "$product" >&2 ||
            fail "$product could not be built; the compiler's words are above"
    done
}
