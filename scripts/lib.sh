# What the scripts share. To be sourced by bash, from the top of the checkout.
# shellcheck shell=bash

# The compiler of the committed BPF objects: another one makes other code. Both
# names are bpf2go's variables, and Debian's names of the packages' programs.
export BPF2GO_CC=clang-14 BPF2GO_STRIP=llvm-strip-14 BPF_OBJCOPY=llvm-objcopy-14

# say MESSAGE... tells what comes next, in bold on a terminal.
say() {
	if [ -t 1 ]; then
		printf '\033[1m%s\033[0m\n' "$*"
	else
		printf '%s\n' "$*"
	fi
}

warn() { printf '%s\n' "$*" >&2; }

# fail MESSAGE... ends the script.
fail() {
	warn "$0: $*"
	exit 1
}

is_root() { [ "$(id -u)" = 0 ]; }

# have COMMAND... tells whether all of them are in PATH.
have() {
	local command
	for command in "$@"; do
		command -v "$command" >/dev/null 2>&1 || return 1
	done
}

# install_packages PACKAGE... installs Debian or Ubuntu packages.
install_packages() {
	have apt-get || fail "this is no Debian or Ubuntu: install by hand what the packages $* have there"
	is_root || fail "these packages are missing: $*. Run this as root, or install them"
	say "installing $*"
	export DEBIAN_FRONTEND=noninteractive
	# The lists may be missing or old: refresh them only if need be.
	apt-get install --yes --no-install-recommends --quiet=2 "$@" >/dev/null 2>&1 && return
	apt-get update --quiet=2 || fail "apt-get update failed: is the network up?"
	apt-get install --yes --no-install-recommends --quiet=2 "$@" >/dev/null ||
		fail "installing $* failed"
}
