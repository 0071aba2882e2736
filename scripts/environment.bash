# Sourced by the other scripts: finds Python, makes virtual environments, installs Debian packages where it may.
# Nothing here asks. Says on stderr what it does.

export PIP_DISABLE_PIP_VERSION_CHECK=1

say() { printf '%s\n' "$*" >&2; }

# Print the newest Python that will do; ends 6 where there is none.
find_python() {
    local name
    for name in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    say "vhdtool needs Python 3.11 or newer. Found: $(python3 --version 2>/dev/null || echo none)."
    say "On Debian 12 and Ubuntu 24.04: apt-get install python3 python3-venv"
    exit 6
}

# How a package can be installed: prints nothing, "sudo -n" or "direct"; fails where it can't be.
apt_rights() {
    [ -z "${VHDTOOL_NO_APT:-}" ] || return 1
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" -eq 0 ]; then
        echo direct
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        echo sudo
    else
        return 1
    fi
}

# Print those of the named Debian packages that are not installed.
apt_missing() {
    local name
    command -v dpkg-query >/dev/null 2>&1 || return 0
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || printf '%s\n' "$name"
    done
}

# Install the named packages, those that this distribution knows. Fails when it may not or can't.
apt_install() {
    local rights known name prefix=()
    rights=$(apt_rights) || return 1
    [ "$rights" = direct ] || prefix=(sudo -n)
    say "Installing: $*"
    "${prefix[@]}" apt-get -qq update >&2 || return 1
    known=()
    for name in "$@"; do
        if apt-cache show "$name" >/dev/null 2>&1; then known+=("$name"); else say "This distribution has no $name."; fi
    done
    [ ${#known[@]} -gt 0 ] || return 1
    "${prefix[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install -y --no-install-recommends "${known[@]}" >&2
}

# make_venv PYTHON FOLDER: a virtual environment with pip. Ends 6 where there is no way to one.
make_venv() {
    local python=$1 folder=$2 version
    if [ -x "$folder/bin/python" ] && "$folder/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' \
        2>/dev/null; then
        return
    fi
    rm -rf "$folder"
    say "Making $folder with $python"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        if ! apt_install "python$version-venv" && ! "$python" -c 'import virtualenv' 2>/dev/null; then
            say "$python can make no virtual environment. As root: apt-get install python$version-venv"
            exit 6
        fi
    fi
    "$python" -m venv "$folder" 2>/dev/null || "$python" -m virtualenv -q "$folder" || {
        say "$python could not make $folder."
        exit 6
    }
}

# install_into FOLDER KEY PIP-ARGUMENTS...: once for each state of pyproject.toml, KEY and these arguments.
install_into() {
    local folder=$1 stamp
    stamp=$({ cat pyproject.toml && "$folder/bin/python" --version && printf '%s\n' "${@:2}"; } | sha256sum)
    if [ "$(cat "$folder/installed" 2>/dev/null)" != "$stamp" ]; then
        say "Installing into $folder: ${*:3}"
        "$folder/bin/python" -m pip install -q "${@:3}" || {
            say "pip could not install what is needed (see above)."
            exit 6
        }
        printf '%s' "$stamp" >"$folder/installed"
    fi
}
